/* SPDX-License-Identifier: MIT */
/*
 * The stubs of all slots (ftrace_stubs.S), at a function's head and at an ordinary call: each calls
 * its own ops, with its registers, and the parent also where the return address is a return stub;
 * all general registers come back. With ops in the slot that do not want the entry (a thread that
 * was on its way when they came) or with none it calls nothing. At each of its instructions an
 * unwinder finds the traced function and its caller above it. Ops that come and go take no slot
 * more each time.
 *
 * Controls: NEXT_STUB: that of the slot beside is called. NOT_ASKED: the ops of the slot are called
 * as if they wanted all. NO_RANGE: where the return stubs are is not known.
 */
#include <execinfo.h>
#include <signal.h>
#include <stdint.h>
#include <ucontext.h>

#include <shunt/inspect.h>

#include "arch/arch.h"
#include "entries.h"
#include "registers_x86_64.h"
#include "tap.h"

/* rax rcx rdx rsi rdi r8 r9 r10 r11 are loaded, @function is called, they are stored. */
struct state {
	uint64_t r[9];
};
enum { RSI = 3, RDI = 4 };
void call_with(const struct state *in, struct state *out, void (*function)(void));
extern const char after_call[];

/* One whose head is traced, one that calls a tracer; outer ones, which end in a jump to these. */
void head(void), caller(void), outer_head(void), outer_caller(void);
/* Calls *astray_stub from an entry that is not on. */
void astray(void);
extern const char at_caller[], at_outer_head[], at_outer_caller[], at_idle[], at_astray[];
uintptr_t astray_stub;

__asm__(".text\n" REGISTER_MACROS "func head\n"
	".cfi_startproc\n"
	"	.byte 0x0f, 0x1f, 0x44, 0, 0\n"
	"	ret\n"
	".cfi_endproc\n"
	"func caller\n"
	".cfi_startproc\n"
	"	leaq caller(%rip), %rdi\n"
	"	movq (%rsp), %rsi\n"
	"	subq $8, %rsp\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"at_caller: call returns_at_once\n"
	"	addq $8, %rsp\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	ret\n"
	".cfi_endproc\n"
	"func returns_at_once\n"
	"	ret\n"
	"func outer_head\n"
	"at_outer_head: .byte 0x0f, 0x1f, 0x44, 0, 0\n"
	"	jmp head\n"
	"func outer_caller\n"
	"at_outer_caller: .byte 0x0f, 0x1f, 0x44, 0, 0\n"
	"	jmp caller\n"
	"func idle\n"
	"at_idle: .byte 0x0f, 0x1f, 0x44, 0, 0\n"
	"	ret\n"
	"func astray\n"
	"	.byte 0xeb, 3\n" /* jmp +3 */
	"at_astray: .byte 0x0f, 0x1f, 0x00\n"
	"	call *%rbx\n" /* the return address is 5 behind the entry */
	"	ret\n"
	"func call_with\n"
	".cfi_startproc\n"
	"	save_registers\n"
	"	movq astray_stub(%rip), %rbx\n"
	"	movq %rsi, %rbp\n"
	"	movq %rdx, %r12\n"
	"	load_general %rdi\n"
	"	call *%r12\n"
	"after_call:\n"
	"	store_general\n"
	"	restore_registers\n"
	".cfi_endproc\n");

/* ------------------------------------------------------------------ what is called */

static struct {
	unsigned long ip, parent_ip;
	struct ftrace_ops *ops;
	unsigned calls, other_arguments;
} seen;

static struct state in;

SHUNT_GENERAL_REGS static void on_call(unsigned long ip, unsigned long parent_ip,
				       struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	static const unsigned index[] = {4, 3, 2, 1, 5, 6}; /* rdi rsi rdx rcx r8 r9 */

	seen.ip = ip;
	seen.parent_ip = parent_ip;
	seen.ops = ops;
	seen.calls++;
	for (unsigned i = 0; i < 6; i++)
		seen.other_arguments += ftrace_regs_get_argument(fregs, i) != in.r[index[i]];
	__asm__ volatile(".irp r, rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11\n"
			 "movq $-1, %%\\r\n"
			 ".endr\n"
			 "cmpq $0, %%rax\n"
			 :
			 :
			 : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "cc");
}

