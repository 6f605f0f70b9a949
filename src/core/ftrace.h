/* SPDX-License-Identifier: MIT */
/*
 * Function tracing, what is common to all platforms (ftrace.c): ops and their filters, which
 * entry calls which stub, one batch for all changes. The port finds the entries and hands them
 * over (shunt_entries_add()), has the stubs and knows who runs in them (the second half).
 */
#ifndef SHUNT_CORE_FTRACE_H
#define SHUNT_CORE_FTRACE_H

#include <shunt/ftrace.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/site.h"

/* How the instruction at an entry stands in its function: which stub it can call. */
enum shunt_entry_form {
	SHUNT_FORM_HEAD,        /* the function's first instruction (endbr64 aside) */
	SHUNT_FORM_CALL,        /* an ordinary call with the function in the first argument */
	SHUNT_FORM_RETURN,      /* in the place of a ret */
	SHUNT_FORM_TAIL,        /* before the jmp of a tail call; flags are live */
	SHUNT_FORM_CALL_RETURN, /* an ordinary call at the end, with the function as above */
	/*
	 * The same as a tail call: jmp, or jmp *slot(%rip). It becomes a jmp to a stub that returns
	 * where the handler would; its instruction pointer is not known there, but the function.
	 */
	SHUNT_FORM_JUMP_RETURN,
};

/* What must be done to the bytes, once, before they can be a call. */
enum shunt_entry_prepare {
	SHUNT_READY, /* one instruction of @len bytes, or a jmp or ret and bytes never reached */
	SHUNT_SINGLE_NOPS, /* @len nops of one byte each, between which a thread may stand */
	SHUNT_XRAY_HEAD,   /* jmp +9 over 9 bytes: those behind the call are to be a nop first */
	SHUNT_LONG_NOP,    /* one nop of 7 to 15 bytes; @len is 5 */
};

/* One instruction that can be a call. */
struct shunt_entry {
	uintptr_t ip;
	uintptr_t func;  /* the function's start */
	uint32_t name;   /* the port's own: of the symbol */
	uint8_t form;    /* enum shunt_entry_form */
	uint8_t prepare; /* enum shunt_entry_prepare */
	uint8_t len;     /* 5 or 6; SHUNT_FORM_RETURN: 6, with the byte behind the ret's five */
	uint8_t kind;    /* enum shunt_entry_kind */
	uint8_t old[8];  /* the @len bytes that stand there when it is handed over */
	uint32_t index;  /* the core's own: number of the entry in ops' sets */
	uint32_t state;  /* the core's own: what stands there now, 0: @old */
	uint32_t next;   /* the core's own: @state behind the change that is going on */
	int32_t to;      /* the core's own: where the stub or veneer in it is, from ip; 0: none */
	const char *why; /* it could not be changed when that was wanted last: the reason */
};

/* The entries of a module, sorted by ip. The port's; it stays where it is until it is removed. */
struct shunt_entries {
	struct shunt_entries *next; /* the core's own */
	struct shunt_entry *entries;
	size_t n;
	const char *module; /* the file name without its folder, for "module:glob" */
	/*
	 * Where shunt_entry.name leads to: the function's symbols, its aliases too, one behind the
	 * other, each with its NUL, and "" behind the last. At 0: "".
	 */
	const char *names;
};

/*
 * The port has found @set, or it is about to go away: its entries are then off, and nothing of it
 * is looked at any more. Ftrace lock held. Add: 0 or -ENOMEM, or where ops that are registered want
 * some of them and the poke failed, its error: they are known all the same, and off. Remove
 * cannot fail: text that cannot be written is said to go away.
 */
int shunt_entries_add(struct shunt_entries *set);
void shunt_entries_remove(struct shunt_entries *set);

/* How many ops are called for @entry now: none where it was left out; and the sets (->next), for a
 * walk. Ftrace lock held. */
size_t shunt_entry_nr_ops(const struct shunt_entry *entry);
struct shunt_entries *shunt_entries_first(void);

/* Why @entry cannot be changed now, which is off; NULL: it can. Ftrace lock held. */
const char *shunt_entry_why(const struct shunt_entry *entry);

/* The entry at @ip, or NULL. In a callback, or with the ftrace lock held. */
const struct shunt_entry *shunt_entry_find(uintptr_t ip);

/*
 * An ops of the library's own: its func is called at the exits (SHUNT_FORM_RETURN, TAIL,
 * CALL_RETURN) of the functions that it traces as well, which shunt_regs_form() (arch.h) tells; and
 * may change regs->parent_ip, which is the word that the function returns by.
 */
#define SHUNT_FTRACE_EXITS (1ul << 24)

/*
 * Entries that this one alone traces call stubs of its own (SHUNT_STUB_RAW); its func is called
 * where there are others.
 */
#define SHUNT_FTRACE_RAW (1ul << 25)

/*
 * Of ops at whose returns something is called besides their func (fgraph.c): how that begins and
 * ends with them. Ftrace lock held.
 */
struct shunt_ops_returns {
	/*
	 * Before the first entry is told; @again: an end is taken back, and all is as before it. 0,
	 * or an error, which it has reported; with @again 0.
	 */
	int (*begin)(struct ftrace_ops *ops, bool again);
	/* Behind the last entry: behind the next core sync no call begins. */
	void (*end)(struct ftrace_ops *ops);
};

