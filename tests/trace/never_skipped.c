/* SPDX-License-Identifier: MIT */
/*
 * Two threads call functions, and get signals that call others. Ops B trace them all the time, and
 * must see each call exactly once, while ops A are registered and unregistered, with filters
 * that change, and must see none behind their unregister: their memory is used for something else
 * at once. Some functions A trace alone: these go on and off by flips.
 *
 * Controls, by what the linker puts in the place of a function: each change from a call to another
 * goes through a form that calls nothing; an unregister does not wait for callbacks that run. They
 * make all changes, or end with the first that is seen to go wrong; the test itself makes a tenth
 * of them without "all".
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include <shunt/inspect.h>

#include "../common/emulated.h"
#include "core/poke.h"
#include "entries.h"
#include "linux/base/syscall.h"
#include "tap.h"

#define ALL_CHANGES      1500
#define SOME_CHANGES     150
#define EMULATED_CHANGES 100

#ifdef CONTROL
#define IS_CONTROL true
static unsigned changes = ALL_CHANGES;
#else
#define IS_CONTROL false
static unsigned changes = SOME_CHANGES;
#endif

/* ------------------------------------------------------------ what is called */

#define FUNCTIONS 8 /* of these the last two are of handlers */
#define ALONE     2 /* that A trace alone */

struct thread {
	_Alignas(64) volatile unsigned long calls[FUNCTIONS + ALONE];
	volatile unsigned long seen[FUNCTIONS + ALONE];
	volatile unsigned long missed, more;
};

#define FUNCTION(n)                                            \
	TRACED void function##n(struct thread *t, unsigned i); \
	TRACED void function##n(struct thread *t, unsigned i)  \
	{                                                      \
		t->calls[i]++;                                 \
		__asm__ volatile("" : : "r"(n));               \
	}
FUNCTION(0)
FUNCTION(1)
FUNCTION(2)
FUNCTION(3)
FUNCTION(4)
FUNCTION(5)
FUNCTION(6)
FUNCTION(7)
FUNCTION(8)
FUNCTION(9)

static void (*const functions[])(struct thread *, unsigned) = {
	function0, function1, function2, function3, function4,
	function5, function6, function7, function8, function9,
};

static _Atomic bool stop;
static __thread struct thread *this;

/* Of the functions that B trace; @i is the call's own, so handlers do not come between. */
static void call(struct thread *t, unsigned i)
{
	unsigned long seen = t->seen[i];

	functions[i](t, i);
	if (t->seen[i] == seen)
		t->missed++;
	else if (t->seen[i] != seen + 1)
		t->more++;
}

static void on_signal(int sig)
{
	if (this)
		for (unsigned i = FUNCTIONS - 2; i < FUNCTIONS; i++)
			call(this, i);
	(void)sig;
}

static void *hammer(void *arg)
{
	this = arg;
	while (!stop) {
		for (unsigned i = 0; i < FUNCTIONS - 2; i++)
			call(this, i);
		for (unsigned i = FUNCTIONS; i < FUNCTIONS + ALONE; i++)
			functions[i](this, i);
	}
	this = NULL;
	return NULL;
}

/* To each of the two in turn, 2,000 a second. */
static void *send_signals(void *arg)
{
	const struct timespec between = {0, 500000};
	pthread_t *threads = arg;

	for (unsigned i = 0; !stop; i++) {
		(void)pthread_kill(threads[i % 2], SIGUSR1);
		(void)nanosleep(&between, NULL);
	}
	return NULL;
}

/* ----------------------------------------------------------------- callbacks */

/* All functions have the same arguments: the thread, and its number. */
SHUNT_GENERAL_REGS static void on_b(unsigned long ip, unsigned long parent_ip,
				    struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	struct thread *t = (struct thread *)ftrace_regs_get_argument(fregs, 0);

	t->seen[ftrace_regs_get_argument(fregs, 1)]++;
	(void)ip;
	(void)parent_ip;
	(void)ops;
}

/* A are given a number that says they are still there, another each time; 0: they are gone. */

static _Atomic unsigned long late, by_a;
static unsigned long calls_per_sleep = 1024;

/* Some callbacks take longer than any change. */
SHUNT_GENERAL_REGS static void look(const struct ftrace_ops *ops)
{
	const struct timespec moment = {0, 1000000};
	volatile unsigned long *live = ops->private;
	unsigned long then = live ? *live : 0;

	if (atomic_fetch_add_explicit(&by_a, 1, memory_order_relaxed) % calls_per_sleep == 0)
		(void)shunt_syscall(SYS_nanosleep, (long)&moment, 0, 0, 0);
	if (!then || *live != then)
		atomic_fetch_add(&late, 1);
}

static void on_a(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
		 struct ftrace_regs *fregs)
{
	look(ops);
	(void)ip;
	(void)parent_ip;
	(void)fregs;
}

/* The same, by another function, which says that it saves no vector registers. */
SHUNT_GENERAL_REGS static void on_a_general(unsigned long ip, unsigned long parent_ip,
					    struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	look(ops);
	(void)ip;
	(void)parent_ip;
	(void)fregs;
}

