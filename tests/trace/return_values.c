/* SPDX-License-Identifier: MIT */
/*
 * What functions are given and give back, while their returns are traced by functions that change
 * every vector register and the x87's state: stack arguments, long double, structs by value, in
 * registers and in memory, varargs, vectors, complex and 128-bit numbers; and values that a caller
 * keeps in registers which it knows that the callee leaves alone (-fipa-ra). Several fgraph_ops at
 * once; an unregister waits for a retfunc that runs.
 *
 * Controls: without the waiting (WITHOUT_WAIT), and without the rule for tail calls (NO_TAIL_RULE),
 * by the linker.
 */
#include <complex.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include "../api/tap.h"
#include "graph.h"
#include "linux/entry/activation.h"

static volatile long sink;

struct small {
	double a;
	long b;
};
struct big {
	long a[9];
};
typedef float vector __attribute__((vector_size(16)));

TRACED long many(long a, long b, long c, long d, long e, long f, long g, double h, long i);
long many(long a, long b, long c, long d, long e, long f, long g, double h, long i)
{
	sink = a;
	return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + (long)(8 * h) + 9 * i;
}

TRACED long double precise(long double a, float b);
long double precise(long double a, float b)
{
	sink++;
	return a * 2 + b;
}

TRACED struct small small(struct small s, float f);
struct small small(struct small s, float f)
{
	sink++;
	return (struct small){s.a + f, s.b + 1};
}

TRACED struct big big(struct big b, int n);
struct big big(struct big b, int n)
{
	for (int i = 0; i < 9; i++)
		b.a[i] += n;
	sink++;
	return b;
}

TRACED double varied(int n, ...);
double varied(int n, ...)
{
	double sum = 0;
	va_list args;

	va_start(args, n);
	for (int i = 0; i < n; i++)
		sum += i % 2 ? va_arg(args, double) : (double)va_arg(args, long);
	va_end(args);
	sink++;
	return sum;
}

TRACED vector vectors(vector a, vector b);
vector vectors(vector a, vector b)
{
	sink++;
	return a * b;
}

TRACED double complex turn(double complex z);
double complex turn(double complex z)
{
	sink++;
	return z * I;
}

TRACED __int128 wide(__int128 a, __int128 b);
__int128 wide(__int128 a, __int128 b)
{
	sink++;
	return a * b;
}

/* gcc keeps x and y in vector registers over the call: the callee changes none. */
static __attribute__((noinline, patchable_function_entry(5))) void touch(long n)
{
	sink = n;
}

static double kept(double x, double y)
{
	for (int i = 0; i < 100; i++) {
		touch(i);
		x = x * 0.5 + y;
	}
	return x;
}

static bool values(void)
{
	struct big b = {{1, 2, 3, 4, 5, 6, 7, 8, 9}};
	struct small s = small((struct small){1.5, 7}, 0.25f);
	vector v = vectors((vector){1, 2, 3, 4}, (vector){5, 6, 7, 8});
	double complex z = turn(3.0 + 4.0 * I);
	long double x = precise(1.0L / 3, 0.5f);
	__int128 w = wide((__int128)1 << 70, -3);
	double k = kept(1000, 1);

	b = big(b, 10);
	return many(1, 2, 3, 4, 5, 6, 7, 8.5, 9) == 289 && x == 1.0L / 3 * 2 + 0.5L &&
	       s.a == 1.75 && s.b == 8 && b.a[0] == 11 && b.a[8] == 19 &&
	       varied(5, 1l, 2.5, 3l, 4.5, 5l) == 16 && v[0] == 5 && v[3] == 32 && creal(z) == -4 &&
	       cimag(z) == 3 && w == -((__int128)3 << 70) && k > 1.99 && k < 2.01;
}

/* ------------------------------------------------------------- several at once */

static unsigned long told[2];

static int want_once(struct ftrace_graph_ent *trace, struct fgraph_ops *gops,
		     struct ftrace_regs *regs)
{
	(void)trace;
	(void)gops;
	return ftrace_regs_get_argument(regs, 0) == 1;
}

static void count(struct ftrace_graph_ret *trace, struct fgraph_ops *gops, struct ftrace_regs *regs)
{
	(void)trace;
	told[gops->ops.flags & FTRACE_OPS_FL_RECURSION ? 1 : 0] +=
		ftrace_regs_get_return_value(regs);
}