/* Whether all registers come back; @function sets rdi and rsi where it @calls. */
static bool is_kept(void (*function)(void), bool calls, unsigned expected)
{
	struct state out = {0};
	bool good = true;

	for (unsigned i = 0; i < 9; i++)
		in.r[i] = 0x1111111111111111ul * (i + 1);
	memset(&seen, 0, sizeof(seen));
	call_with(&in, &out, function);
	for (unsigned i = 0; i < 9; i++)
		good = good && (in.r[i] == out.r[i] || (calls && (i == RSI || i == RDI)));
	if (calls)
		good = good && out.r[RDI] == (uintptr_t)caller;
	return good && seen.calls == expected;
}

#define OPS SHUNT_STUB_SLOTS
static struct ftrace_ops all[OPS + 2];

/* Of the first half those that change no vector register, as the slots are. */
static bool register_all(const char *filter)
{
	bool good = true;

	for (unsigned i = 0; i < OPS && good; i++) {
		all[i].func = on_call;
		all[i].flags = i < OPS / 2 ? SHUNT_FTRACE_GENERAL_REGS : 0;
		good = !ftrace_set_filter(&all[i], filter, 0, 1) &&
		       !register_ftrace_function(&all[i]);
	}
	return good;
}

static bool begin(void)
{
	const struct {
		uintptr_t ip;
		enum shunt_entry_form form;
	} here[] = {{(uintptr_t)head, SHUNT_FORM_HEAD},
		    {(uintptr_t)at_caller, SHUNT_FORM_CALL},
		    {(uintptr_t)at_outer_head, SHUNT_FORM_HEAD},
		    {(uintptr_t)at_outer_caller, SHUNT_FORM_HEAD},
		    {(uintptr_t)at_idle, SHUNT_FORM_HEAD},
		    {(uintptr_t)at_astray, SHUNT_FORM_HEAD}};

	for (unsigned i = 0; i < sizeof(here) / sizeof(here[0]); i++)
		entries[set.n++].ip = here[i].ip;
	for (unsigned i = 0; i < set.n; i++) {
		fill_entry(&entries[i], entries[i].ip, i);
		entries[i].form = (uint8_t)here[i].form;
	}
	if (shunt_port_trace_lock("test", NULL))
		return false;
	if (shunt_entries_add(&set))
		return false;
	shunt_port_trace_unlock();
	return true;
}

/* f0: the head, f1: the call, f2, f3: the outer ones, f4: idle, f5: astray. */
__attribute__((unused)) static bool is_right(unsigned i, void (*function)(void), bool calls)
{
	uintptr_t ip = calls ? (uintptr_t)at_caller : (uintptr_t)head;

	return is_kept(function, calls, 1) && seen.ops == &all[i] && seen.ip == ip &&
	       seen.parent_ip == (uintptr_t)after_call && (calls || !seen.other_arguments) &&
	       shunt_ftrace_slots[i].fast == (uintptr_t)&all[i];
}

/* ------------------------------------------------------------------------ rows */

#if !defined(CONTROL) || defined(NEXT_STUB)
static bool each_slot(void)
{
	bool good = begin() && register_all("f4");

	for (unsigned i = 0; i < OPS && good; i++) {
		good = !ftrace_set_filter(&all[i], "f0", 0, 1) && is_right(i, head, false) &&
		       !ftrace_set_filter(&all[i], "f1", 0, 1) && is_right(i, caller, true) &&
		       !ftrace_set_filter(&all[i], "f4", 0, 1);
		if (!good)
			fprintf(stderr, "# slot %u: %u calls\n", i, seen.calls);
	}
	return good && is_kept(head, false, 0) && is_kept(caller, true, 0);
}
#endif

#if !defined(CONTROL) || defined(NO_RANGE)
static void on_return(struct ftrace_graph_ret *trace, struct fgraph_ops *gops,
		      struct ftrace_regs *fregs)
{
	(void)trace;
	(void)gops;
	(void)fregs;
}

static int on_entry(struct ftrace_graph_ent *trace, struct fgraph_ops *gops,
		    struct ftrace_regs *fregs)
{
	(void)trace;
	(void)gops;
	(void)fregs;
	return 1;
}

