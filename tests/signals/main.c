/* SPDX-License-Identifier: MIT */
/*
 * libshunt-signals: what a program may do with masks and handlers while it is poked by int3.
 *
 * "pokes" meet a poke with SIGTRAP blocked in each way there is: the poke is held after its
 * int3 stands (ld --wrap around the core sync), until a thread has been through the site.
 * "programs" look at their own SIGTRAPs, and must see what they would see without Shunt.
 *
 *	test_signals MODE [once]
 *
 * Each row three times, or once.
 *
 * with:  the library is there: all rows are right, before and after libshunt took over. Also
 *        where the core sync is made by signals (SHUNT_SYNC=signal).
 * late:  the library is there, but could not know of that: what blocks all signals makes the
 *        update fail, and nothing worse. The control of the one before.
 * plain: it is not: each poke kills or goes wrong; the programs are right, unpoked.
 * naive: a library that only takes SIGTRAP out of masks: each program goes wrong.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>

#include "../api/tap.h"
#include "../common/filter.h"
#include "rows.h"

#ifdef SUITE_TSAN
#define TSAN true
#else
#define TSAN false
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define ASAN true
#else
#define ASAN false
#endif

/* ------------------------------------------------------------------ the meeting */

static KEEP long old_function(long x)
{
	return 2 * x;
}

static KEEP long new_function(long x)
{
	return 2 * x + 1;
}

DEFINE_STATIC_CALL(met, old_function);

static KEEP long site(long x)
{
	return static_call(met)(x) + 10;
}

static _Atomic bool armed, inside, gate, called;
static _Atomic long result;

int __real_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void);

static _Atomic(_Atomic unsigned long *) counter; /* of calls, while the next poke is held */

/* The first sync of a poke: its int3 stand. */
int __wrap_shunt_port_core_sync(void)
{
	int ret = __real_shunt_port_core_sync();

	if (atomic_load(&counter)) {
		_Atomic unsigned long *calls = atomic_exchange(&counter, NULL);
		unsigned long then = *calls;

		AWAIT(*calls > then + 1); /* one begun, one whole */
	}
	if (atomic_exchange(&armed, false)) {
		atomic_store(&gate, true);
		AWAIT(atomic_load(&called));
	}
	return ret;
}

void end(int how)
{
	fflush(stdout);
	_exit(how);
}

static void nothing(void)
{
}

void meet(void)
{
	meet_after(nothing);
}

void meet_after(void (*first)(void))
{
	atomic_store(&inside, true);
	AWAIT(atomic_load(&gate));
	first();
	atomic_store(&result, site(21));
	atomic_store(&called, true);
}

void go_through(void)
{
	long r = site(21);

	CHECK(r == 52 || r == 53);
}

static void change(void)
{
	static bool flip;
	int ret;

	flip = !flip;
	ret = static_call_update(met, flip ? new_function : old_function);
	if (ret == -EAGAIN && (strstr(shunt_last_error(), "which blocks it") ||
			       strstr(shunt_last_error(), "no real-time signal is free")))
		end(REFUSED);
	CHECK(!ret);
}

void poke_alone(void)
{
	change();
	go_through();
}

void poke_beside(_Atomic unsigned long *calls)
{
	atomic_store(&counter, calls);
	change();
}

unsigned long traps(void)
{
	struct shunt_stats stats;

	shunt_get_stats(&stats);
	return (unsigned long)stats.traps;
}

void poke(void)
{
	unsigned long before = traps();

	AWAIT(atomic_load(&inside));
	atomic_store(&armed, true);
	change();
	CHECK(atomic_load(&result) == 52 || atomic_load(&result) == 53);
	if (traps() == before)
		end(MISSED);
	atomic_store(&inside, false);
	atomic_store(&gate, false);
	atomic_store(&called, false);
}

/* --------------------------------------------------------------------- the rows */

static void *on_thread(void *arg)
{
	((const struct row *)arg)->run();
	return NULL;
}

static void run_poke(const struct row *row)
{
	pthread_t thread;

	if (row->alone) {
		row->run();
		end(RIGHT);
	}
	if (row->main_thread) {
		row->run();
		poke();
		end(RIGHT);
	}
	CHECK(!pthread_create(&thread, NULL, on_thread, (void *)(uintptr_t)row));
	poke();
	CHECK(!pthread_join(thread, NULL));
	end(RIGHT);
}