TRACED long value(long n);
long value(long n)
{
	sink = n;
	return n + 100;
}

static bool several(void)
{
	struct fgraph_ops all = {.retfunc = count};
	struct fgraph_ops one = {.entryfunc = want_once,
				 .retfunc = count,
				 .ops = {.flags = FTRACE_OPS_FL_RECURSION}};
	bool good;

	told[0] = told[1] = 0;
	good = !register_ftrace_graph(&all) && !register_ftrace_graph(&one) &&
	       register_ftrace_graph(&one) < 0;
	graph_reset();
	for (long n = 0; n < 3; n++)
		good = value(n) == n + 100 && good;
	good = graph_is_balanced(3) && good;
	good = !unregister_ftrace_graph(&one) && !unregister_ftrace_graph(&all) &&
	       unregister_ftrace_graph(&all) < 0 && good;
	return good && value(1) == 101 && told[0] == 303 && told[1] == 101;
}

/* -------------------------------------------------------------------- waiting */

static _Atomic int is_in, may_leave, is_unregistered;

static void stay(struct ftrace_graph_ret *trace, struct fgraph_ops *gops, struct ftrace_regs *regs)
{
	(void)trace;
	(void)gops;
	(void)regs;
	is_in = 1;
	while (!may_leave)
		;
}

static struct fgraph_ops staying = {.retfunc = stay};

static void *call_it(void *unused)
{
	sink = value(1);
	return unused;
}

static void *unregister_it(void *unused)
{
	is_unregistered = unregister_ftrace_graph(&staying) ? 2 : 1;
	return unused;
}

/* How long is looked whether it does not wait: the control until it is seen. */
#ifdef WITHOUT_WAIT
#define TURNS 20000
#else
#define TURNS 200
#endif

static bool waits(void)
{
	const struct timespec moment = {0, 1000000};
	pthread_t caller, other;
	bool good;

	if (register_ftrace_graph(&staying))
		return false;
	ftrace_set_filter_ip(&staying.ops, (unsigned long)(uintptr_t)value, 0, 1);
	pthread_create(&caller, NULL, call_it, NULL);
	while (!is_in)
		nanosleep(&moment, NULL);
	pthread_create(&other, NULL, unregister_it, NULL);
	for (int i = 0; i < TURNS && !is_unregistered; i++)
		nanosleep(&moment, NULL);
	good = !is_unregistered;
	may_leave = 1;
	pthread_join(caller, NULL);
	pthread_join(other, NULL);
	return good && is_unregistered == 1;
}

/* ------------------------------------------------------------------ tail calls */

TRACED long tail(long n);
long tail(long n)
{
	sink = n;
	return value(n + 1);
}

static bool tails(void)
{
	graph_reset();
	return tail(1) == 102 && graph_is_balanced(2);
}

#if defined(WITHOUT_WAIT)
int __wrap_shunt_port_trace_wait(void);
int __wrap_shunt_port_trace_wait(void)
{
	return 0;
}

int main(void)
{
	graph_begin();
	ok(!waits(), "control: an unregister that does not wait is seen");
	return tap_done();
}
#elif defined(NO_TAIL_RULE)
struct shunt_activation *__real_shunt_activation_get(uintptr_t sp, bool calls);
struct shunt_activation *__wrap_shunt_activation_get(uintptr_t sp, bool calls);

/* What was in the record is not ended. */
struct shunt_activation *__wrap_shunt_activation_get(uintptr_t sp, bool calls)
{
	struct shunt_activation *a = __real_shunt_activation_get(sp, calls);

	if (a)
		a->mask = 0;
	return a;
}

int main(void)
{
	graph_begin();
	ok(!tails(), "control: without the rule for tail calls a return is missing");
	return tap_done();
}
#else
int main(void)
{
	ok(values(), "what functions return, untraced");
	graph_begin();
	graph_reset();
	ok(values() && values(), "and traced");
	ok(graph_is_balanced(2 * 108), "each entry has its return");
	ok(several(), "three fgraph_ops, of which one wants some of the calls");
	ok(tails(), "a tail call");
	ok(waits(), "an unregister waits for a retfunc that runs");
	graph_end();
	return tap_done();
}
#endif