/* A return stub is where the outer functions return to, and so those that they jump to. */
static bool by_return_stub(void)
{
	static struct fgraph_ops graph = {.entryfunc = on_entry, .retfunc = on_return};
	bool good = begin() && register_all("f4") && !ftrace_set_filter(&graph.ops, "f2", 0, 1) &&
		    !ftrace_set_filter(&graph.ops, "f3", 0, 0) && !register_ftrace_graph(&graph);

#ifdef NO_RANGE
	shunt_return_range.stubs = 0x100000;
#endif
	for (unsigned i = 0; i < OPS && good; i += i < 2 || i > OPS - 3 ? 1 : OPS / 2 - 2)
		good = !ftrace_set_filter(&all[i], "f0", 0, 1) && is_right(i, outer_head, false) &&
		       !ftrace_set_filter(&all[i], "f1", 0, 1) && is_right(i, outer_caller, true) &&
		       !ftrace_set_filter(&all[i], "f4", 0, 1);
	return good;
}
#endif

#if !defined(CONTROL) || defined(NOT_ASKED)
/* Whether slot @i, called from an entry that its ops do not want, calls nothing. */
static bool calls_nothing(unsigned i)
{
	astray_stub = shunt_port_trace_stub(SHUNT_FORM_HEAD, i + 1);
	if (!is_kept(astray, false, 0))
		return false;
	astray_stub = shunt_port_trace_stub(SHUNT_FORM_CALL, i % (OPS / 2) + 1);
	return is_kept(astray, false, 0);
}

/* All slots were used for f4, and are taken by ops that want f0 alone. */
static bool other_ops(void)
{
	bool good = begin() && register_all("f4");

	for (unsigned i = 0; i < OPS && good; i++)
		good = !unregister_ftrace_function(&all[i]);
	good = good && register_all("f2");
	for (unsigned i = 0; i < OPS && good; i++) {
		good = shunt_ftrace_slots[i].fast == 1;
#ifdef NOT_ASKED
		shunt_ftrace_slots[i].fast = (uintptr_t)&all[i];
#endif
		good = good && calls_nothing(i) && !ftrace_set_filter(&all[i], "f0", 0, 1) &&
		       is_kept(head, false, 1) && !ftrace_set_filter(&all[i], "f1", 0, 1) &&
		       is_kept(caller, true, 1) && !ftrace_set_filter(&all[i], "f2", 0, 1);
	}
	for (unsigned i = 0; i < OPS && good; i++)
		good = !unregister_ftrace_function(&all[i]) && calls_nothing(i);
	/* and the guard is as it was */
	return good && register_all("f2") && !ftrace_set_filter(&all[5], "f0", 0, 1) &&
	       is_kept(head, false, 1);
}
#endif

#ifndef CONTROL
extern const char shunt_ftrace_stubs[], shunt_ftrace_stubs_end[];
static unsigned steps, lost;
static const char *stepped_through; /* where the stub returns to */

/* The interrupted instruction, the traced function, its caller: one behind the other. */
static void on_step(int sig, siginfo_t *info, void *context)
{
	const ucontext_t *uc = context;
	const char *ip = (const char *)uc->uc_mcontext.gregs[REG_RIP]; /* NOLINT */
	void *callers[24];
	int n, i = 0;

	(void)sig;
	(void)info;
	if (ip < shunt_ftrace_stubs || ip >= shunt_ftrace_stubs_end)
		return;
	steps++;
	n = backtrace(callers, 24);
	while (i < n && callers[i] != ip)
		i++;
	lost += i + 2 >= n || callers[i + 1] != stepped_through || callers[i + 2] != after_call;
}

/* Whether there are instructions, and from none of them the way is lost. */
enum { LEAST = 35 }; /* what a stub without a func executes */
static bool step(void (*function)(void), bool calls, unsigned expected)
{
	bool good;

	steps = lost = 0;
	stepped_through = (calls ? at_caller : (const char *)(uintptr_t)head) + 5;
	__asm__ volatile("leaq -128(%%rsp), %%rsp\n pushfq\n orl $0x100, (%%rsp)\n popfq\n"
			 "leaq 128(%%rsp), %%rsp\n" ::
				 : "memory", "cc");
	good = is_kept(function, calls, expected);
	__asm__ volatile("leaq -128(%%rsp), %%rsp\n pushfq\n andl $~0x100, (%%rsp)\n popfq\n"
			 "leaq 128(%%rsp), %%rsp\n" ::
				 : "memory", "cc");
	if (!good || lost || steps < LEAST)
		fprintf(stderr, "# %u calls, %u of %u steps lost\n", seen.calls, lost, steps);
	return good && !lost && steps >= LEAST;
}

