/* SPDX-License-Identifier: MIT */
/*
 * fgraph_ops that come and go while threads run, with signals on top: one that is there all the
 * time is told of each return of each entry; the others of none behind their unregister, though
 * functions that were entered before return later, by their stubs; and one that gets the place of
 * another is told of none that was entered for that.
 *
 * Control (SHUNT_CONTROL=no_epoch, by the linker's --wrap): each record says that it was entered
 * just now.
 */
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#include "../api/tap.h"
#include "control.h"
#include "graph.h"
#include "linux/entry/activation.h"

static volatile long sink;
static _Atomic bool stop;
static _Atomic unsigned long unbalanced, rounds;

TRACED long recurse(long depth);
long recurse(long depth)
{
	long below = depth ? recurse(depth - 1) + 1 : 0;

	sink = below;
	return below;
}

TRACED long tail(long n);
long tail(long n)
{
	sink = n;
	return recurse(n);
}

TRACED void on_alarm(int signal);
void on_alarm(int signal)
{
	(void)signal;
	sink = tail(3);
}

/* ------------------------------------------------------------- come and go */

static _Atomic int is_dead;
static _Atomic unsigned long late, entered, returned;

static int brief_entry(struct ftrace_graph_ent *trace, struct fgraph_ops *gops,
		       struct ftrace_regs *regs)
{
	(void)trace;
	(void)gops;
	(void)regs;
	late += is_dead != 0;
	entered++;
	return 1;
}

static void brief_return(struct ftrace_graph_ret *trace, struct fgraph_ops *gops,
			 struct ftrace_regs *regs)
{
	(void)trace;
	(void)gops;
	(void)regs;
	late += is_dead != 0;
	returned++;
}

static void *call(void *unused)
{
	sigset_t set;

	/* Not in the middle of a look at the counts, which the handler's calls change. */
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	while (!stop) {
		sink = recurse(5) + tail(7);
		pthread_sigmask(SIG_BLOCK, &set, NULL);
		unbalanced += graph_counts.entries != graph_counts.returns || graph_counts.depths;
		pthread_sigmask(SIG_UNBLOCK, &set, NULL);
		rounds++;
	}
	return unused;
}

static bool come_and_go(void)
{
	const struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
	pthread_t threads[2];
	bool good = true;

	signal(SIGALRM, on_alarm);
	for (int i = 0; i < 2; i++)
		good = !pthread_create(&threads[i], NULL, call, NULL) && good;
	setitimer(ITIMER_REAL, &often, NULL);
	for (int i = 0; i < 300 && good; i++) {
		struct fgraph_ops brief = {.entryfunc = brief_entry, .retfunc = brief_return};
		unsigned long before = rounds;

		is_dead = 0;
		good = !register_ftrace_graph(&brief);
		while (rounds < before + 3 && good)
			sched_yield();
		good = !unregister_ftrace_graph(&brief) && good;
		is_dead = 1;
		memset(&brief, 0x5a, sizeof(brief));
	}
	setitimer(ITIMER_REAL, &never, NULL);
	stop = true;
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	if (late || unbalanced)
		diag("%lu late, %lu unbalanced", late, unbalanced);
	return good && !late && !unbalanced && entered && returned && returned <= entered;
}

/* ----------------------------------------------- entered for another one */

static _Atomic int is_inside, may_return;

TRACED long hold(long n);
long hold(long n)
{
	is_inside = 1;
	while (!may_return)
		sched_yield();
	return n;
}

static void *call_hold(void *unused)
{
	sink = hold(1);
	return unused;
}

static bool entered_for_another(void)
{
	struct fgraph_ops first = {.entryfunc = brief_entry, .retfunc = brief_return};
	struct fgraph_ops second = {.entryfunc = brief_entry, .retfunc = brief_return};
	pthread_t thread;
	bool good;

	is_dead = 0;
	entered = returned = 0;
	if (register_ftrace_graph(&first) || pthread_create(&thread, NULL, call_hold, NULL))
		return false;
	while (!is_inside)
		sched_yield();
	good = !unregister_ftrace_graph(&first) && entered == 1 && !register_ftrace_graph(&second);
	may_return = 1;
	pthread_join(thread, NULL);
	good = !returned && good;
	sink = recurse(2);
	return !unregister_ftrace_graph(&second) && returned == 3 && good;
}

/* ---------------------------------------------------------------- the control */

DEFINE_CONTROL(has_no_epoch, "no_epoch");

struct shunt_activation *__real_shunt_activation_find(uintptr_t sp, bool calls);
struct shunt_activation *__wrap_shunt_activation_find(uintptr_t sp, bool calls);

SHUNT_GENERAL_REGS struct shunt_activation *__wrap_shunt_activation_find(uintptr_t sp, bool calls)
{
	struct shunt_activation *a = __real_shunt_activation_find(sp, calls);

	if (a && has_no_epoch)
		a->epoch = UINT32_MAX;
	return a;
}

/* With an argument: not the first row. */
int main(int argc, char **argv)
{
	(void)argv;
	graph_begin();
	if (argc < 2)
		ok(come_and_go(), "300 fgraph_ops come and go, and one stays");
	ok(entered_for_another(), "a return is told to the one that its entry was told to");
	graph_end();
	return tap_done();
}
