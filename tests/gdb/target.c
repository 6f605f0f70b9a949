/* SPDX-License-Identifier: MIT */
/*
 * What gdb looks at: keys of each sort and with each value. Says by itself what the
 * inspection interface says, for comparison, and calls a function to stop at. With an
 * argument it updates so many times, while a thread goes through a site.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <shunt/ftrace.h>
#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "../unwind/paths.h"

void target_stop(void);
__attribute__((noinline)) void target_stop(void)
{
	__asm__ volatile("" ::: "memory");
}

/* Interrupts the program where gdb wants it to. */
static void on_signal(int sig)
{
	(void)sig;
	target_stop();
}

static long one(long arg)
{
	return arg + 1;
}

static long two(long arg)
{
	return arg + 2;
}

void notice(long arg); /* for its type alone */

DEFINE_STATIC_CALL(gdb_call, one);
DEFINE_STATIC_CALL_NULL(gdb_null, notice);
DEFINE_STATIC_CALL_RET0(gdb_ret0, one);
DEFINE_STATIC_KEY_TRUE(gdb_on);
DEFINE_STATIC_KEY_FALSE(gdb_off);

static int print_key(const struct shunt_key_info *info, void *arg)
{
	(void)arg;
	printf("key %d %s %zu %zu ", info->type == SHUNT_KEY_CALL, info->name, info->sites,
	       info->inline_sites);
	if (info->type == SHUNT_KEY_BRANCH)
		printf("%s, count %d\n", info->count ? "on" : "off", info->count);
	else if (!info->target)
		printf("NULL\n");
	else if (info->target == STATIC_CALL_RET0)
		printf("RET0\n");
	else
		printf("%p\n", info->target);
	return 0;
}

static int print_site(const struct shunt_site_info *info, void *arg)
{
	(void)arg;
	printf("site %s %p %zu %s\n", info->key, info->addr, info->len,
	       shunt_site_state_name(info->state));
	return 0;
}

/* -------------------------------------------------------------- what is traced */

#ifdef __clang__
#define TRACED __attribute__((noinline, patchable_function_entry(5)))
#else
#define TRACED __attribute__((noipa, patchable_function_entry(5)))
#endif

static long traced_twice(long arg);
static long traced_once(long arg);
static long traced_never(long arg);

TRACED static long traced_twice(long arg)
{
	return arg + 10;
}

TRACED static long traced_once(long arg)
{
	return arg + 20;
}

TRACED static long traced_never(long arg)
{
	return arg + 30;
}

static _Atomic unsigned long callbacks;

static void call_back(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
		      struct ftrace_regs *fregs)
{
	(void)ip;
	(void)parent_ip;
	(void)ops;
	(void)fregs;
	atomic_fetch_add(&callbacks, 1);
}

static void call_back_too(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
			  struct ftrace_regs *fregs)
{
	call_back(ip, parent_ip, ops, fregs);
}

static struct ftrace_ops ops = {.func = call_back}, other_ops = {.func = call_back_too};

static int print_function(const struct shunt_function_info *info, void *arg)
{
	(void)arg;
	if (info->nr_ops)
		printf("traced %s %p %zu\n", info->name, info->entry, info->nr_ops);
	return 0;
}

static int trace(void)
{
	int failed = ftrace_set_filter(&ops, "traced_[ot]*", 0, 1) ||
		     ftrace_set_filter(&other_ops, "traced_twice", 0, 1);

	failed = failed || register_ftrace_function(&ops) || register_ftrace_function(&other_ops);
	return failed || shunt_for_each_function(print_function, NULL);
}

static long call_traced(void)
{
	unsigned long before = atomic_load(&callbacks);
	long sum = traced_twice(1) + traced_once(1) + traced_never(1);

	return sum == 63 && atomic_load(&callbacks) == before + 3;
}

static long call_all(long arg)
{
	long sum = static_call(gdb_call)(arg) + static_call(gdb_ret0)(arg);

	static_call_cond(gdb_null)(arg);
	sum += 2 * static_call(gdb_call)(sum);
	if (static_branch_likely(&gdb_on))
		sum++;
	if (static_branch_unlikely(&gdb_off))
		sum += 100;
	for (size_t i = 0; i < nr_paths; i++)
		sum += paths[i].function(1);
	return sum;
}

/* ------------------------------------------------------------------ updates without end */

DEFINE_STATIC_CALL(gdb_busy, one);

static _Atomic bool begun, over;
static _Atomic unsigned long wrong;

long busy_site(long arg); /* for gdb */
__attribute__((noinline)) long busy_site(long arg)
{
	return static_call(gdb_busy)(arg) + 10;
}

static void *go_through(void *arg)
{
	atomic_store(&begun, true);
	while (!atomic_load(&over)) {
		long sum = busy_site(0);

		wrong += sum != 11 && sum != 12;
	}
	return arg;
}

static int update_busily(unsigned long times)
{
	unsigned long failed = 0;
	pthread_t thread;

	if (pthread_create(&thread, NULL, go_through, NULL))
		return 2;
	while (!atomic_load(&begun)) /* gdb holds it before that */
		(void)sched_yield();
	for (unsigned long i = 0; i < times; i++) {
		failed += (i % 2 ? static_call_update(gdb_busy, one)
				 : static_call_update(gdb_busy, two)) != 0;
		wrong += busy_site(0) != 12 - (long)(i % 2);
	}
	atomic_store(&over, true);
	(void)pthread_join(thread, NULL);
	printf("%lu updates, %lu failed, %lu wrong\n", times, failed, wrong);
	return failed || wrong;
}

static int print_all(void)
{
	int failed = paths_update(1) || paths_update(0) || static_branch_inc(&gdb_on) ||
		     static_branch_inc(&gdb_on);

	failed |= signal(SIGUSR1, on_signal) == SIG_ERR;
	failed |=
		shunt_for_each_key(print_key, NULL) || shunt_for_each_site(NULL, print_site, NULL);
	failed |= trace() || !call_traced();
	printf("sum %ld\n", call_all(1));
	fflush(stdout);
	target_stop();
	failed |= static_call_update(gdb_call, two) != 0 || !call_traced();
	printf("sum %ld\n", call_all(1));
	failed |= shunt_for_each_key(print_key, NULL) != 0;
	fflush(stdout);
	target_stop();
	return failed;
}

int main(int argc, char **argv)
{
	return argc > 1 ? update_busily(strtoul(argv[1], NULL, 10)) : print_all();
}
