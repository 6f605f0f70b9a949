/* SPDX-License-Identifier: MIT */
/*
 * Registers around a callback that changes all it may: those that are arguments (integers, vectors,
 * the x87 stack), and those that a caller keeps there because it knows what the function
 * changes (gcc's -fipa-ra). By the stub of one ops, and by the list's. What the callback sees: the
 * arguments, the stack pointer, and the true callers, in a backtrace with one frame more.
 *
 * Control: the callback says that it changes general registers only.
 */
#include <execinfo.h>
#include <math.h>
#include <stdint.h>

#include <shunt/inspect.h>

#include "entries.h"
#include "registers_x86_64.h"
#include "tap.h"

/*
 * struct state: 9 general registers, rax first; 16 vector registers of 32 bytes (where there are
 * such; else of 16); an x87 register; mxcsr. All are loaded, traced_empty() is called, all are
 * stored.
 */
struct state {
	uint64_t general[9];
	uint8_t vectors[16][32];
	long double x87;
};

void call_with(const struct state *in, struct state *out, uint64_t has_avx);
void traced_empty(void);
extern const char after_call[];

__asm__(".text\n" REGISTER_MACROS "func traced_empty\n"
	".cfi_startproc\n"
	"	.byte 0x0f, 0x1f, 0x44, 0, 0\n"
	"	ret\n"
	".cfi_endproc\n"
	".size traced_empty, . - traced_empty\n"
	".macro each_vector load, insn, wide, reg\n"
	".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
	".if \\load\n"
	"	\\insn 72 + 32 * \\n(%rbx), %\\wide\\n\n"
	".else\n"
	"	\\insn %\\wide\\n, 72 + 32 * \\n(%rbp)\n"
	".endif\n"
	".endr\n"
	".endm\n"
	"func call_with\n"
	".cfi_startproc\n"
	"	save_registers\n"
	"	movq %rdi, %rbx\n"
	"	movq %rsi, %rbp\n"
	"	movq %rdx, %r12\n"
	"	fldt 592(%rbx)\n"
	"	testq %r12, %r12\n"
	"	jz 1f\n"
	"	each_vector 1, vmovdqu, ymm\n"
	"	jmp 2f\n"
	"1:	each_vector 1, movdqu, xmm\n"
	"2:	load_general %rbx\n"
	"	call traced_empty\n"
	"after_call:\n"
	"	store_general\n"
	"	testq %r12, %r12\n"
	"	jz 1f\n"
	"	each_vector 0, vmovdqu, ymm\n"
	"	vzeroupper\n"
	"	jmp 2f\n"
	"1:	each_vector 0, movdqu, xmm\n"
	"2:	fstpt 592(%rbp)\n"
	"	restore_registers\n"
	".cfi_endproc\n"
	".size call_with, . - call_with\n");

_Static_assert(offsetof(struct state, vectors) == 72 && offsetof(struct state, x87) == 592,
	       "as the assembly has it");

static struct {
	unsigned long arguments[7], sp, ip, parent_ip, given_ip;
	int frames;
	void *callers[16];
} seen;

/* All that C may change is something else. */
static __attribute__((noinline)) void spoil_all(void)
{
	uint64_t ones[4] = {~0ul, ~0ul, ~0ul, ~0ul};

	__asm__ volatile("fninit\n"
			 ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
			 "movdqu (%0), %%xmm\\n\n"
			 ".endr\n"
			 :
			 : "r"(ones)
			 : "memory");
	if (__builtin_cpu_supports("avx"))
		__asm__ volatile(".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
				 "vmovdqu (%0), %%ymm\\n\n"
				 ".endr\n"
				 :
				 : "r"(ones)
				 : "memory");
	__asm__ volatile(".irp r, rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11\n"
			 "movq $-1, %%\\r\n"
			 ".endr\n"
			 "cmpq $0, %%rax\n"
			 :
			 :
			 : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "cc");
}

