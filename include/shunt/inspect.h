/* SPDX-License-Identifier: MIT */
/*
 * Looking at Shunt from inside the program: its keys, their sites and why some of
 * them are on the trampoline, counters, and messages.
 *
 * All functions may be called from any thread, and none from a signal handler
 * except shunt_get_stats().
 */
#ifndef SHUNT_INSPECT_H
#define SHUNT_INSPECT_H

#include <stddef.h>
#include <stdint.h>

#include <shunt/module.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Totals since the start of the process, over all keys. Each only grows. */
struct shunt_stats {
	uint64_t updates;       /* changes of text that went through, start-up's included */
	uint64_t traps;         /* int3 taken at sites, late ones included */
	uint64_t late_traps;    /* of these: handled after the poke was over, and retried */
	uint64_t foreign_traps; /* SIGTRAPs that were not Shunt's, and were passed on */
	uint64_t writes;        /* single writes to text */
	uint64_t bytes_written; /* bytes in them */
	uint64_t syncs;         /* core syncs */
};

void SHUNT_API shunt_get_stats(struct shunt_stats *stats);

/* How this process writes text, synchronises cores and pokes: constant strings. */
struct shunt_ways {
	const char *write;  /* "/proc/self/mem", "mprotect"; "none" before the first write */
	const char *sync;   /* the last core sync: "membarrier", "signals", "iret" (one thread: a
			       serialising instruction; on aarch64 "isb"); "none" before the first */
	const char *poke;   /* the last batch: "int3", "remap", "atomic", "alone" (one thread: plain
			       writes), "flip" (one byte of each site: what is switched on or off,
			       under each policy; on aarch64 one word of each site, for every
			       change); "none" before the first */
	const char *policy; /* "auto", "int3", "remap", "atomic" */
	const char *why;    /* what failed in the way that the last batch would have gone
			       first, or why it was not known to be alone; NULL: neither */
};

void SHUNT_API shunt_get_ways(struct shunt_ways *ways);

/*
 * How sites are poked while threads run in them: shunt(7) says what each guarantees. On aarch64,
 * where nothing traps, all go by single words ("flip"), and this is what follows where that fails.
 */
enum shunt_poke_policy {
	SHUNT_POKE_AUTO,   /* REMAP, else INT3; in a process with one thread, plain writes */
	SHUNT_POKE_INT3,   /* int3 over the sites; threads that run into one trap (SIGTRAP) */
	SHUNT_POKE_REMAP,  /* changed copies of pages take the place of the old ones: no traps */
	SHUNT_POKE_ATOMIC, /* one store for each site in an aligned word; INT3 for the others */
};

/*
 * Set the policy for all updates from now on. The environment variable SHUNT_POKE
 * ("auto", "int3", "remap", "atomic") sets the first one. Returns 0, or -EINVAL.
 * On x86-64 INT3 and ATOMIC install the handler of SIGTRAP at once. Any thread; async-signal-safe,
 * but for these two in a libshunt that is in a plugin: it is kept loaded from then on.
 */
SHUNT_API int shunt_set_poke(enum shunt_poke_policy policy) __SHUNT_CHECKED;

enum shunt_key_type {
	SHUNT_KEY_CALL,   /* a static call */
	SHUNT_KEY_BRANCH, /* a static key */
};

/* One key. Its strings, but for @module, stay until the function that gets it returns. */
struct shunt_key_info {
	const char *name;
	enum shunt_key_type type;
	int count;                   /* a static key's; 0: off */
	void *target;                /* NULL, STATIC_CALL_RET0, or the current function */
	const char *target_function; /* its symbol, or NULL where none is known */
	size_t sites;                /* known sites, over all modules */
	size_t inline_sites;         /* of these: direct calls now */
	const char *module;          /* file name of the module that defines it */
	const char *why;             /* why sites are not known; NULL: they are */
	unsigned takes;              /* of a static call, besides functions: SHUNT_KEY_TAKES_* */
};

/* Bits. */
enum shunt_key_takes {
	SHUNT_KEY_TAKES_NULL = 1, /* it is nullable */
	SHUNT_KEY_TAKES_RET0 = 2, /* it was defined with DEFINE_STATIC_CALL_RET0() */
	SHUNT_KEY_IS_INITIAL = 4, /* it calls what it was defined with */
};

enum shunt_site_state {
	SHUNT_SITE_INLINE,      /* a call that reaches the target directly */
	SHUNT_SITE_TAIL,        /* a tail call (jmp; aarch64: b) that does */
	SHUNT_SITE_CONDITIONAL, /* a conditional tail call (jcc, on x86-64 alone) that does */
	SHUNT_SITE_TRAMPOLINE,  /* goes through the trampoline; see why */
	SHUNT_SITE_FAR,         /* a call that reaches the target through a veneer; see why */
	SHUNT_SITE_NOP_OR_JMP,  /* a static branch */
};

/* One site. */
struct shunt_site_info {
	const char *key;
	void *addr;           /* of its first byte */
	size_t len;           /* of the instruction: 2, 5 or 6; on aarch64 4 */
	const char *function; /* the function that it is in, or NULL */
	size_t offset;        /* bytes from the start of that function */
	const char *module;
	enum shunt_site_state state;
	const char *why; /* why it is far, or on the trampoline; NULL where it is not */
};

/* "inline", "tail", "conditional", "trampoline", "far", "branch". */
SHUNT_API const char *shunt_site_state_name(enum shunt_site_state state);

/*
 * Call @fn for each key, or each site of the key named @key (NULL: of all keys).
 * What @fn is given is a snapshot; it may update keys. Anything but 0 from @fn
 * ends the walk and is returned. It must return: the snapshot is not freed where it is left by
 * longjmp() or an exception.
 *
 * Returns 0, what @fn returned, -ENOMEM (or what memory is refused with), or -EDEADLK from
 * within an update.
 */
SHUNT_API int shunt_for_each_key(int (*fn)(const struct shunt_key_info *info, void *arg),
				 void *arg);
SHUNT_API int shunt_for_each_site(const char *key,
				  int (*fn)(const struct shunt_site_info *info, void *arg),
				  void *arg);

/*
 * The message of the calling thread's last failure: which key, site, step and
 * system call. "" where nothing has failed. Overwritten by the thread's next one.
 */
SHUNT_API const char *shunt_last_error(void);

/*
 * Poke for real, sites of the library's own: a call, a tail call, on x86-64 a conditional one, and
 * a static branch, which by int3 are run while their int3 stand. A
 * program started with SHUNT_SELFTEST=1 does this first of all, and says how it went.
 *
 * Returns 0; -EIO where a site did not do what it should, or did not trap; or what the
 * poke failed with. The calling thread must not block SIGTRAP.
 */
SHUNT_API int shunt_selftest(void) __SHUNT_CHECKED;

/*
 * Have messages (failed updates, modules that fall back to trampolines) passed to
 * @fn; NULL: dropped. By default they go to standard error, as one line each;
 * the environment variable SHUNT_LOG=0 drops them. @fn is called without any lock
 * held, on the thread that the message concerns. The first function that is set is also given, at
 * once, the first eight messages that came before. Memory is kept for each pair of @fn and @arg,
 * once; where there is none, nothing changes. Thread-safe; not for signal handlers.
 */
SHUNT_API void shunt_set_log(void (*fn)(const char *message, void *arg), void *arg);

#ifdef __cplusplus
}
#endif

#endif