static bool with; /* the library is there */

/* The status of a process that runs @row; a program's after a poke if @poked. */
static int run(const struct row *row, bool is_poke, bool poked)
{
	int status = -1;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (!child) {
		alarm(120);
		if (is_poke)
			run_poke(row);
		if (poked)
			poke_alone();
		else if (!with)
			(void)signal(SIGTRAP, SIG_DFL); /* libshunt has poked at start-up */
		row->run();
		end(RIGHT);
	}
	(void)waitpid(child, &status, 0);
	return status;
}

static const char *said(int status)
{
	static const char *const words[] = {"right", "wrong", "missed", "absent", "refused"};
	static char buffer[32];

	if (WIFEXITED(status) && WEXITSTATUS(status) < 5)
		return words[WEXITSTATUS(status)];
	if (WIFSIGNALED(status))
		snprintf(buffer, sizeof(buffer), "killed by %d", WTERMSIG(status));
	else
		snprintf(buffer, sizeof(buffer), "status %x", (unsigned)status);
	return buffer;
}

static int times_each = 3;
static unsigned good_runs, killed_runs, refused_runs, wrong_runs;

#define NOT_RIGHT (-1)
#define REFUSAL   (-2)
#define EITHER    (-3)

/* @as: what the status must be: 0 right, SIGTRAP killed by it, NOT_RIGHT, REFUSAL, EITHER. */
static bool is_as(int status, int as)
{
	bool right = status == 0, killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGTRAP;

	good_runs += right;
	killed_runs += killed;
	refused_runs += status == REFUSED << 8;
	wrong_runs += !right && !killed && status != REFUSED << 8;
	if (as == 0)
		return right;
	if (as == REFUSAL || (as == EITHER && !right))
		return status == REFUSED << 8;
	if (as == EITHER)
		return true;
	return as > 0 ? killed : !right && status != MISSED << 8;
}

static void report(const struct row *row, bool is_poke, bool poked, int as)
{
	const char *kind = is_poke ? "poke" : poked ? "program, poked" : "program";
	int times = as == REFUSAL || as == EITHER ? 1 : times_each; /* it takes a second */
	int status = 0, i;

	if ((TSAN && row->not_tsan) || (ASAN && row->not_asan)) {
		skip(row->name, "not with this sanitizer");
		return;
	}
	for (i = 0; i < times; i++) {
		status = run(row, is_poke, poked);
		if (status == ABSENT << 8) {
			skip(row->name, "not on this system");
			return;
		}
		if (!is_as(status, as))
			break;
	}
	ok(i == times, "%s: %s: %s, %d times", kind, row->name, said(status), i);
}

/* What a poke is to come to. */
static int expected(const struct row *row, bool late)
{
	bool by_signals = late || getenv("SHUNT_SYNC");

	if (by_signals && with && (row->blocks_ever || (row->blocks_all && late)))
		return row->lets_in ? EITHER : REFUSAL;
	if (row->dies)
		return SIGTRAP;
	return with ? 0 : row->survives ? NOT_RIGHT : SIGTRAP;
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	bool naive = !strcmp(mode, "naive"), late = !strcmp(mode, "late");

	with = late || !strcmp(mode, "with");
	if (argc > 2 && !strcmp(argv[2], "once"))
		times_each = 1;
	if (late)
		/* As a filter that the library did not meet when it started. */
		CHECK(answer_syscall(SYS_membarrier, EPERM));
	if (!strcmp(mode, "meet")) { /* the row that is an exec */
		run_poke(&(struct row){.name = mode, .run = meet});
	}
	for (const struct row *row = pokes; row->name && !naive; row++)
		report(row, true, false, expected(row, late));
	for (const struct row *row = programs; row->name; row++) {
		report(row, false, false, naive && !row->naive_too ? NOT_RIGHT : 0);
		if (with)
			report(row, false, true, 0);
	}
	diag("%s: %u runs right, %u killed by SIGTRAP, %u refused, %u wrong", mode, good_runs,
	     killed_runs, refused_runs, wrong_runs);
	return tap_done();
}
