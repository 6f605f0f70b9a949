/* SPDX-License-Identifier: MIT */
/*
 * Registers around callbacks that change all they may, on aarch64: x0 to x15, x18, and q0 to q31 as
 * they were, at the entry and at the return; by an ops, by two, by an fgraph_ops, by the recorder's
 * hooks. What a callback sees: the arguments, the stack pointer, and the true callers, in a
 * backtrace with one frame more. Functions that begin with a landing pad, and that sign their
 * return address.
 *
 * Control: the callbacks say that they change general registers only.
 */
#include <execinfo.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <shunt/ftrace.h>
#include <shunt/inspect.h>

#include "core/ftrace_raw.h"
#include "tap.h"

#define IN_TEST __attribute__((unused)) /* and not in its control */

/* x0 to x15, x18; q0 to q31. All are loaded, traced_empty() is called, all are stored. */
struct state {
	uint64_t general[18];
	uint8_t vectors[32][16];
};

void call_with(const struct state *in, struct state *out);
void traced_empty(void);
extern const char after_call[];

#define GENERAL(op)                                                            \
	"	" op " x2, x3, [x16, #16]\n	" op " x4, x5, [x16, #32]\n"   \
	"	" op " x6, x7, [x16, #48]\n	" op " x8, x9, [x16, #64]\n"   \
	"	" op " x10, x11, [x16, #80]\n	" op " x12, x13, [x16, #96]\n" \
	"	" op " x14, x15, [x16, #112]\n	" op " x0, x1, [x16]\n"

__asm__(".text\n"
	".balign 16\n"
	".globl traced_empty\n.type traced_empty, %function\n"
	"traced_empty:\n"
	".cfi_startproc\n"
	"	hint #34\n"
	"0:	nop\n"
	"	nop\n"
	"	hint #25\n" /* paciasp */
	"	.cfi_negate_ra_state\n"
	"	hint #29\n" /* autiasp */
	"	.cfi_negate_ra_state\n"
	"	ret\n"
	".cfi_endproc\n"
	".size traced_empty, . - traced_empty\n"
	".pushsection __patchable_function_entries, \"aw\", %progbits\n"
	"	.quad 0b\n"
	".popsection\n"
	".globl call_with\n.type call_with, %function\n"
	"call_with:\n"
	".cfi_startproc\n"
	"	stp x29, x30, [sp, #-96]!\n"
	"	.cfi_def_cfa_offset 96\n"
	"	.cfi_offset x29, -96\n"
	"	.cfi_offset x30, -88\n"
	"	str x19, [sp, #16]\n"
	"	stp d8, d9, [sp, #32]\n"
	"	stp d10, d11, [sp, #48]\n"
	"	stp d12, d13, [sp, #64]\n"
	"	stp d14, d15, [sp, #80]\n"
	"	.cfi_offset x19, -80\n"
	"	mov x19, x1\n"
	"	add x17, x0, #144\n"
	".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, "
	"23, 24, 25, 26, "
	"27, 28, 29, 30, 31\n"
	"	ldr q\\n, [x17, #16 * \\n]\n"
	".endr\n"
	"	mov x16, x0\n"
	"	ldr x18, [x16, #128]\n" GENERAL(
		"ldp") "	bl traced_empty\n"
		       ".globl after_call\n"
		       "after_call:\n"
		       "	mov x16, x19\n" GENERAL(
			       "stp") "	str x18, [x16, #128]\n"
				      "	add x17, x19, #144\n"
				      ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, "
				      "15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, "
				      "27, 28, 29, 30, 31\n"
				      "	str q\\n, [x17, #16 * \\n]\n"
				      ".endr\n"
				      "	ldr x19, [sp, #16]\n"
				      "	ldp d8, d9, [sp, #32]\n"
				      "	ldp d10, d11, [sp, #48]\n"
				      "	ldp d12, d13, [sp, #64]\n"
				      "	ldp d14, d15, [sp, #80]\n"
				      "	ldp x29, x30, [sp], #96\n"
				      "	.cfi_restore x19\n	.cfi_restore x29\n	"
				      ".cfi_restore x30\n"
				      "	.cfi_def_cfa_offset 0\n"
				      "	ret\n"
				      ".cfi_endproc\n"
				      ".size call_with, . - call_with\n");

static void spoil_general(void)
{
	__asm__ volatile(".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17\n"
			 "	mov x\\n, #-1\n"
			 ".endr\n"
			 :
			 :
			 : "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11",
			   "x12", "x13", "x14", "x15", "x16", "x17", "cc");
}

/* v8 to v15 in their upper halves alone: the lower are the callee's to keep, and the compiler's. */
static void spoil_vectors(void)
{
	__asm__ volatile(
		".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, "
		"28, 29, 30, 31\n"
		"	movi v\\n\\().16b, #255\n"
		".endr\n"
		".irp n, 8, 9, 10, 11, 12, 13, 14, 15\n"
		"	ins v\\n\\().d[1], xzr\n"
		".endr\n"
		:
		:
		: "memory");
}

static struct {
	unsigned long argument, last, sp, parent_ip;
	int frames;
	void *callers[16];
	unsigned long entries, returns;
} seen;

