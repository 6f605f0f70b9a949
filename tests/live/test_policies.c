/* SPDX-License-Identifier: MIT */
/*
 * One policy after the other, and beside the other, over the same text: what an update has
 * opened itself for writing is never taken for text that others write to, and the program's own
 * writable text always is.
 *
 * Control (SHUNT_CONTROL=blind): nobody knows which pages are open.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/port.h>
#include <shunt/static_call.h>

#include "../common/emulated.h"
#include "../common/remap_first.h"
#include "linux/text/open_pages.h"

#include "../api/tap.h"

#define PAGE 4096ul

static bool is_blind;

bool __real_shunt_pages_has_opened(uintptr_t addr);
bool __wrap_shunt_pages_has_opened(uintptr_t addr);
int __real_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void);

bool __wrap_shunt_pages_has_opened(uintptr_t addr)
{
	return !is_blind && __real_shunt_pages_has_opened(addr);
}

int __wrap_shunt_port_poke_begin(size_t n, bool flips, unsigned tried)
{
	return begin_remap_first(n, flips, tried);
}

/* In the middle of an update. */
static _Atomic bool wanted; /* a copy of the process */
static pid_t of_process;
static bool sync_fails; /* the next one: what is written is put back, to pages that are open */

int __wrap_shunt_port_core_sync(void)
{
	int ret = sync_fails ? -EIO : __real_shunt_port_core_sync();

	sync_fails = false;

	while (wanted && getpid() == of_process)
		(void)sched_yield();
	return ret;
}

static int one(void)
{
	return 1;
}

static int two(void)
{
	return 2;
}

DEFINE_STATIC_CALL(call_all, one);
DEFINE_STATIC_CALL(call_second, one);

/*
 * Sites at several places of a word, on pages of their own, between which others lie, so many that
 * a remap does not take those with it: in this order, which gcc else changes.
 */
#if __has_attribute(no_reorder)
#define IN_ORDER __attribute__((no_reorder))
#else
#define IN_ORDER
#endif
#define IN_PAGE IN_ORDER __attribute__((noinline, used, aligned(4096), section("policies_text")))
#define CALL(key)                                     \
	({                                            \
		int ret_ = static_call(key)();        \
                                                      \
		__asm__ volatile("nop" : "+r"(ret_)); \
		ret_;                                 \
	})

#define PAGE_OF(number, name)         \
	IN_PAGE static int name(void) \
	{                             \
		return number;        \
	}
#define PAGES_BETWEEN 3

IN_PAGE static int first(void)
{
	return CALL(call_all) + CALL(call_all) + CALL(call_all) + CALL(call_all);
}

PAGE_OF(7, between)
PAGE_OF(8, between_2)
PAGE_OF(9, between_3)

IN_PAGE static int second(void)
{
	return CALL(call_all) + CALL(call_all) + CALL(call_all) + CALL(call_second);
}

PAGE_OF(10, behind)
PAGE_OF(11, behind_2)
PAGE_OF(12, behind_3)

IN_PAGE static int third(void)
{
	return CALL(call_all) + CALL(call_all) + CALL(call_all) + CALL(call_all);
}

PAGE_OF(13, end_of_text)

static bool are_in_order(void)
{
	int (*const pages[])(void) = {first,  between,  between_2, between_3, second,
				      behind, behind_2, behind_3,  third,     end_of_text};

	for (size_t i = 1; i < sizeof(pages) / sizeof(pages[0]); i++)
		if ((uintptr_t)pages[i] - (uintptr_t)pages[i - 1] != PAGE)
			return false;
	return true;
}

static int update(enum shunt_poke_policy policy, bool to)
{
	int ret = shunt_set_poke(policy);

	if (!ret)
		ret = static_call_update(call_all, to ? two : one);
	if (!ret && (first() != 4 + 4 * to || second() - CALL(call_second) != 3 + 3 * to ||
		     third() != 4 + 4 * to))
		return 1;
	return ret;
}

static int set_apart(int (*function)(void))
{
	return mprotect((void *)((uintptr_t)function & -PAGE), PAGES_BETWEEN * PAGE, PROT_READ);
}

/*
 * The three pages of sites are mappings of their own, also to libshunt, which else takes those that
 * go on from each other as one where it reads /proc/self/maps (before Linux 6.11), and looks at the
 * first site alone.
 */
static int split(void)
{
	int ret = shunt_set_poke(SHUNT_POKE_REMAP);

	if (!ret)
		ret = static_call_update(call_second, two);
	if (!ret)
		ret = static_call_update(call_second, one);
	return ret ? ret : set_apart(between) || set_apart(behind);
}

