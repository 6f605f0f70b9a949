/* SPDX-License-Identifier: MIT */
/*
 * Functions that tell of their own exits, written out by hand as compilers write them: XRay's sleds
 * (entry, ret, tail call with live flags) and the calls of -finstrument-functions (nested ones
 * that are compiled into one, with the same stack pointer). Nothing on the stack is replaced; each
 * entry has its return; and the same with the recorder's hooks, whose stack pointers match, and
 * where text can be written no more in the middle of a change, at each step of it: calls are as
 * before or as behind, also where a breakpoint is left.
 *
 * Controls (SHUNT_CONTROL): "flags": a tail call's flags come back as a callback may leave them;
 * "replaced": the return address of a function with sleds is replaced as well; "one_record" (by the
 * linker's --wrap): calls at one stack pointer have one record; "not_committed": what is left on a
 * breakpoint goes on as before the change; "kept": the recorder's hooks are held for registered
 * behind an unregister that could not be taken back.
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include <shunt/inspect.h>

#include "../api/tap.h"
#include "control.h"
#include "core/ftrace.h"
#include "core/ftrace_batch.h"
#include "core/ftrace_raw.h"
#include "linux/entry/activation.h"

DEFINE_CONTROL(changes_flags, "flags");
DEFINE_CONTROL(is_replaced, "replaced");
DEFINE_CONTROL(has_one_record, "one_record");
DEFINE_CONTROL(is_not_committed, "not_committed");
DEFINE_CONTROL(is_kept, "kept");

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

/* An entry and, at its stack pointer, the returns of the tail call's sled and of the ret's. */
static bool ends_twice(void)
{
	nr_events = 0;
	return !xray_tail(20) && nr_events == 3 && !events[0].is_return && events[1].is_return &&
	       events[2].is_return && events[0].func == events[1].func &&
	       events[0].func == events[2].func;
}

static void raw(void)
{
	static struct shunt_raw_ops ops = {.entry = raw_entry, .ret = raw_return};

	if (!ok(!shunt_raw_register(&ops), "the recorder's hooks"))
		return;
	ok(all_raw(xray_twice, 1, 3, 3) && all_raw(xray_tail, 5, 7, 4) &&
		   all_raw(instrumented, 1, 4, 3),
	   "are told of the same");
	ok(ends_twice(), "and of two returns where a tail call is not taken: its sled cannot know");
	ok(!shunt_raw_unregister(&ops), "and unregistered");
	nr_events = 0;
	ok(xray_tail(5) == 7 && !nr_events, "are told no more");
}

/* ----------------------------------------------- text that cannot be written any more */

static int left =
	-1; /* writes and core syncs that go through before all fail; below 0: none does */
static bool has_left; /* a breakpoint, it was said */

static bool fails(void)
{
	return left >= 0 && (!left || !left--);
}

int __real_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n)
{
	return fails() ? -EIO : __real_shunt_port_text_write(writes, n);
}

int __real_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void)
{
	return fails() ? -EIO : __real_shunt_port_core_sync();
}

void __real_shunt_ftrace_commit_text(struct shunt_change *change);
void __wrap_shunt_ftrace_commit_text(struct shunt_change *change);
void __wrap_shunt_ftrace_commit_text(struct shunt_change *change)
{
	if (!is_not_committed)
		__real_shunt_ftrace_commit_text(change);
}

/* As where a callback waits for this thread. */
int __real_shunt_port_trace_wait(void);
int __wrap_shunt_port_trace_wait(void);
int __wrap_shunt_port_trace_wait(void)
{
	return fails() ? -EDEADLK : __real_shunt_port_trace_wait();
}

bool __real_shunt_ops_are_registered(const struct ftrace_ops *ops);
bool __wrap_shunt_ops_are_registered(const struct ftrace_ops *ops);
bool __wrap_shunt_ops_are_registered(const struct ftrace_ops *ops)
{
	return is_kept || __real_shunt_ops_are_registered(ops);
}

static void note_message(const char *message, void *arg)
{
	(void)arg;
	has_left |= strstr(message, "left on a breakpoint") != NULL;
}

static struct fgraph_ops broken_graph = {.entryfunc = on_entry, .retfunc = on_return};
static struct shunt_raw_ops broken_raw = {.entry = raw_entry, .ret = raw_return};
static bool is_raw;

static int begin(void)
{
	return is_raw ? shunt_raw_register(&broken_raw) : register_ftrace_graph(&broken_graph);
}

static int end(void)
{
	return is_raw ? shunt_raw_unregister(&broken_raw) : unregister_ftrace_graph(&broken_graph);
}

static bool sees(bool on, long (*function)(long), long argument, long result, unsigned calls)
{
	nr_events = 0;
	return function(argument) == result && (!on      ? !nr_events
						: is_raw ? is_raw_tree(calls)
							 : is_tree(calls));
}

static bool sees_all(bool on)
{
	return sees(on, xray_leaf, 1, 2, 1) && sees(on, xray_twice, 1, 3, 3) &&
	       sees(on, xray_tail, 5, 7, 4) &&
	       (is_raw && on ? ends_twice() : sees(on, xray_tail, 20, 0, 1)) &&
	       sees(on, instrumented, 1, 4, 3);
}

/*
 * @change with @n steps; whether that was all of it. It is to be as @on where it succeeds, else as
 * before; but an unregister that has been made, fails in its last core sync, and cannot be taken
 * back is one all the same.
 */
static bool break_at(int n, int (*change)(void), bool on, bool *good)
{
	bool was_whole;
	int ret;

	left = n;
	ret = change();
	was_whole = left > 0;
	left = -1;
	*good = sees_all(ret ? !on : on);
	if (ret && !on && !*good)
		*good = sees_all(false);
	else if (ret && change())
		*good = false;
	*good = *good && sees_all(on);
	if (!*good)
		diag("%s, %d steps: %d", on ? "on" : "off", n, ret);
	return was_whole;
}

static void broken(void)
{
	bool good = !shunt_set_poke(SHUNT_POKE_INT3), is_whole = false, next = false;
	int steps = 0;

	shunt_set_log(note_message, NULL);
	has_left = false;
	for (; good && !is_whole && steps < 100; steps++) {
		is_whole = break_at(steps, begin, true, &good);
		for (int n = 0, last = 0; good && !last && n < 100; n++) {
			last = break_at(n, end, false, &good);
			good = good && (last || !begin());
		}
		next |= good && !sees_all(false);
	}
	shunt_set_log(NULL, NULL);
	ok(good && !next && has_left && steps > 5, "text that can be written no more, %s: %d steps",
	   is_raw ? "the recorder's hooks" : "an fgraph_ops", steps);
}

int main(void)
{
	ok(!add_rows(), "entries");
	graph();
	raw();
	broken();
	is_raw = true;
	broken();
	return tap_done();
}
