/* SPDX-License-Identifier: MIT */
/*
 * A function tracer: callbacks at the entries of kernel functions, switched at run
 * time. After the Linux kernel's ftrace, of which Lutomirski, LKML 2019-04-29 [L3], and
 * Torvalds, LKML 2019-05-06 [L4], write; built on text_poke_bp_batch() alone.
 *
 * A traceable function begins with 5 bytes of nop. That entry is one of
 *
 *	nop			no ops have wanted it yet
 *	call stub n		only the ops in slot n want it
 *	call stub of the list	several do: each whose filter matches is called
 *	test $imm32,%eax	no ops want it any more; the immediate is the displacement of
 *				the stub that it called last
 *
 * and changes from one to another while it runs. A call that comes by meanwhile gets
 * the effect of the old or of the new instruction, never that of a nop in between: so
 * ops that both want get the call (the subject of [L3]: "not to skip fops
 * invocation"). From a call to its test and back one byte changes: a flip, without a trap. (A test
 * changes the flags, which mean nothing at the entry of a C function.)
 */
#ifndef KERNEL_FTRACE_H
#define KERNEL_FTRACE_H

#define FTRACE_INSN_SIZE   5
#define FTRACE_MAX_OPS     8 /* slots, each with a stub of its own (ftrace_stubs.S) */
#define FTRACE_MAX_ENTRIES 256
#define FTRACE_STUB_SIZE   128
#define CPU_IN_STUB        64 /* the offset of in_stub in struct cpu (smp.h) */

#ifndef __ASSEMBLER__
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "smp.h"

/*
 * Make the function @f traceable, and known by its name. To stand between its
 * declaration and its definition. Not for what runs below the guard: the entries of
 * interrupts, the trap path, the port, and the tracer itself.
 */
#define FTRACE_FUNCTION(f)                                \
	__typeof__(f) f __ftrace_function;                \
	static const struct ftrace_name __ftrace_name_##f \
		__attribute__((used, section(".ftrace_names"), aligned(8))) = {#f, (uintptr_t)(f)}

/* Every call is to be a call, of this function: the compiler must not see through it. */
#ifdef __clang__
#define __ftrace_function __attribute__((noinline, patchable_function_entry(FTRACE_INSN_SIZE)))
#else
#define __ftrace_function __attribute__((noipa, patchable_function_entry(FTRACE_INSN_SIZE)))
#endif

struct ftrace_name {
	const char *name;
	uintptr_t ip;
};

/* What the stubs save: the registers that a C function may change. */
struct ftrace_regs {
	uint64_t unused, r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax;
	uint64_t return_ip; /* behind the entry's call */
	uint64_t parent_ip; /* where the traced function returns to */
};

#define FTRACE_WORDS (FTRACE_MAX_ENTRIES / 64)

/* A set of entries, by their number. */
struct ftrace_set {
	_Atomic uint64_t word[FTRACE_WORDS];
};

/*
 * Who wants to be called, for what. @func is the owner's to fill in, the rest is zero
 * at first.
 *
 * @func runs in the context of the call, NMIs included. Traceable functions that it
 * calls itself are not traced. An interrupt handler that runs on top of it is: it is a
 * context of its own (cpu_context_begin(), cpus.h).
 */
struct ftrace_ops {
	void (*func)(uintptr_t ip, uintptr_t parent_ip, struct ftrace_ops *ops,
		     struct ftrace_regs *regs);
	struct ftrace_set filter; /* what it wants when registered */
	struct ftrace_set active; /* what it wants now */
	unsigned slot;            /* + 1; 0: not registered */
};

/*
 * The following change who is called. When they return 0, every call that starts
 * afterwards is traced by the new state; a call while they run, by the old or the new.
 * On an error nothing has changed. Ordinary context with interrupts on; from within a
 * callback they return -EDEADLK.
 */

/* -EBUSY: registered already; -ENOMEM: no slot is free. */
int ftrace_register(struct ftrace_ops *ops);

/* Behind it no @func of @ops is running, on any CPU. -EINVAL: not registered. */
int ftrace_unregister(struct ftrace_ops *ops);

/* Trace the functions whose names match @glob (* and ?), or those at the @n addresses, alone. */
int ftrace_set_filter(struct ftrace_ops *ops, const char *glob);
int ftrace_set_filter_ips(struct ftrace_ops *ops, const uintptr_t *ips, size_t n);

/* At boot, before other CPUs run: find the entries, make each one instruction. */
void ftrace_init(void);
/* How many there are, and whether the function at @ip has one. */
size_t ftrace_nr_entries(void);
bool ftrace_has_entry(uintptr_t ip);
/* The stub of the list, which calls each ops whose filter matches. */
uintptr_t ftrace_list_stub(void);

/* What tests may leave out, as a negative control. Set while nothing is registered. */
struct ftrace_test {
	bool no_guard; /* trace what a callback calls */
	bool no_wait;  /* unregister without waiting for callbacks that run */
	bool nops;     /* off is a nop, and so on and off no flip */
};
extern struct ftrace_test ftrace_test;

#endif
#endif
