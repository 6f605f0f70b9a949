/* SPDX-License-Identifier: MIT */
/*
 * Returns: what the stubs call (return_entry.S, raw_stubs.S), and read.
 */
#ifndef SHUNT_LINUX_FGRAPH_H
#define SHUNT_LINUX_FGRAPH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/ftrace.h"
#include "core/ftrace_raw.h"

struct ftrace_regs;

/* Who wants to be told of returns by stubs: nobody, the raw hook alone, or others (too). */
enum { SHUNT_WANTS_RAW = 1, SHUNT_WANTS_GRAPH = 2 };
extern _Atomic uint8_t shunt_returns_wanted;

/*
 * What stubs call: the hooks, where they are sparing; else shunt_raw_saving_*, which save the other
 * registers and call the hooks, in shunt_raw_hook_*. And, for what they are told of an entry whose
 * return is not on the stack, how.
 */
typedef void shunt_raw_entry_fn(uintptr_t ip, uintptr_t sp, enum shunt_raw_how how);
typedef void shunt_raw_return_fn(uintptr_t ip, uintptr_t sp);
extern shunt_raw_entry_fn *_Atomic shunt_raw_entry, *_Atomic shunt_raw_hook_entry;
extern shunt_raw_return_fn *_Atomic shunt_raw_return, *_Atomic shunt_raw_hook_return;
extern _Atomic uint32_t shunt_raw_how;

/* raw_stubs.S */
shunt_raw_entry_fn shunt_raw_saving_entry;
shunt_raw_return_fn shunt_raw_saving_return;

/* A function has returned to a stub. @guard: the stack pointer at this call (context.h). */
void shunt_graph_returned(struct ftrace_regs *regs, uintptr_t guard);

/* Return stubs are going to be used: tell those who must see through them. */
void shunt_returns_begin(uint8_t wanted);

/*
 * Make the function return by a stub that has its return address in *@word, if it does not
 * yet. False: it cannot, and that is counted.
 */
bool shunt_replace_return(uintptr_t *word);

/*
 * Of the entry of a function that returns by a stub, whether another function has ended by a tail
 * call to it. That is known by a stub being there before any of the entry's ops has put one there:
 * to be asked first.
 */
bool shunt_is_tail_call(struct ftrace_regs *regs);

/* raw_stubs.S: both for a function whose return address is *@word. enum shunt_raw_how. */
uint32_t shunt_raw_replace(uintptr_t *word);

/* saving.S: @func(@trace, @gops, @regs), with the vector registers saved around it. */
void shunt_call_saving_vectors(trace_func_graph_ret_t func, struct ftrace_graph_ret *trace,
			       struct fgraph_ops *gops, struct ftrace_regs *regs);

#endif
