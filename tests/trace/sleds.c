/* SPDX-License-Identifier: MIT */
/*
 * Functions that tell of their own exits, written out by hand as compilers write them: XRay's sleds
 * (entry, ret, tail call with live flags) and the calls of -finstrument-functions (nested ones
 * that are compiled into one, with the same stack pointer). Nothing on the stack is replaced; each
 * entry has its return; and the same with the recorder's hooks, whose stack pointers match.
 *
 * Controls (SHUNT_CONTROL): "flags": a tail call's flags come back as a callback may leave them;
 * "replaced": the return address of a function with sleds is replaced as well; "one_record" (by the
 * linker's --wrap): calls at one stack pointer have one record.
 */
#include <stdint.h>
#include <string.h>

#include "../api/tap.h"
#include "control.h"
#include "core/ftrace.h"
#include "core/ftrace_raw.h"
#include "linux/entry/activation.h"

DEFINE_CONTROL(changes_flags, "flags");
DEFINE_CONTROL(is_replaced, "replaced");
DEFINE_CONTROL(has_one_record, "one_record");

long xray_leaf(long n);
long xray_twice(long n);
long xray_tail(long n);
long instrumented(long n);

void profile_enter(void *func, void *site);
void profile_exit(void *func, void *site);
void profile_enter(void *func, void *site)
{
	(void)func;
	(void)site;
}
void profile_exit(void *func, void *site)
{
	(void)func;
	(void)site;
}

/* ip, function, form, kind, len, prepare: struct row. */
#define ROW(func, form, kind, len, prepare)                                                     \
	"	.pushsection .data.rel.rows, \"aw\"\n	.quad 1b, " #func ", " #form ", " #kind \
	", " #len ", " #prepare "\n	.popsection\n"
#define HEAD(func) "1:	.byte 0xeb, 0x09\n	.fill 9, 1, 0x90\n" ROW(func, 0, 3, 5, 2)
#define TAIL(func) "1:	.byte 0xeb, 0x09\n	.fill 9, 1, 0x90\n" ROW(func, 3, 3, 5, 2)
#define RET(func)  "1:	ret\n	.fill 10, 1, 0x90\n" ROW(func, 2, 3, 6, 0)
#define ENTER(func)                                                 \
	"	leaq " #func "(%rip), %rdi\n	movq 32(%rsp), %rsi\n" \
	"1:	call profile_enter\n" ROW(func, 1, 4, 5, 0)
#define EXIT(func)                                                  \
	"	leaq " #func "(%rip), %rdi\n	movq 32(%rsp), %rsi\n" \
	"1:	call profile_exit\n" ROW(func, 4, 4, 5, 0)

__asm__(".pushsection .data.rel.rows, \"aw\"\n	.balign 8\n"
	".globl test_rows\ntest_rows:\n	.popsection\n"
	"	.text\n"
	"	.globl xray_leaf\n	.balign 16\nxray_leaf:\n" HEAD(
		xray_leaf) "	leaq 1(%rdi), %rax\n" RET(xray_leaf)
	/* calls the first twice: n + 2 */
	"	.globl xray_twice\n	.balign 16\nxray_twice:\n" HEAD(
		xray_twice) "	subq $8, %rsp\n	call xray_leaf\n	movq %rax, %rdi\n	"
			    "call xray_leaf\n"
			    "	addq $8, %rsp\n" RET(xray_twice)
	/* n < 10: a tail call by flags that are set before the sled; else 0 */
	"	.globl xray_tail\n	.balign 16\nxray_tail:\n" HEAD(
		xray_tail) "	cmpq $10, %rdi\n" TAIL(xray_tail) "	jl xray_twice\n	xorl %eax, "
								  "%eax\n" RET(xray_tail)
	/* with another two, of the same stack pointer, compiled into it; n + 3 */
	"	.globl instrumented\n	.balign 16\ninstrumented:\n"
	"	pushq %rbx\n	subq $16, %rsp\n	movq %rdi, %rbx\n" ENTER(instrumented)
		ENTER(inner1) "	incq %rbx\n" ENTER(inner2) "	incq %rbx\n" EXIT(inner2)
			EXIT(inner1) "	incq %rbx\n" EXIT(
				instrumented) "	movq %rbx, %rax\n	addq $16, %rsp\n	"
					      "popq %rbx\n	ret\n"
					      "inner1:	ret\ninner2:	ret\n"
					      ".pushsection .data.rel.rows, \"aw\"\n	.globl "
					      "test_rows_end\ntest_rows_end:\n	.popsection\n");

struct row {
	uintptr_t ip, func, form, kind, len, prepare;
};
extern const struct row test_rows[], test_rows_end[];

static struct shunt_entry list[32];
static struct shunt_entries set = {.entries = list, .module = "test", .names = "\0f\0"};

static int add_rows(void)
{
	int ret;

	for (const struct row *r = test_rows; r < test_rows_end; r++) {
		size_t at = set.n++;

		for (; at && list[at - 1].ip > r->ip; at--)
			list[at] = list[at - 1];
		list[at] = (struct shunt_entry){.ip = r->ip,
						.func = r->func,
						.name = 1,
						.form = (uint8_t)r->form,
						.kind = is_replaced ? SHUNT_ENTRY_PATCHABLE
								    : (uint8_t)r->kind,
						.len = (uint8_t)r->len,
						.prepare = (uint8_t)r->prepare};
		memcpy(list[at].old, (const void *)r->ip, r->len);
	}
	ret = shunt_port_trace_lock("test", NULL);
	if (ret)
		return ret;
	ret = shunt_entries_add(&set);
	shunt_port_trace_unlock();
	return ret;
}

