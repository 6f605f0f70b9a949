/* SPDX-License-Identifier: MIT */
/*
 * The port: everything that the core asks of a platform. A platform (a Linux
 * process in src/linux, a kernel in kernel/) defines these functions; the core
 * calls nothing else. After mimalloc's prim.h: one header, each primitive with
 * precondition, units, result and error.
 *
 * All results are 0 or a negative error number (Linux's values, core/error.h).
 *
 * Lock order: the lock of function tracing (core/ftrace.h), then the update lock (shunt_port_lock),
 * which comes last. No lock of the program's or of
 * the C library's is waited for with it held, and nothing is called that can call back into the
 * program (the dynamic linker, malloc, a message handler). The core sync may wait for other
 * threads or CPUs; what these run to answer takes no lock.
 */
#ifndef SHUNT_PORT_H
#define SHUNT_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct shunt_static_key;

/* ------------------------------------------------- what the port provides */

/*
 * One write of at most 7 bytes. Of a single byte that takes the place of one that must not have
 * changed since it was verified, bytes[2] is SHUNT_WRITE_OVER and bytes[1] that one; else what is
 * behind the bytes is 0.
 */
struct shunt_write {
	uint8_t *addr;
	uint8_t len;
	uint8_t bytes[7];
};

#define SHUNT_WRITE_OVER 1

/* Whether only *old is to be written over. */
static inline bool shunt_write_is_over(const struct shunt_write *w, uint8_t *old)
{
	*old = w->bytes[1];
	return w->len == 1 && w->bytes[2] == SHUNT_WRITE_OVER;
}

/*
 * Whether the text that each of @n writes goes to, which are @stride bytes apart, can be read:
 * before the core looks at it. Precondition: the update lock is held. Returns 0 or an error.
 */
int shunt_port_text_check(const struct shunt_write *writes, size_t n, size_t stride);

/*
 * Write each of @n writes (sorted by address, disjoint) to live text.
 *
 * Precondition: the update lock is held; the bytes that stand there have been
 * verified. The port picks how to write; it may write neighbouring bytes again
 * with the values they have only where nobody else can be writing them.
 * A single byte becomes visible as old or new; nothing is promised about the
 * order or the atomicity of the others: the core sees to it that no CPU executes
 * bytes that are being changed. In a batch begun as SHUNT_WAY_ATOMIC a write within an
 * aligned word of 8 bytes is one store. Where others write to text, a debugger in a process, the
 * port leaves what is not as SHUNT_WRITE_OVER says, makes the other writes, and returns -EBUSY.
 *
 * Returns 0; or an error, and then any subset of the writes may have been done.
 */
int shunt_port_text_write(const struct shunt_write *writes, size_t n);

/*
 * Core sync: when this returns 0, every CPU that runs this text has executed a
 * serialising instruction after all writes that came before the call. A CPU that
 * is not running it now executes one before it does.
 *
 * Precondition: the update lock is held. Returns 0 or an error (then nothing is
 * known about any CPU).
 */
int shunt_port_core_sync(void);

/* How a batch is poked. A platform offers what it has; where the CPU has an int3, INT3 does. */
enum shunt_way {
	SHUNT_WAY_INT3,   /* int3, tails, first bytes: threads trap meanwhile */
	SHUNT_WAY_REMAP,  /* changed copies of the pages take the place of the old ones */
	SHUNT_WAY_ATOMIC, /* one store where it lies in an aligned word; else INT3 */
	SHUNT_WAY_ALONE,  /* nobody else runs this text: each site by one write */
	SHUNT_WAY_FLIP,   /* one byte changes at each site, its first: by that write alone. On a CPU
			   * without an int3: any change of the site's one word */
};

/*
 * Make ready for a batch of @n sites and pick the way it is poked. Called with the
 * update lock held, before each batch's first write. @tried has a bit (1 << way) for
 * each way in which this batch has failed already. @flips: nothing but the first byte changes at
 * each site, so that SHUNT_WAY_FLIP will do too.
 *
 * With SHUNT_PUT_BACK in @tried the batch has failed, or was left by its thread, and nothing is
 * done but to put the old bytes back: a way may be offered that is never taken forward.
 *
 * Returns one of enum shunt_way, or an error: -ENOSYS where there is none, or none is left; any
 * other where one is left that may not be taken now, and that is what the update fails with.
 */
#define SHUNT_PUT_BACK (1u << 31)
int shunt_port_poke_begin(size_t n, bool flips, unsigned tried);

/*
 * The batch is over, one way or the other: undo what begin did for its length. Called
 * once for each successful begin, with the update lock still held.
 */
void shunt_port_poke_end(void);

/*
 * See to it that a #BP in this address space comes to shunt_trap() before anyone else
 * gets it. Called in a batch, before its first int3. Returns 0 or an error.
 */
int shunt_port_install_handler(void);

/*
 * SHUNT_WAY_REMAP: make @n writes (sorted by address, disjoint) visible by replacing the
 * pages that they are in: a thread runs an old page or a new one, and a site that
 * crosses pages is replaced whole. @writes are @stride bytes apart. Other sites of such a batch,
 * of which one byte changes, are written by shunt_port_text_write().
 *
 * No core sync is implied. Returns 0; or an error, and then any subset of the writes
 * may have been done, each of them whole. A platform that never offers the way
 * returns -SHUNT_ENOSYS.
 */
