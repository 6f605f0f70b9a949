/* SPDX-License-Identifier: MIT */
/*
 * The recorder's way into function tracing, between libshunt and libshunt-trace alone (its symbols
 * have the version SHUNT_PRIVATE): what an fgraph_ops is without all that a recorder does not
 * need. No activation records are kept, no vector registers are saved, nobody waits for hooks that
 * run, and signal handlers that run on top of a hook are traced as all else.
 *
 * Which return belongs to which entry is told by @sp alone: the address of the word that holds the
 * function's return address. (Of functions compiled with -finstrument-functions it is the stack
 * pointer at their calls, which several that are compiled into one have in common: there
 * entries with the same sp are nested, and returns come with their function. Where the call at the
 * end is a jump, its sp is the address of the word that holds the return address: above all
 * that the function's own entry was told with.)
 */
#ifndef SHUNT_CORE_FTRACE_RAW_H
#define SHUNT_CORE_FTRACE_RAW_H

#include <shunt/ftrace.h>
#include <stdbool.h>
#include <stdint.h>

enum shunt_raw_how {
	SHUNT_RAW_ENTRY,     /* its return will be told, unless it ends otherwise */
	SHUNT_RAW_TAIL,      /* as above; the function that was entered with the same sp before has
			      * ended by a tail call to this one, and its return is not told */
	SHUNT_RAW_NO_RETURN, /* its return will not be told */
};

/*
 * Both hooks and all that they call are compiled with SHUNT_GENERAL_REGS, without a stack
 * protector and instrumentation; they are async-signal-safe, call nothing that can be traced, and
 * they and all that they use stay for as long as the process does: a hook that runs when its ops
 * is unregistered goes on.
 *
 * @ip: the instruction that was poked, of entries. Of returns 0. But of both, in functions compiled
 * with -finstrument-functions: their start, for there are as many as they were compiled into
 * others.
 */
struct shunt_raw_ops {
	void (*entry)(uintptr_t ip, uintptr_t sp, enum shunt_raw_how how);
	void (*ret)(uintptr_t ip, uintptr_t sp); /* NULL: entries alone */
	/*
	 * Both hooks change no more than rax, rcx, rdx, rsi, rdi and the flags, which is all that
	 * their stubs save then.
	 */
	bool is_sparing;
	struct ftrace_ops ops; /* for ftrace_set_filter(); func is not used */
};

/*
 * As register_ftrace_graph(). One at a time: -EBUSY. Behind the unregister no hook begins; one that
 * runs is not waited for.
 */
SHUNT_API int shunt_raw_register(struct shunt_raw_ops *raw) __SHUNT_CHECKED;
SHUNT_API int shunt_raw_unregister(struct shunt_raw_ops *raw);

/* Entries without a return for want of a slot or memory, since the process began. */
SHUNT_API uint64_t shunt_returns_missed(void);

/*
 * A module that is unloaded while there are hooks: its file, where it was, and its entries, which
 * stay until @fn returns. The dynamic linker's lock is held, and others: it must not wait, nor call
 * anything that does. NULL: nobody is told.
 */
struct shunt_entries;
struct shunt_gone_module {
	const char *path; /* never freed; NULL: not known */
	uintptr_t start, end;
	const struct shunt_entries *set; /* core/ftrace.h */
	const uint8_t *build_id;
	size_t build_id_len; /* at most 32; 0: none */
};
SHUNT_API void shunt_raw_on_unload(void (*fn)(const struct shunt_gone_module *module));

/* The signal that each thread must let in where the core sync is made by signals; 0: none yet. */
SHUNT_API int shunt_sync_signal_number(void);

#endif