/* ------------------------------------------------------------------ fgraph_ops */

static struct {
	unsigned long func;
	int depth;
	bool is_return;
} events[64];
static unsigned nr_events;

static void note(unsigned long func, int depth, bool is_return)
{
	if (nr_events >= 64)
		return;
	events[nr_events].func = func;
	events[nr_events].depth = depth;
	events[nr_events++].is_return = is_return;
}

static int on_entry(struct ftrace_graph_ent *trace, struct fgraph_ops *gops,
		    struct ftrace_regs *regs)
{
	(void)gops;
	(void)regs;
	note(trace->func, trace->depth, false);
	return 1;
}

static void on_return(struct ftrace_graph_ret *trace, struct fgraph_ops *gops,
		      struct ftrace_regs *regs)
{
	(void)gops;
	/* They stand below the registers (ftrace_save.inc). */
	if (changes_flags && shunt_regs_form(regs) == SHUNT_FORM_TAIL)
		((uint64_t *)regs)[-1] = 2;
	note(trace->func, trace->depth, true);
}

/* Each return closes the last entry that is open, at its depth; all are closed. */
static bool is_tree(unsigned calls)
{
	unsigned open[64], n = 0;

	for (unsigned i = 0; i < nr_events; i++) {
		diag("%*s%s %lx", 2 * events[i].depth, "", events[i].is_return ? "}" : "{",
		     events[i].func);
		if (!events[i].is_return) {
			if (events[i].depth != (int)n)
				return false;
			open[n++] = i;
		} else if (!n || events[open[n - 1]].func != events[i].func ||
			   events[i].depth != (int)--n) {
			return false;
		}
	}
	return !n && nr_events == 2 * calls;
}

static bool all(long (*function)(long), long argument, long result, unsigned calls)
{
	nr_events = 0;
	return function(argument) == result && is_tree(calls);
}

bool __real_shunt_activation_begin(struct shunt_activation *a, struct shunt_activation *parent,
				   uintptr_t func, uintptr_t sp, bool calls);
bool __wrap_shunt_activation_begin(struct shunt_activation *a, struct shunt_activation *parent,
				   uintptr_t func, uintptr_t sp, bool calls);
SHUNT_GENERAL_REGS bool __wrap_shunt_activation_begin(struct shunt_activation *a,
						      struct shunt_activation *parent,
						      uintptr_t func, uintptr_t sp, bool calls)
{
	if (calls && has_one_record)
		a->mask = 0;
	return __real_shunt_activation_begin(a, parent, func, sp, calls);
}

static void graph(void)
{
	static struct fgraph_ops ops = {.entryfunc = on_entry, .retfunc = on_return};

	if (!ok(!register_ftrace_graph(&ops), "an fgraph_ops"))
		return;
	for (int round = 0; round < 2; round++) {
		ok(all(xray_leaf, 1, 2, 1) && all(xray_twice, 1, 3, 3), "XRay: entry and ret");
		ok(all(xray_tail, 5, 7, 4), "and a tail call by live flags");
		ok(all(xray_tail, 20, 0, 1), "and one that is not taken, behind its sled");
		ok(all(instrumented, 1, 4, 3), "-finstrument-functions, nested at one address");
	}
	ok(!unregister_ftrace_graph(&ops), "unregistered");
	nr_events = 0;
	ok(xray_tail(5) == 7 && instrumented(1) == 4 && !nr_events, "and told no more");
}

/* -------------------------------------------------------------- the raw mode */

SHUNT_GENERAL_REGS static void raw_entry(uintptr_t ip, uintptr_t sp, enum shunt_raw_how how)
{
	if (nr_events >= 64)
		return;
	events[nr_events].func = sp;
	events[nr_events].depth = how == SHUNT_RAW_ENTRY && ip;
	events[nr_events++].is_return = false;
}

/* Those say which they are. */
SHUNT_GENERAL_REGS static bool is_instrumented(uintptr_t func)
{
	for (const struct row *r = test_rows; r < test_rows_end; r++)
		if (r->func == func && r->form == SHUNT_FORM_CALL_RETURN)
			return true;
	return false;
}

SHUNT_GENERAL_REGS static void raw_return(uintptr_t ip, uintptr_t sp)
{
	if (nr_events >= 64)
		return;
	events[nr_events].func = sp;
	events[nr_events].depth = !ip || is_instrumented(ip);
	events[nr_events++].is_return = true;
}

/* Returns close the last open entry with their stack pointer. */
static bool is_raw_tree(unsigned calls)
{
	unsigned open[64], n = 0;

	for (unsigned i = 0; i < nr_events; i++) {
		if (!events[i].depth)
			return false;
		if (!events[i].is_return)
			open[n++] = i;
		else if (!n || events[open[--n]].func != events[i].func)
			return false;
	}
	return !n && nr_events == 2 * calls;
}

static bool all_raw(long (*function)(long), long argument, long result, unsigned calls)
{
	nr_events = 0;
	return function(argument) == result && is_raw_tree(calls);
}

static void raw(void)
{
	static struct shunt_raw_ops ops = {.entry = raw_entry, .ret = raw_return};

	if (!ok(!shunt_raw_register(&ops), "the recorder's hooks"))
		return;
	ok(all_raw(xray_twice, 1, 3, 3) && all_raw(xray_tail, 5, 7, 4) &&
		   all_raw(instrumented, 1, 4, 3),
	   "are told of the same");
	ok(!shunt_raw_unregister(&ops), "and unregistered");
	nr_events = 0;
	ok(xray_tail(5) == 7 && !nr_events, "are told no more");
}

int main(void)
{
	ok(!add_rows(), "entries");
	graph();
	raw();
	return tap_done();
}
