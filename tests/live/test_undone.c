/* SPDX-License-Identifier: MIT */
/*
 * mremap() fails from some call on, for good, so that a remap can neither go on nor be undone by
 * another: an update fails and is undone by another way, and where the sites of the program are
 * being brought up at its start, an update that returns 0 later is true.
 *
 * Control (SHUNT_CONTROL=one-way): an update is not undone by another way.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/port.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "../common/remap_first.h"
#include "linux/text/restart.h"

#include "../api/tap.h"

static int one(void)
{
	return 1;
}

static int two(void)
{
	return 2;
}

DEFINE_STATIC_CALL(undone, one);
DEFINE_STATIC_KEY_FALSE(undone_branch);

/* Further apart than what one run of pages may leave out. */
#define SITE(name, section_)                                                               \
	__attribute__((noinline, aligned(16384), section(section_))) static int name(void) \
	{                                                                                  \
		int ret = static_call(undone)();                                           \
                                                                                           \
		__asm__ volatile("" : "+r"(ret));                                          \
		return ret + 10 * (static_branch_unlikely(&undone_branch) ? 1 : 0);        \
	}
SITE(first, "undone_1")
SITE(second, "undone_2")
SITE(third, "undone_3")

static long moves, fail_from; /* 0: never */

/* Before the constructor that registers the program. */
__attribute__((constructor(101))) static void read_start(void)
{
	const char *from = getenv("UNDONE_FAIL_FROM");

	fail_from = from ? strtol(from, NULL, 10) : 0;
}

__typeof__(shunt_remap_move) __real_shunt_remap_move, __wrap_shunt_remap_move;

long __wrap_shunt_remap_move(void *copy, size_t len, uintptr_t to, const uint64_t *begun)
{
	if (fail_from && ++moves >= fail_from)
		return -ENOMEM;
	return __real_shunt_remap_move(copy, len, to, begun);
}

int __wrap_shunt_port_poke_begin(size_t n, bool flips, unsigned tried)
{
	static int control = -1;

	if (control < 0) {
		const char *name = getenv("SHUNT_CONTROL");

		control = name && !strcmp(name, "one-way");
	}
	if (control && tried & SHUNT_PUT_BACK)
		return -ENOSYS;
	return begin_remap_first(n, flips, tried);
}

static bool all_are(int call, bool branch)
{
	int want = call + 10 * branch;

	return first() == want && second() == want && third() == want;
}

static int update(bool to)
{
	struct static_call_batch batch = STATIC_CALL_BATCH_INIT;
	int ret = static_call_batch_add(&batch, undone, to ? two : one);

	if (!ret)
		ret = to ? static_branch_batch_enable(&batch, &undone_branch)
			 : static_branch_batch_disable(&batch, &undone_branch);
	if (!ret)
		ret = static_call_batch_commit(&batch);
	static_call_batch_destroy(&batch);
	return ret;
}

static void *idle(void *arg)
{
	for (;;)
		(void)pause();
	return arg;
}

/* With all that an update needs in its way: 0 is true, and an error has changed nothing. */
static int update_in_all_ways(void)
{
	for (int i = 0; i < 6; i++) {
		bool was = static_call_query(undone) == two, to = i % 3 == 1;

		if (update(to) ? !all_are(1 + was, was) : !all_are(1 + to, to))
			return 42;
	}
	return 0;
}

static int started(void)
{
	int ret = all_are(1, false) ? update_in_all_ways() : 41;

	fail_from = 0;
	if (!ret && (update(true) || !all_are(2, true)))
		ret = 43;
	return ret;
}

static int start_again(long from)
{
	char value[24];
	int status = -1;
	pid_t pid;

	(void)snprintf(value, sizeof(value), "%ld", from);
	pid = fork();
	if (!pid) {
		if (!setenv("UNDONE_FAIL_FROM", value, 1))
			(void)execl("/proc/self/exe", "test_undone", "--started", NULL);
		_exit(99);
	}
	return pid < 0 || waitpid(pid, &status, 0) != pid ? -1 : status;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	bool to = true;

	(void)argv;
	if (argc > 1)
		return started();
	if (pthread_create(&thread, NULL, idle, NULL))
		return 1;
	for (long from = 1; from <= 4; from++) {
		int ret, again;

		moves = 0;
		fail_from = from;
		ret = update(to);
		ok(ret ? ret == -ENOMEM && all_are(2 - to, !to) : all_are(1 + to, to),
		   "an update, mremap() fails from call %ld on: %d", from, ret);
		if (!ret)
			to = !to;
		again = update(!to); /* what the keys say */
		ok(again || all_are(2 - to, !to), "to what the keys say: %d", again);
		fail_from = 0;
		ret = update(to);
		ok(!ret && all_are(1 + to, to), "and then without a fault: %d", ret);
		to = !to;
	}
	for (long from = 1; from <= 5; from++) {
		int status = start_again(from);

		ok(!status, "a start, mremap() fails from call %ld on: %#x", from, status);
	}
	return tap_done();
}