/* In the first slot of each half, and the last: its ops, others that may not want it, none. */
static bool each_instruction(void)
{
	static const unsigned slots[] = {0, OPS / 2 - 1, OPS / 2, OPS - 1};
	struct sigaction action = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};
	void *callers[4];
	bool good = begin() && register_all("f4") && backtrace(callers, 4) > 0;

	for (unsigned k = 0; k < 8 && good; k++) {
		unsigned i = slots[k / 2], general = i < OPS / 2;
		void (*function)(void) = k % 2 ? caller : head;

		good = !ftrace_set_filter(&all[i], k % 2 ? "f1" : "f0", 0, 1) &&
		       !sigaction(SIGTRAP, &action, NULL) && step(function, k % 2, 1);
		shunt_ftrace_slots[i].fast = 1;
		good = good && step(function, k % 2, 1);
		shunt_ftrace_slots[i].fast = 0;
		good = good && step(function, k % 2, general || k % 2 == 0 ? 0 : 1);
		shunt_ftrace_slots[i].fast = (uintptr_t)&all[i];
		good = good && !ftrace_set_filter(&all[i], "f4", 0, 1);
	}
	return good;
}
#endif

#ifndef CONTROL
/* The slot that ops of their own, which come and go, have had; it need not ask them. -1: none. */
static int slot_of_others(const char *filter)
{
	struct ftrace_ops ops = {.func = on_call, .flags = SHUNT_FTRACE_GENERAL_REGS};
	int slot = -1;

	if (ftrace_set_filter(&ops, filter, 0, 1) || register_ftrace_function(&ops))
		return -1;
	for (int i = 0; i < SHUNT_STUB_SLOTS; i++)
		if (shunt_ftrace_slots[i].fast == (uintptr_t)&ops)
			slot = i;
	if (unregister_ftrace_function(&ops))
		return -1;
	ftrace_free_filter(&ops);
	return slot;
}

/*
 * What a slot was used for is remembered for good: no memory more for each session. Others that
 * want as much have the same slot, those that want less have another one.
 */
static bool come_and_go(void)
{
	bool good = begin();
	int first = slot_of_others("f0"), second = slot_of_others("f1"), both;

	for (unsigned i = 0; i < 2 * SHUNT_STUB_SLOTS && good; i++)
		good = slot_of_others("f0") == first && slot_of_others("f1") == second;
	both = slot_of_others("*");
	good = good && first >= 0 && second >= 0 && first != second && both == first &&
	       slot_of_others("f1") == second && slot_of_others("*") == first;
	second = slot_of_others("f0");
	return good && second >= 0 && second != first;
}
#endif

#ifdef NEXT_STUB
uintptr_t __real_shunt_port_trace_stub(unsigned form, unsigned id);
uintptr_t __wrap_shunt_port_trace_stub(unsigned form, unsigned id);
uintptr_t __wrap_shunt_port_trace_stub(unsigned form, unsigned id)
{
	return __real_shunt_port_trace_stub(form, id < SHUNT_STUB_SLOTS ? id + 1 : id);
}
#endif

int main(void)
{
#if !defined(CONTROL) || defined(NEXT_STUB)
	row_in_child(each_slot, "the stub of each slot calls its ops");
#endif
#if !defined(CONTROL) || defined(NO_RANGE)
	row_in_child(by_return_stub, "the parent of what was jumped to, behind a return stub");
#endif
#if !defined(CONTROL) || defined(NOT_ASKED)
	row_in_child(other_ops, "a slot with other ops, and with none");
#endif
#ifndef CONTROL
	row_in_child(come_and_go, "ops that come and go with the same entries have one slot");
	row_in_child(each_instruction, "callers at each instruction of a stub");
#endif
	return end_rows();
}
