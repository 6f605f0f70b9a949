/* SPDX-License-Identifier: MIT */
/*
 * Function tracing in the kernel: callbacks at the entries of its functions, switched at run time.
 * Who is called is what <shunt/ftrace.h> says: register_ftrace_function(), ftrace_set_filter();
 * what is done with that is the core's (src/core/ftrace.c), the same objects as in a process. Here
 * is what the core asks of a platform for it (core/ftrace.h): entries, stubs, a lock, and waiting
 * for callbacks.
 *
 * After the Linux kernel's ftrace, of which Lutomirski, LKML 2019-04-29 [L3], and Torvalds, LKML
 * 2019-05-06 [L4], write: "not to skip fops invocation".
 *
 * Callbacks run in the context of the call, NMIs included. Traceable functions that one calls
 * itself are not traced. An interrupt handler that runs on top of it is: it is a context of its own
 * (cpu_context_begin(), cpus.h).
 */
#ifndef KERNEL_FTRACE_H
#define KERNEL_FTRACE_H

#include "arch/x86_64/ftrace_regs.h"

#define FTRACE_MAX_ENTRIES 256
#define FTRACE_STUB_SIZE   32 /* of a slot (ftrace_stubs.S); that of the list is behind the last */
#define CPU_IN_STUB        64 /* the offset of in_stub in struct cpu (cpus.h) */

#ifndef __ASSEMBLER__
#include <shunt/ftrace.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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

/* Ops of the kernel: no code here changes a vector register. */
#define FTRACE_OPS(function)                                           \
	{                                                              \
		.func = (function), .flags = SHUNT_FTRACE_GENERAL_REGS \
	}

/* At boot, before other CPUs run: find the entries, make each one instruction. */
void ftrace_init(void);
/* How many there are, and whether the function at @ip has one. */
size_t ftrace_nr_entries(void);
bool ftrace_has_entry(uintptr_t ip);
/* The stub of the slot @slot; FTRACE_SLOTS: of the list, which calls each ops that wants the entry.
 */
uintptr_t ftrace_stub(size_t slot);

/* What tests may leave out, as a negative control. Set while nothing is registered. */
struct ftrace_test {
	bool no_guard; /* trace what a callback calls */
	bool no_wait;  /* unregister without waiting for callbacks that run */
};
extern struct ftrace_test ftrace_test;

#endif
#endif