static void look(unsigned long parent_ip, struct ftrace_regs *regs)
{
	seen.argument = ftrace_regs_get_argument(regs, 0);
	seen.last = ftrace_regs_get_argument(regs, 7);
	seen.sp = ftrace_regs_get_stack_pointer(regs);
	seen.parent_ip = parent_ip;
	seen.frames = backtrace(seen.callers, 16);
	seen.entries++;
	spoil_vectors();
	spoil_general();
}

static void on_call(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
		    struct ftrace_regs *regs)
{
	(void)ip;
	(void)ops;
	look(parent_ip, regs);
}

static int on_entry(struct ftrace_graph_ent *trace, struct fgraph_ops *gops,
		    struct ftrace_regs *regs)
{
	(void)trace;
	(void)gops;
	look((unsigned long)after_call, regs);
	return 1;
}

static void on_return(struct ftrace_graph_ret *trace, struct fgraph_ops *gops,
		      struct ftrace_regs *regs)
{
	(void)trace;
	(void)gops;
	seen.argument = ftrace_regs_get_return_value(regs);
	seen.frames = backtrace(seen.callers, 16);
	seen.returns++;
	spoil_vectors();
	spoil_general();
}

IN_TEST SHUNT_GENERAL_REGS static void raw_entry(uintptr_t ip, uintptr_t sp, enum shunt_raw_how how)
{
	(void)ip;
	(void)sp;
	(void)how;
	seen.entries++;
	spoil_general();
}

IN_TEST SHUNT_GENERAL_REGS static void raw_return(uintptr_t ip, uintptr_t sp)
{
	(void)ip;
	(void)sp;
	seen.returns++;
	spoil_general();
}

static struct state in, out;

static bool are_kept(void)
{
	unsigned wrong = 0;

	memset(&out, 0, sizeof(out));
	call_with(&in, &out);
	for (unsigned i = 0; i < 17; i++)
		wrong += in.general[i] != out.general[i];
	wrong += memcmp(in.vectors, out.vectors, sizeof(in.vectors)) != 0;
	if (wrong)
		printf("# %u registers, or the vectors, have changed\n", wrong);
	return !wrong;
}

/* The function, its caller: one behind the other, below few frames of ours. */
IN_TEST static bool callers_are_true(void)
{
	for (int i = 0; i + 1 < seen.frames; i++) {
		uintptr_t at = (uintptr_t)seen.callers[i];

		if (at - (uintptr_t)traced_empty <= 24 && seen.callers[i + 1] == after_call)
			return i <= 5;
	}
	for (int i = 0; i < seen.frames; i++)
		printf("# %p\n", seen.callers[i]);
	return false;
}

IN_TEST static bool return_is_true(void)
{
	for (int i = 0; i < seen.frames; i++)
		if (seen.callers[i] == after_call)
			return true;
	for (int i = 0; i < seen.frames; i++)
		printf("# %p\n", seen.callers[i]);
	return false;
}

#ifdef CONTROL
#define FLAGS SHUNT_FTRACE_GENERAL_REGS
#else
#define FLAGS 0
#endif

static struct ftrace_ops one = {.func = on_call, .flags = FLAGS},
			 two = {.func = on_call, .flags = FLAGS};
static struct fgraph_ops graph = {
	.entryfunc = on_entry, .retfunc = on_return, .ops = {.flags = FLAGS}};

static bool filter(struct ftrace_ops *ops)
{
	return !ftrace_set_filter(ops, "traced_empty", 0, 1);
}

int main(void)
{
	void *warm[2];

	(void)backtrace(warm, 2); /* loads libgcc_s */
	for (unsigned i = 0; i < 17; i++)
		in.general[i] = 0x1111111111111111u * (i + 1);
	for (unsigned i = 0; i < sizeof(in.vectors); i++)
		in.vectors[i / 16][i % 16] = (uint8_t)(i * 7 + 1);
	row(filter(&one) && !register_ftrace_function(&one) && are_kept() && seen.entries == 1,
	    "by one ops");
#ifndef CONTROL
	row(seen.argument == in.general[0] && seen.last == in.general[7] &&
		    seen.parent_ip == (unsigned long)after_call,
	    "arguments, and the caller");
	row(callers_are_true(), "callers in a backtrace");
#endif
	row(filter(&two) && !register_ftrace_function(&two) && are_kept() && seen.entries == 3,
	    "by two");
	if (unregister_ftrace_function(&one) || unregister_ftrace_function(&two))
		return 1;
	row(filter(&graph.ops) && !register_ftrace_graph(&graph) && are_kept() && seen.returns == 1,
	    "by an fgraph_ops, at its entry and return");
#ifndef CONTROL
	row(seen.argument == in.general[0], "what is returned");
	row(return_is_true(), "callers in a retfunc's backtrace");
	if (unregister_ftrace_graph(&graph))
		return 1;
	static struct shunt_raw_ops raw = {.entry = raw_entry, .ret = raw_return};
	seen.entries = seen.returns = 0;
	row(filter(&raw.ops) && !shunt_raw_register(&raw) && are_kept() && seen.entries == 1 &&
		    seen.returns == 1,
	    "by the recorder's hooks");
	row(!shunt_raw_unregister(&raw) && are_kept() && seen.entries == 1, "and none");
#endif
	return end_rows();
}