/* As register_ftrace_function(), of which the unregister is that of all ops. */
int shunt_ops_register(struct ftrace_ops *ops, const struct shunt_ops_returns *returns);
/* Asked by who has them, behind an unregister that has failed. */
bool shunt_ops_are_registered(const struct ftrace_ops *ops);
/* Whether any are. Ftrace lock held. */
bool shunt_any_ops_are_registered(void);

/* ---------------------------------------------------- what stubs call, and read */

/*
 * Which ops the stub of each slot calls. Stubs read @fast: the ops; 0: none; 1: @tracer's, if it
 * wants the entry that the call comes from.
 */
struct shunt_tracer;
struct shunt_ftrace_slot {
	_Atomic uintptr_t fast;
	struct shunt_tracer *_Atomic tracer;
};
extern struct shunt_ftrace_slot shunt_ftrace_slots[];

/* A stub that calls ops one after the other (ftrace_run.c); 64 bytes on its stack. */
struct shunt_cursor {
	unsigned long ip, parent; /* for the func */
	struct ftrace_regs *regs;
	const struct shunt_entry *entry;
	struct shunt_tracer *tracer; /* whose ops is being called */
	uintptr_t which;             /* the slot; or SHUNT_CURSOR_LIST, _LIST_FULL */
	uintptr_t guard[2];          /* the port's own */
};
enum { SHUNT_CURSOR_LIST, SHUNT_CURSOR_LIST_FULL };

/* The ops to call now, or NULL. The guard is set. Any context; no lock, no allocation. */
struct ftrace_ops *shunt_ftrace_first_ops(struct shunt_cursor *cursor);
struct ftrace_ops *shunt_ftrace_next_ops(struct shunt_cursor *cursor);

/* ----------------------------------------------------- what the port provides */

/*
 * The ftrace lock: one changes at a time. Outside of the update lock, and of no other lock that the
 * library waits for. -EDEADLK in a callback, and where the thread has it already; or what it
 * failed with, reported as a failure of @what for @ops.
 */
int shunt_port_trace_lock(const char *what, const struct ftrace_ops *ops);
void shunt_port_trace_unlock(void);

/*
 * First in what the program calls: its stack pointer was SHUNT_CALLED_AT. No callback that still
 * runs has its stub's frame below that, on this stack.
 */
void shunt_port_trace_called(uintptr_t sp);
#ifdef __clang__
#define SHUNT_CALLED_AT ((uintptr_t)__builtin_frame_address(0)) /* or just below it */
#else
#define SHUNT_CALLED_AT ((uintptr_t)__builtin_dwarf_cfa())
#endif

/*
 * Entries are wanted by @what for @ops: the port is to look for modules that it does not know, and
 * to hold the ftrace lock then. No lock held. 0; or what nothing can be traced for, reported, with
 * nothing changed, and no lock held.
 */
int shunt_port_entries_lock(const char *what, const struct ftrace_ops *ops);

/*
 * There is no entry. 0; or an error, and in @what why it cannot be known whether there are any, in
 * words. Ftrace lock held.
 */
int shunt_port_entries_unknown(const char **what);

/*
 * What is being called by a stub now has returned, on every thread. Ftrace lock held, a core sync
 * made since what it called was taken away. 0; -EDEADLK: one of them waits for this thread.
 */
int shunt_port_trace_wait(void) __SHUNT_CHECKED;

/*
 * The stub of slot @id - 1, or (SHUNT_STUB_LIST, SHUNT_STUB_LIST_FULL) of the lists, for entries of
 * @form. SHUNT_FORM_CALL has those of the first half of the slots, others than SHUNT_FORM_HEAD have
 * lists alone.
 */
enum {
	SHUNT_STUB_SLOTS = 128,
	SHUNT_STUB_LIST,
	SHUNT_STUB_LIST_FULL,
	SHUNT_STUB_RAW,
	/* and where no return address is to be replaced */
	SHUNT_STUB_RAW_ENTRY
};
uintptr_t shunt_port_trace_stub(unsigned form, unsigned id);

/*
 * Where SHUNT_HAS_ENTRY_STUBS (arch.h): the stub for the entry at @ip alone, within reach of it,
 * from which @stub learns where it is and goes on behind it. The same for the same; new ones must
 * be followed by a core sync before anything leads to them. Update lock held. 0: no memory within
 * reach.
 */
uintptr_t shunt_port_entry_stub(uintptr_t ip, uintptr_t stub);

/*
 * Why shunt_port_veneer() or shunt_port_entry_stub() has just returned 0: -ERANGE: nothing is free
 * within reach; or what failed: no memory at all (-ENOMEM), or what text could not be written for.
 */
int shunt_port_far_error(void);

/*
 * The @n entries at @ips (sorted) are one instruction of 5 bytes now, where there were five of
 * one byte: see to it that no thread stands, or will come to stand again, between these. Update
 * lock held. Returns 0 or an error.
 */
int shunt_port_leave_nops(const uintptr_t *ips, size_t n);

/* The core's: a copy of the process goes on where a change was made. Ftrace lock held. */
void shunt_ftrace_repair(void);

#endif