static void *idle(void *arg)
{
	for (;;)
		(void)pause();
	return arg;
}

static int start(void *(*routine)(void *))
{
	pthread_t thread;

	return pthread_create(&thread, NULL, routine, NULL);
}

/* ----------------------------------------------------------------------- one thread */

static enum shunt_poke_policy before;

static int remap_behind(void)
{
	int ret;

	if (start(idle) || split())
		return 90;
	sync_fails = true;
	ret = update(before, true); /* 0: it was that of a way before the one that works */
	if (ret > 0 || (ret && (first() != 4 || third() != 4)))
		return 92;
	for (int i = 1; i <= 6; i++) {
		if (update(before, i % 2))
			return 91;
		if (i > 3 && update(SHUNT_POKE_REMAP, !(i % 2)))
			return 42;
	}
	return 0;
}

/* What the program has opened is seen, also where a page beside it is open by our doing. */
static int remap_behind_program(void)
{
	void *page = (void *)((uintptr_t)third & -PAGE);

	if (start(idle) || split() || mprotect(page, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC) ||
	    update(before, true) || mprotect(page, PAGE, PROT_READ | PROT_EXEC))
		return 90;
	return update(SHUNT_POKE_REMAP, false) == -EOPNOTSUPP && !update(before, false) ? 0 : 42;
}

/* ------------------------------------------------------------------- many threads */

static _Atomic bool over;
static _Atomic int refused;

static void *change_policy(void *arg)
{
	static const enum shunt_poke_policy policies[] = {SHUNT_POKE_REMAP, SHUNT_POKE_ATOMIC,
							  SHUNT_POKE_INT3, SHUNT_POKE_AUTO};

	for (unsigned i = 0; !over; i++) {
		if (shunt_set_poke(policies[i % 4]))
			refused = 1;
		(void)sched_yield();
	}
	return arg;
}

static void *update_second(void *arg)
{
	for (unsigned i = 0; !over; i++)
		if (static_call_update(call_second, i % 2 ? two : one))
			refused = 1;
	return arg;
}

static int beside(void)
{
	struct shunt_stats stats;

	if (start(change_policy) || start(update_second) || split())
		return 90;
	for (int i = 0; i < (is_emulated() ? 100 : 1000); i++) {
		if (static_call_update(call_all, i % 2 ? one : two))
			refused = 1;
		if (i % 8 == 0) /* others look meanwhile */
			(void)shunt_get_stats(&stats);
	}
	over = true;
	return refused ? 42 : 0;
}

/* ---------------------------------------------------------------------------- children */

static int status;

static void *copy(void *arg)
{
	pid_t pid;

	(void)usleep(1000); /* the update waits */
	pid = fork();
	if (!pid) {
		of_process = 0;
		_exit(update(SHUNT_POKE_REMAP, true) || update(before, false) ||
				      update(SHUNT_POKE_REMAP, true)
			      ? 42
			      : 0);
	}
	if (waitpid(pid, &status, 0) != pid)
		status = 0x5a00;
	wanted = false;
	return arg;
}

static int child_remaps(void)
{
	if (start(idle) || split() || shunt_set_poke(before))
		return 90;
	of_process = getpid();
	wanted = true;
	if (start(copy) || update(before, true))
		return 91;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 92;
}

static int in_child(int (*run)(void))
{
	int ret = -1;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		alarm(120); /* an emulated machine, or a busy one, is slow */
		_exit(run());
	}
	return pid < 0 || waitpid(pid, &ret, 0) != pid ? -1 : ret;
}

int main(void)
{
	static const char *const names[] = {"auto", "int3", "remap", "atomic"};
	const char *control = getenv("SHUNT_CONTROL");

	is_blind = control && !strcmp(control, "blind");
	shunt_set_log(NULL, NULL);
	if (between() + behind() + end_of_text() != 30 || !are_in_order())
		return 1;
	for (before = SHUNT_POKE_AUTO; before <= SHUNT_POKE_ATOMIC; before++) {
		int ret = in_child(remap_behind);

		ok(!ret, "%s, then remap: %#x", names[before], ret);
		ret = in_child(child_remaps);
		ok(!ret, "%s, and a child that remaps, made in the middle of it: %#x",
		   names[before], ret);
		if (before == SHUNT_POKE_REMAP)
			continue;
		ret = in_child(remap_behind_program);
		ok(!ret, "%s on text that the program has opened, then no remap: %#x",
		   names[before], ret);
	}
	status = in_child(beside);
	ok(!status, "all policies beside updates: %#x", status);
	return tap_done();
}
