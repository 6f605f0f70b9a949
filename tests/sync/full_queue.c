/* SPDX-License-Identifier: MIT */
/*
 * The user's pending signals are as many as RLIMIT_SIGPENDING allows, so that no thread can be sent
 * the signal: an update waits for room, and goes through when there is some. Where there is none it
 * fails, its message names the limit, and nothing has changed; by remap, where the pages are
 * put back but no CPU can be made to see it, the message says that. It has waited once then, and
 * the next ones do not wait, until there has been room.
 *
 * Control: a clock by which the time for waiting is over at once; there is room too late. The first
 * one to find no room does wait.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "sync.h"

#define WAITS 40 /* until there is room; more than a second's worth by the hurried clock */

static _Atomic bool over;
static _Atomic unsigned waits;

static void allow_signals(bool allow)
{
	static struct rlimit before;
	struct rlimit none;

	if (!before.rlim_max && getrlimit(RLIMIT_SIGPENDING, &before))
		abort();
	none = (struct rlimit){0, before.rlim_max};
	if (setrlimit(RLIMIT_SIGPENDING, allow ? &before : &none))
		abort();
}

static void count_waits(void)
{
	waits++;
}

static void make_room(void)
{
	if (++waits == WAITS)
		allow_signals(true);
}

static void *idle(void *arg)
{
	while (!over)
		(void)sched_yield();
	return arg;
}

/* @has_room: in the middle of its wait. */
static int update_when_full(unsigned index, bool has_room)
{
	int ret;

	waits = 0;
	hook_wait = has_room ? make_room : NULL;
	allow_signals(false);
	ret = update_to(index);
	hook_wait = NULL;
	allow_signals(true);
	return ret;
}

static void expect_failure(const char *by, const char *says)
{
	uint8_t before[64];
	int ret;

	(void)text_is(NULL, before);
	ret = update_when_full(2, false);
	ok(ret == -EAGAIN && strstr(shunt_last_error(), "RLIMIT_SIGPENDING") &&
		   strstr(shunt_last_error(), says) && !strstr(shunt_last_error(), "left changed"),
	   "%s, no room: %d, %s", by, ret, shunt_last_error());
	ok(text_is(before, NULL) && call_it(1) == 11, "%s: nothing has changed", by);
}

/* The first that finds no room, or one behind it: how often it waits, at most a millisecond each.
 */
static unsigned count_waits_when_full(int *ret)
{
	waits = 0;
	hook_wait = count_waits;
	allow_signals(false);
	*ret = update_to(1);
	hook_wait = NULL;
	allow_signals(true);
	return waits;
}

static void expect_one_wait(const char *by)
{
	unsigned first, again;
	int ret, failed[2];

	ret = update_to(2) ? -1 : update_to(3); /* the one has room at least */
	first = count_waits_when_full(&failed[0]);
	again = count_waits_when_full(&failed[1]);
	ok(!ret && failed[0] == -EAGAIN && failed[1] == -EAGAIN && again == 0,
	   "%s, no room once more: %d, %d, %u waits", by, failed[0], failed[1], again);
	ok(first, "control: %s, the first one waits: %u waits", by, first);
}

int test_full_queue(void)
{
	pthread_t thread;
	int ret;

	if (pthread_create(&thread, NULL, idle, NULL) || update_to(0))
		abort();
	ret = update_when_full(1, true);
	ok(!ret && call_it(1) == 11 && waits >= WAITS, "there is room in time: %d, %u waits", ret,
	   (unsigned)waits);
	hook_clock_rate = 1000000;
	ret = update_when_full(2, true);
	ok(ret == -EAGAIN && waits < WAITS && call_it(1) == 11,
	   "control: the time is over before there is room: %d, %u waits", ret, (unsigned)waits);
	expect_failure("by int3", "core sync after int3");
	if (shunt_set_poke(SHUNT_POKE_REMAP))
		abort();
	expect_failure("by remap", "the text is as it was");
	hook_clock_rate = 1;
	ret = update_to(2);
	ok(!ret && call_it(1) == 12, "with room, the next one: %d", ret);
	expect_one_wait("by remap");
	if (shunt_set_poke(SHUNT_POKE_INT3))
		abort();
	expect_one_wait("by int3");
	over = true;
	(void)pthread_join(thread, NULL);
	return tap_done();
}
