/* SPDX-License-Identifier: MIT */
/*
 * The recorder's hooks (core/ftrace_raw.h): what they are told is enough to match each return with
 * its entry by the stack pointer alone, as a reader of the file does: recursion, tail calls,
 * longjmp(), two threads; by their own stubs, and by those for several ops, with an fgraph_ops
 * beside, for which the same holds.
 *
 * Controls (SHUNT_CONTROL, by the linker's --wrap): "no_tail": an entry by a tail call is told as
 * any other, by the hooks' own stubs; "no_tail_of_list": by those for several ops; "any_word": a
 * return is told whose return address is not the one that its entry had.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>

#include "../api/tap.h"
#include "arch/arch.h"
#include "control.h"
#include "core/ftrace.h"
#include "core/ftrace_raw.h"
#include "graph.h"
#include "linux/entry/activation.h"
#include "linux/entry/fgraph.h"

static volatile long sink;
static jmp_buf place;

TRACED long recurse(long depth);
long recurse(long depth)
{
	long below = depth ? recurse(depth - 1) + 1 : 0;

	sink = below;
	return below;
}

TRACED long last(long n);
long last(long n)
{
	sink = n;
	return n + 1;
}

TRACED long tail(long n);
long tail(long n)
{
	sink = n;
	return last(n * 2);
}

TRACED long jump_from(long depth);
long jump_from(long depth)
{
	if (!depth)
		longjmp(place, 7);
	sink = jump_from(depth - 1);
	return sink;
}

/* Two from one frame, so that their return addresses stand at the same place. */
TRACED void left(void);
void left(void)
{
	longjmp(place, 1);
}

TRACED void returns(void);
void returns(void)
{
	sink++;
}

static __attribute__((noinline)) void left_and_returns(void)
{
	if (!setjmp(place))
		left();
	returns();
	sink++;
}

/* --------------------------------------------------- a reader, for each thread */

#define MOST 4096
static __thread struct {
	uintptr_t open[MOST];
	unsigned n;
	unsigned long entries, matched, tails, left, wrong;
} reader;

/* Entries below on the stack have ended otherwise. */
SHUNT_GENERAL_REGS static void close_below(uintptr_t sp)
{
	while (reader.n && reader.open[reader.n - 1] < sp) {
		reader.n--;
		reader.left++;
	}
}

SHUNT_GENERAL_REGS static void on_entry(uintptr_t ip, uintptr_t sp, enum shunt_raw_how how)
{
	close_below(sp);
	reader.wrong += !ip || how == SHUNT_RAW_NO_RETURN;
	if (reader.n && reader.open[reader.n - 1] == sp) {
		reader.n--;
		if (how == SHUNT_RAW_TAIL)
			reader.tails++;
		else
			reader.left++;
	} else {
		reader.wrong += how == SHUNT_RAW_TAIL;
	}
	reader.entries++;
	if (reader.n < MOST)
		reader.open[reader.n++] = sp;
}

SHUNT_GENERAL_REGS static void on_return(uintptr_t ip, uintptr_t sp)
{
	close_below(sp);
	if (ip || !reader.n || reader.open[reader.n - 1] != sp) {
		reader.wrong++;
		return;
	}
	reader.n--;
	reader.matched++;
}

static struct shunt_raw_ops raw = {.entry = on_entry, .ret = on_return};

static bool was(unsigned long entries, unsigned long tails, unsigned long left)
{
	bool good = reader.entries == entries && reader.tails == tails && reader.left == left &&
		    reader.matched == entries - tails - left && !reader.wrong && !reader.n;

	if (!good)
		diag("%lu entries, %lu returns, %lu tail calls, %lu left, %lu wrong, %u open",
		     reader.entries, reader.matched, reader.tails, reader.left, reader.wrong,
		     reader.n);
	reader.entries = reader.tails = reader.left = reader.matched = reader.wrong = reader.n = 0;
	return good;
}

static bool jumps(void)
{
	if (!setjmp(place))
		sink = jump_from(20);
	return recurse(5) == 5 && was(21 + 6, 0, 21);
}

static void *run(void *good)
{
	bool all = recurse(1000) == 1000 && was(1001, 0, 0);

	for (int i = 0; i < 1000; i++)
		all = tail(i) == 2 * i + 1 && all;
	*(bool *)good = was(2000, 1000, 0) && all;
	return NULL;
}