/* ------------------------------------------------------------------- controls */

#ifdef THROUGH_NOP
int __real_shunt_poke_batch(struct shunt_poke *pokes, size_t n, struct shunt_change *change,
			    struct shunt_report *report);
int __wrap_shunt_poke_batch(struct shunt_poke *pokes, size_t n, struct shunt_change *change,
			    struct shunt_report *report);
int __wrap_shunt_poke_batch(struct shunt_poke *pokes, size_t n, struct shunt_change *change,
			    struct shunt_report *report)
{
	struct shunt_poke off[64];
	int ret = 0;

	for (size_t i = 0; i < n; i++) {
		off[i] = pokes[i];
		turn_off(off[i].new);
		memcpy(pokes[i].old, off[i].new, sizeof(pokes[i].old));
	}
	ret = __real_shunt_poke_batch(off, n, change, report);
	return ret ? ret : __real_shunt_poke_batch(pokes, n, change, report);
}
#endif

#ifdef WITHOUT_WAIT
int __wrap_shunt_port_trace_wait(void);
int __wrap_shunt_port_trace_wait(void)
{
	return 0;
}
#endif

/* ------------------------------------------------------------------ a session */

static struct ftrace_ops b = {.func = on_b, .flags = SHUNT_FTRACE_GENERAL_REGS};

/* Functions by their place in memory, which is that in the source. */
static const char *const filters[] = {"*", "f[0-3]", "f1", "f[5-9]", "f[89]", "f[!89]"};
#define FILTERS (sizeof(filters) / sizeof(filters[0]))

/* Their memory is somebody else's as soon as they are unregistered. */
static bool change(unsigned i)
{
	static struct ftrace_ops a;
	static unsigned long live;
	bool good;

	live = i + 1;
	a = (struct ftrace_ops){.func = i % 3 ? on_a_general : on_a, .private = &live};
	a.flags = i % 3 ? SHUNT_FTRACE_GENERAL_REGS : 0;
	good = !ftrace_set_filter(&a, filters[i % FILTERS], 0, 1);
	good = good && !register_ftrace_function(&a);
	if (i % 2)
		good = good && !ftrace_set_filter(&a, filters[(i + i / FILTERS) % FILTERS], 0, 1);
	if (i % 5 == 0)
		good = good && !ftrace_set_notrace(&a, "f0", 0, 1);
	good = good && !unregister_ftrace_function(&a);
	live = 0;
	memset(&a, 0, sizeof(a));
	return good;
}

static struct thread threads[2];

/* What the rows are about. It may be asked while the threads run: it only ever becomes true. */
static bool has_gone_wrong(void)
{
	return late || threads[0].missed || threads[0].more || threads[1].missed || threads[1].more;
}

static bool run(enum shunt_poke_policy policy)
{
	pthread_t hammers[2], sender;
	bool good = !shunt_set_poke(policy) && !add_entries() &&
		    !ftrace_set_filter(&b, "f[0-7]", 0, 1) && !register_ftrace_function(&b);
	unsigned long missed = 0, more = 0, calls = 0;
	unsigned made = 0;

	if (signal(SIGUSR1, on_signal) == SIG_ERR)
		return false;
	for (int i = 0; i < 2; i++)
		good = good && !pthread_create(&hammers[i], NULL, hammer, &threads[i]);
	good = good && !pthread_create(&sender, NULL, send_signals, hammers);
	while (made < changes && good && !(IS_CONTROL && has_gone_wrong()))
		good = change(made++);
	stop = true;
	(void)pthread_join(sender, NULL);
	for (int i = 0; i < 2; i++)
		(void)pthread_join(hammers[i], NULL);
	for (int i = 0; i < 2; i++) {
		missed += threads[i].missed;
		more += threads[i].more;
		calls += threads[i].calls[0];
	}
	printf("# %u changes, %lu calls of one function, missed %lu, twice %lu; by A %lu, late "
	       "%lu\n",
	       made, calls, missed, more, by_a, late);
	if (!good)
		printf("# a change has failed: %s\n", shunt_last_error());
	(void)fflush(stdout);
	return good && !missed && !more && !late && by_a && calls > made;
}

#if SHUNT_HAS_TRAPS
static bool by_int3(void)
{
	return run(SHUNT_POKE_INT3);
}
#endif

static bool by_remap(void)
{
	return run(SHUNT_POKE_REMAP);
}

static bool by_auto(void)
{
	return run(SHUNT_POKE_AUTO);
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "all"))
		changes = ALL_CHANGES;
	if (is_emulated()) { /* fewer calls between two changes; so that some sleep in each */
		calls_per_sleep = 64;
		changes = IS_CONTROL ? ALL_CHANGES : EMULATED_CHANGES;
	}
#if SHUNT_HAS_TRAPS
	row_in_child(by_int3, "by int3: each call is seen once, and none too late");
#endif
	row_in_child(by_remap, "by remap: each call is seen once, and none too late");
	row_in_child(by_auto, "as it is set: each call is seen once, and none too late");
	return end_rows();
}