static void on_call(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
		    struct ftrace_regs *fregs)
{
	for (unsigned i = 0; i < 7; i++)
		seen.arguments[i] = ftrace_regs_get_argument(fregs, i);
	seen.sp = ftrace_regs_get_stack_pointer(fregs);
	seen.ip = ftrace_regs_get_instruction_pointer(fregs);
	seen.parent_ip = parent_ip;
	seen.given_ip = ip;
	seen.frames = backtrace(seen.callers, 16);
	spoil_all();
	(void)ops;
}

#ifdef CONTROL
#define FLAGS SHUNT_FTRACE_GENERAL_REGS
#else
#define FLAGS 0
#endif

static struct ftrace_ops one = {.func = on_call, .flags = FLAGS};
static struct ftrace_ops two = {.func = on_call, .flags = FLAGS};

static bool is_kept(void)
{
	static struct state in, out;
	bool has_avx = __builtin_cpu_supports("avx");
	size_t width = has_avx ? 32 : 16;
	bool good = true;

	for (unsigned i = 0; i < 9; i++)
		in.general[i] = 0x1111111111111111ul * (i + 1);
	for (unsigned i = 0; i < 16; i++)
		memset(in.vectors[i], (int)i + 1, width);
	in.x87 = 1.0L / 3;
	memset(&out, 0, sizeof(out));
	call_with(&in, &out, has_avx);
	for (unsigned i = 0; i < 9; i++)
		good = good && in.general[i] == out.general[i];
	for (unsigned i = 0; i < 16; i++)
		good = good && !memcmp(in.vectors[i], out.vectors[i], width);
	return good && in.x87 == out.x87;
}

static bool begin(bool both)
{
	static bool added;

	if (!added)
		entries[set.n++].ip = (uintptr_t)traced_empty;
	added = true;
	return !add_entries() && !ftrace_set_filter(&one, "f0", 0, 1) &&
	       !ftrace_set_filter(&two, "f0", 0, 1) && !register_ftrace_function(&one) &&
	       (!both || !register_ftrace_function(&two));
}

static bool by_one(void)
{
	return begin(false) && is_kept() && seen.sp && !unregister_ftrace_function(&one) &&
	       is_kept();
}

static bool by_list(void)
{
	return begin(true) && is_kept() && seen.sp && !unregister_ftrace_function(&one) &&
	       is_kept();
}

#ifndef CONTROL
static bool sees_arguments(void)
{
	static const unsigned index[] = {4, 3, 2, 1, 5, 6}; /* rdi rsi rdx rcx r8 r9 */
	bool good = begin(false) && is_kept();

	for (unsigned i = 0; i < 6; i++)
		good = good && seen.arguments[i] == 0x1111111111111111ul * (index[i] + 1);
	return good && !seen.arguments[6] && seen.ip == (unsigned long)traced_empty &&
	       seen.given_ip == seen.ip && seen.parent_ip == (unsigned long)after_call;
}

/* ... on_call, the stub, traced_empty, call_with, is_kept, ... */
static bool are_true_callers(void)
{
	for (int i = 2; i + 1 < seen.frames; i++)
		if (seen.callers[i] == (char *)traced_empty + 5)
			return seen.callers[i + 1] == (void *)after_call &&
			       (uintptr_t)seen.callers[i - 2] - (uintptr_t)on_call < 2048;
	return false;
}

static bool sees_callers(void)
{
	return begin(false) && is_kept() && are_true_callers() &&
	       !unregister_ftrace_function(&one) && begin(true) && is_kept() && are_true_callers();
}
#endif

int main(void)
{
	row_in_child(by_one, "registers around a callback, by its own stub");
	row_in_child(by_list, "by that of the list");
#ifndef CONTROL
	row_in_child(sees_arguments, "arguments and addresses in a callback");
	row_in_child(sees_callers, "callers in a callback's backtrace");
#endif
	return end_rows();
}