static bool two_threads(void)
{
	pthread_t threads[2];
	bool good[2] = {false, false};

	for (int i = 0; i < 2; i++)
		if (pthread_create(&threads[i], NULL, run, &good[i]))
			return false;
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	return good[0] && good[1];
}

static unsigned long told;

static void count_return(struct ftrace_graph_ret *trace, struct fgraph_ops *gops,
			 struct ftrace_regs *regs)
{
	(void)trace;
	(void)gops;
	(void)regs;
	told++;
}

/* An fgraph_ops has the one that is left, the hooks have both. */
static bool is_not_told_of_left(void)
{
	static struct fgraph_ops gops = {.retfunc = count_return};
	bool good = !ftrace_set_filter(&gops.ops, "left", 0, 1) && !register_ftrace_graph(&gops);

	for (int i = 0; i < 3; i++)
		left_and_returns();
	good = !unregister_ftrace_graph(&gops) && good;
	return was(6, 0, 3) && good && !told;
}

/* -------------------------------------------------------------------- controls */

DEFINE_CONTROL(no_tail, "no_tail");
DEFINE_CONTROL(no_tail_of_list, "no_tail_of_list");
DEFINE_CONTROL(any_word, "any_word");

uint32_t __real_shunt_raw_replace(uintptr_t *word);
uint32_t __wrap_shunt_raw_replace(uintptr_t *word);
SHUNT_GENERAL_REGS uint32_t __wrap_shunt_raw_replace(uintptr_t *word)
{
	uint32_t how = __real_shunt_raw_replace(word);

	return no_tail && how == SHUNT_RAW_TAIL ? SHUNT_RAW_ENTRY : how;
}

bool __real_shunt_is_tail_call(struct ftrace_regs *regs);
bool __wrap_shunt_is_tail_call(struct ftrace_regs *regs);
SHUNT_GENERAL_REGS bool __wrap_shunt_is_tail_call(struct ftrace_regs *regs)
{
	return __real_shunt_is_tail_call(regs) && !no_tail_of_list;
}

static __thread uintptr_t returned_by; /* the stub */

void __real_shunt_graph_returned(struct ftrace_regs *regs, uintptr_t guard);
void __wrap_shunt_graph_returned(struct ftrace_regs *regs, uintptr_t guard);
SHUNT_GENERAL_REGS void __wrap_shunt_graph_returned(struct ftrace_regs *regs, uintptr_t guard)
{
	returned_by = shunt_regs_stub(regs);
	__real_shunt_graph_returned(regs, guard);
	returned_by = 0;
}

struct shunt_activation *__real_shunt_activation_find(uintptr_t sp, bool calls);
struct shunt_activation *__wrap_shunt_activation_find(uintptr_t sp, bool calls);
SHUNT_GENERAL_REGS struct shunt_activation *__wrap_shunt_activation_find(uintptr_t sp, bool calls)
{
	struct shunt_activation *a = __real_shunt_activation_find(sp, calls);

	if (a && any_word && returned_by)
		a->word = returned_by;
	return a;
}

static bool begin(void)
{
	return !shunt_raw_register(&raw) && shunt_raw_register(&raw) < 0;
}

int main(void)
{
	bool good;

	graph_begin(); /* finds the functions */
	graph_end();
	ok(begin(), "the hooks are registered, once");
	run(&good);
	ok(good, "recursion, and tail calls");
	ok(jumps(), "longjmp()");
	ok(two_threads(), "two threads");

	graph_begin();
	graph_reset();
	run(&good);
	ok(good && graph_is_balanced(1001 + 2000), "with an fgraph_ops beside");
	graph_reset();
	ok(jumps() && graph_counts.returns == 6, "longjmp()");
	graph_end();
	ok(two_threads() && jumps(), "and alone again");
	ok(is_not_told_of_left(), "no return is told to an fgraph_ops of a function that was left");
	ok(!shunt_raw_unregister(&raw) && shunt_raw_unregister(&raw) < 0, "unregistered");
	ok(recurse(5) == 5 && was(0, 0, 0), "they are told no more");
	ok(!shunt_returns_missed(), "no return was missed");
	return tap_done();
}