int shunt_port_text_remap(const struct shunt_write *writes, size_t n, size_t stride);

/*
 * The update lock: one updater at a time. Returns 0, or -EDEADLK where this
 * thread (or this CPU, in an interrupt) holds it already; never waits for itself.
 */
int shunt_port_lock(void);
void shunt_port_unlock(void);

/*
 * @size bytes, zeroed, aligned to 16; NULL where there are none. Called with and
 * without the update lock held, so it must not go through anything that may call back.
 */
void *shunt_port_alloc(size_t size);
void shunt_port_free(void *p, size_t size);

/*
 * The error of the last shunt_port_alloc() of this thread that has returned NULL: -ENOMEM, or what
 * the platform refuses memory with. A port need not have it: -ENOMEM then.
 */
int shunt_port_no_memory(void);

/*
 * A stub within reach of a rel32 at @near (the address of a site) that jumps to
 * @target and changes no register; 0 where there is none to be had. The same
 * answer for the same question; never withdrawn, because a thread can be in it at
 * any time. Called with the update lock held. A platform whose text lies within
 * 2 GiB returns 0.
 */
uintptr_t shunt_port_veneer(uintptr_t near, uintptr_t target);

/*
 * A key is about to point to @target: see to it that the key goes back to its
 * default when the code there is unloaded. Called without
 * the lock. May do nothing where code does not go away. Returns 0, or an error with which
 * the key is not to be changed: -EAGAIN where it is not possible now.
 */
int shunt_port_watch(uintptr_t target);

/*
 * An update is about to be made: sites that the port has put off finding (in a file
 * with a ready table) are to be handed to shunt_sites_add() now. Called with the
 * update lock held, for each update; cheap where there is nothing to do.
 */
void shunt_port_sites_wanted(void);

/*
 * Some of @key's sites are not known: the port has told the core so (shunt_static_key_set_flags())
 * for a static key. Returns the error for which an update is refused, and in @what why: which
 * module, what was wrong with it; or 0 where it is so no longer. Called with the update lock held.
 */
int shunt_port_sites_unknown(struct shunt_static_key *key, const char **what);

/*
 * Whether modules register here, so that the sites of a key whose module has not are not known. (In
 * ring 0 all are there from the start.) A port need not have it: false then. Any context.
 */
bool shunt_port_registers_modules(void);

/*
 * Not 0 where @key, a struct static_call_key or shunt_static_key, is of a module whose sites this
 * port knows; 0 also where another copy of the library in the process has it, whose lock is
 * another. A port need not have it: 1 then. Called with the update lock held, for each key of an
 * update.
 */
int shunt_port_is_own_key(const void *key);

/*
 * Sites of @key, a struct static_call_key, hold direct calls that were baked (shunt-bake(1)), and
 * none is known. Returns the error for which an update is refused where that is so for good, and in
 * @what why; 0 where they may become known yet. A port need not have it: 0 then. Called with the
 * update lock held.
 */
int shunt_port_baked_sites_lost(const void *key, const char **what);

/*
 * Not 0 where @func is the trampoline of a static call, also of another module, or leads to one
 * at once (a PLT entry). Called with the update lock held.
 */
int shunt_port_is_trampoline(uintptr_t func);

/*
 * Not 0 where a byte of [@addr, @addr + @len) is of the trampoline of a static call, of any
 * module that has registered. Called with the update lock held.
 */
int shunt_port_overlaps_trampoline(uintptr_t addr, size_t len);

/* What went wrong, where. Strings live as long as their module. */
struct shunt_report {
	int error;            /* negative error number */
	const char *what;     /* the step that failed, in words: "write int3" */
	const char *key;      /* name of the key, or NULL */
	const char *function; /* that is to be traced, or NULL */
	const void *ops;      /* that it is to be traced for: NULL: it is about a key */
	const void *site;     /* address of the site, or NULL */
	uint8_t found[8];     /* with @nfound: the bytes that were found at the site */
	uint8_t expected[8];
	uint8_t nbytes;  /* how many of them count, 0 to 8 */
	uint8_t refused; /* not 0: nothing was tried, so nothing that the port did has failed */
};

/*
 * Make @report known to the caller of the update that failed. The update lock is
 * not held. The port adds the system call that failed, which it knows itself: one since
 * the lock was taken last, and where @report->refused, or the error is -EDEADLK, none.
 */
void shunt_port_report(const struct shunt_report *report);

/* ----------------------------------------------- what the core gives back */

/* The registers that the core reads or changes in a trapped context. */
struct shunt_regs {
	uintptr_t ip;
	uintptr_t sp;
	uintptr_t flags; /* RFLAGS */
	uintptr_t ax;
};

enum shunt_trap {
	SHUNT_TRAP_FOREIGN,  /* not Shunt's: hand it to whoever is next; regs unchanged */
	SHUNT_TRAP_EMULATED, /* resume with @regs: the site's instruction has been executed */
	SHUNT_TRAP_LATE,     /* resume with @regs: the poke is over, execute the site again */
};

/*
 * The trap path: to be called for every #BP, as the first thing, with the
 * registers of the interrupted context (ip behind the int3). Takes no lock,
 * allocates nothing, writes no shared memory; the word below regs->sp is written
 * when a call is emulated, so the port must have made sure that it is free (in a
 * process the signal frame leaves the red zone alone; in ring 0 there is a gap).
 */
enum shunt_trap shunt_trap(struct shunt_regs *regs);

#endif
