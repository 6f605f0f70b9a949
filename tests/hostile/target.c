/* SPDX-License-Identifier: MIT */
/*
 * A program to be looked at by others: gdb, strace, perf, valgrind. Threads call a static
 * call and test a static key without end while the main thread changes the call or, where
 * TARGET_FLIPS is set, the key (which goes by flip). Each call must come out as one of the two
 * functions, and the main thread's own, behind its update, as the new one. It ends with one line of
 * counts; status 0: nothing was wrong. SIGTERM ends it early.
 *
 *	target UPDATES THREADS
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "../api/tap.h"

/* As in site.c: half an address leads nowhere. */
long plus_one(long x);
long plus_two(long x);

/* clang-format off */
__asm__(".text\n"
	".balign 65536\n"
	".fill 4096, 2, 0x0b0f\n"
	".type plus_one, @function\n"
	"plus_one:\n"
	"	lea 1(%rdi), %rax\n"
	"	ret\n"
	".size plus_one, . - plus_one\n"
	".balign 65536\n"
	".fill 66000, 2, 0x0b0f\n"
	".type plus_two, @function\n"
	"plus_two:\n"
	"	lea 2(%rdi), %rax\n"
	"	ret\n"
	".size plus_two, . - plus_two\n"
	".fill 4096, 2, 0x0b0f\n");
/* clang-format on */

DEFINE_STATIC_CALL(looked_at, plus_one);
DEFINE_STATIC_KEY_FALSE(looked_at_key);

static _Atomic unsigned long calls, wrong, failed;
static _Atomic int started;
static _Atomic bool stop;

/* For breakpoints: in it, the instructions beside the site are the site's neighbours. */
KEEP long call_site(long x);
KEEP long call_site(long x)
{
	return static_call(looked_at)(x) + 100;
}

KEEP static int test_site(void)
{
	return static_branch_unlikely(&looked_at_key) ? 1 : 0;
}

/* For breakpoints: once an update, by the updater. */
KEEP void between_updates(unsigned long i);
KEEP void between_updates(unsigned long i)
{
	__asm__ volatile("" ::"r"(i) : "memory");
}

static void *caller(void *arg)
{
	(void)arg;
	atomic_fetch_add(&started, 1);
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		long x = call_site(1);

		if ((x != 102 && x != 103) || (unsigned)test_site() > 1)
			atomic_fetch_add(&wrong, 1);
		atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
	}
	return NULL;
}

static bool flips;

static void update(unsigned long i)
{
	bool two = i % 2 == 0;
	int ret = flips ? two ? static_branch_enable(&looked_at_key)
			      : static_branch_disable(&looked_at_key)
			: static_call_update(looked_at, two ? plus_two : plus_one);

	if (ret)
		atomic_fetch_add(&failed, 1);
	else if (flips ? test_site() != two : call_site(1) != (two ? 103 : 102))
		atomic_fetch_add(&wrong, 1);
}

static volatile sig_atomic_t is_enough;

static void on_term(int sig)
{
	(void)sig;
	is_enough = 1;
}

int main(int argc, char **argv)
{
	unsigned long updates = argc > 1 ? strtoul(argv[1], NULL, 10) : 100, i = 0;
	unsigned n = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 2;
	pthread_t threads[64];
	struct shunt_stats stats;
	struct shunt_ways ways;

	flips = getenv("TARGET_FLIPS");
	(void)signal(SIGTERM, on_term);
	for (unsigned t = 0; t < n; t++)
		if (pthread_create(&threads[t], NULL, caller, NULL))
			return 2;
	while ((unsigned)atomic_load(&started) != n)
		;
	for (; i < updates && !is_enough; i++) {
		update(i);
		between_updates(i);
	}
	atomic_store(&stop, true);
	for (unsigned t = 0; t < n; t++)
		(void)pthread_join(threads[t], NULL);
	shunt_get_stats(&stats);
	shunt_get_ways(&ways);
	printf("updates %lu calls %lu wrong %lu failed %lu traps %lu poke %s write %s sync %s\n", i,
	       atomic_load(&calls), atomic_load(&wrong), atomic_load(&failed), stats.traps,
	       ways.poke, ways.write, ways.sync);
	return wrong || failed;
}
