/* SPDX-License-Identifier: MIT */
/*
 * The driver: each run in a process of its own, because those with a protection
 * taken out are to crash, and what came of it as TAP.
 *
 *	torture             all runs
 *	torture --no-int3   those named
 *
 * SHUNT_TORTURE_UPDATES is the number of updates of the longest run (the others are
 * in proportion). With it, or where they are named, there are also the runs whose
 * outcome the hardware decides.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/port.h>

#include "../common/emulated.h"
#include "torture.h"

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__) || \
	__has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

enum expect {
	HOLDS, /* must go well */
	FAILS, /* must fail, or the test is none */
	EITHER /* depends on the hardware: say what happened */
};

static const struct mode {
	const char *name;
	enum expect expect;
	bool batch;
	enum provoke provoke;
	unsigned percent; /* of the updates of the longest run */
	struct control control;
	const char *write; /* SHUNT_WRITE */
	const char *poke;  /* SHUNT_POKE; NULL: int3 */
} modes[] = {
#if !CPU_HAS_TRAPS
	{"--flip", HOLDS, false, WHOLE, 100, {0}, NULL, "auto"},
	{"--flip-batch", HOLDS, true, WHOLE, 10, {0}, NULL, "auto"},
	{"--mprotect", HOLDS, false, WHOLE, 20, {0}, "mprotect", "auto"},
	{"--torn", FAILS, false, WHOLE, 100, {.torn = true}, NULL, "auto"},
	{"--no-write", FAILS, false, WHOLE, 100, {.no_write = true}, NULL, "auto"},
	{"--no-sync", EITHER, false, FREELY, 100, {.skip_sync = 1 << 3}, NULL, "auto"},
#else
	{"--single", HOLDS, false, MIXED, 100, {0}, NULL, NULL},
	{"--batch", HOLDS, true, MIXED, 3, {0}, NULL, NULL},
	{"--late", HOLDS, false, LATE, 20, {0}, NULL, NULL},
	{"--later", HOLDS, false, LATER, 20, {0}, NULL, NULL},
	{"--mprotect", HOLDS, false, MIXED, 20, {0}, "mprotect", NULL},
	{"--direct", HOLDS, false, FREELY, 100, {.direct = true}, NULL, NULL},
	{"--remap", HOLDS, false, WHOLE, 20, {0}, NULL, "remap"},
	{"--remap-batch", HOLDS, true, WHOLE, 2, {0}, NULL, "remap"},
	{"--atomic", HOLDS, false, WHOLE, 20, {0}, NULL, "atomic"},
	{"--remap-apart", FAILS, false, WHOLE, 100, {.apart = true}, NULL, "remap"},
	{"--remap-no-sync", EITHER, false, FREELY, 20, {.skip_sync = 1 << 3}, NULL, "remap"},
	{"--no-int3", FAILS, false, MIXED, 100, {.no_int3 = true}, NULL, NULL},
	{"--no-int3=free", EITHER, false, FREELY, 100, {.no_int3 = true}, NULL, NULL},
	{"--no-retry", FAILS, false, MIXED, 100, {.resume = true}, NULL, NULL},
	{"--no-retry=foreign", FAILS, false, MIXED, 100, {.foreign = true}, NULL, NULL},
	{"--no-sync=1",
	 EITHER,
	 false,
	 FREELY,
	 100,
	 {.skip_sync = 1 << 1, .direct = true},
	 NULL,
	 NULL},
	{"--no-sync=2",
	 EITHER,
	 false,
	 FREELY,
	 100,
	 {.skip_sync = 1 << 2, .direct = true},
	 NULL,
	 NULL},
	{"--no-sync=3",
	 EITHER,
	 false,
	 FREELY,
	 100,
	 {.skip_sync = 1 << 3, .direct = true},
	 NULL,
	 NULL},
	{"--no-sync=all",
	 EITHER,
	 false,
	 FREELY,
	 100,
	 {.skip_sync = 14, .direct = true},
	 NULL,
	 NULL},
#endif
};

#define NR_MODES (sizeof(modes) / sizeof(modes[0]))

static const char *way_of(const struct mode *mode)
{
	return mode->poke ? mode->poke : "int3";
}

static uint64_t updates_of(const struct mode *mode)
{
	const char *wish = getenv("SHUNT_TORTURE_UPDATES");
	uint64_t all = SANITIZED ? 8000 : is_emulated() ? 1000 : 5000;

	if (mode->expect == FAILS) /* it ends as soon as it has failed */
		all = is_emulated() ? 2000 : 150000;
	else if (wish)
		all = strtoull(wish, NULL, 10);
	return all * mode->percent / 100 + 1;
}

/* ------------------------------------------------------------------ the child */

static int child(const char *name, int fd)
{
	struct rlimit none = {0, 0};
	const struct mode *mode = modes;
	struct shunt_ways ways;
	unsigned seconds;
	bool ok;

	while (strcmp(mode->name, name) != 0)
		mode++;
	stats = mmap(NULL, sizeof(*stats), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (stats == MAP_FAILED)
		return 2;
	(void)setrlimit(RLIMIT_CORE, &none);
	(void)alarm(mode->expect == FAILS ? 120 : 600); /* where four others want the CPUs, too */
	seconds = mode->percent == 100 ? 15 : 6;
	if (!getenv("SHUNT_TORTURE_UPDATES"))
		seconds /= 5;
	ok = run(mode->batch, mode->provoke, &mode->control, updates_of(mode), seconds);
	shunt_get_ways(&ways);
	if (ok && mode->write && strcmp(ways.write, mode->write) != 0) {
		(void)snprintf(stats->message, sizeof(stats->message),
			       "text is written by way of %s", ways.write);
		stats->failed = true;
		ok = false;
	}
	/* _exit: threads that a torn call has sent astray may still run. */
	_exit(!ok);
}

/* Run @mode in a process of its own. Returns what waitpid() says. */
static int spawn(const struct mode *mode, struct stats **out)
{
	int fd = memfd_create("torture", 0), status = -1;
	char number[16];
	pid_t pid;

	if (fd < 0 || ftruncate(fd, sizeof(**out)))
		exit(2);
	*out = mmap(NULL, sizeof(**out), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (*out == MAP_FAILED)
		exit(2);
	(void)snprintf(number, sizeof(number), "%d", fd);
	(void)fflush(stdout);
	pid = fork();
	if (!pid) {
		if (mode->write)
			(void)setenv("SHUNT_WRITE", mode->write, 1);
		(void)setenv("SHUNT_POKE", way_of(mode), 1);
		(void)execl("/proc/self/exe", "torture", "--child", mode->name, number, NULL);
		_exit(2);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		exit(2);
	(void)close(fd);
	return status;
}

/* -------------------------------------------------------------- what it counted */

static uint64_t sum(const _Atomic uint64_t (*counts)[3], enum stage first, enum stage last,
		    enum shunt_trap trap)
{
	uint64_t total = 0;

	for (unsigned s = first; s <= (unsigned)last; s++)
		total += counts[s][trap];
	return total;
}

static uint64_t sum_all(const _Atomic uint64_t (*counts)[3], enum stage first, enum stage last)
{
	return sum(counts, first, last, SHUNT_TRAP_EMULATED) +
	       sum(counts, first, last, SHUNT_TRAP_LATE);
}

static uint64_t all_calls(const struct stats *s)
{
	uint64_t calls = 0;

	for (unsigned i = 0; i < HAMMERS; i++)
		calls += s->calls[i];
	return calls;
}

static void print_counts(const struct stats *s)
{
	printf("# %" PRIu64 " updates, %" PRIu64, s->updates, s->calls[0]);
	for (unsigned i = 1; i < HAMMERS; i++)
		printf(" + %" PRIu64, s->calls[i]);
	printf(" calls, %" PRIu64 " of them with one right result, %" PRIu64 " not checked\n",
	       s->settled, s->unchecked);
	printf("# traps handled: int3 written %" PRIu64 ", synced %" PRIu64 ", tails torn %" PRIu64
	       ", written %" PRIu64 ", synced %" PRIu64 ", first bytes written %" PRIu64
	       ", synced %" PRIu64 ", over %" PRIu64 "\n",
	       sum_all(s->traps, INT3, INT3), sum_all(s->traps, SYNC1, SYNC1),
	       sum_all(s->traps, TORN, TORN), sum_all(s->traps, TAILS, TAILS),
	       sum_all(s->traps, SYNC2, SYNC2), sum_all(s->traps, FIRST, FIRST),
	       sum_all(s->traps, SYNC3, SYNC3),
	       sum_all(s->traps, BEGUN, BEGUN) + sum_all(s->traps, OVER, OVER));
	if (s->remaps || s->stores)
		printf("# remaps %" PRIu64 ", of them of a site across pages %" PRIu64
		       ", calls of the site during them %" PRIu64 "; single stores %" PRIu64 "\n",
		       s->remaps, s->crossing, s->during, s->stores);
	printf("# emulated %" PRIu64 ", late %" PRIu64 ", foreign %" PRIu64
	       "; kept until the poke was over %" PRIu64 ", until the next %" PRIu64
	       "; waits %" PRIu64 ", given up %" PRIu64 "\n",
	       sum(s->traps, BEGUN, OVER, SHUNT_TRAP_EMULATED),
	       sum(s->traps, BEGUN, OVER, SHUNT_TRAP_LATE),
	       sum(s->traps, BEGUN, OVER, SHUNT_TRAP_FOREIGN),
	       (uint64_t)s->held[OVER][SHUNT_TRAP_LATE], (uint64_t)s->next, (uint64_t)s->holds,
	       (uint64_t)s->missed);
}

/* --------------------------------------------------------------- and its meaning */

static const char *too_little_whole(const struct mode *mode, const struct stats *s)
{
	uint64_t traps = sum_all(s->traps, BEGUN, OVER);

	if (!CPU_HAS_TRAPS)
		return traps                    ? "a thread has trapped"
		       : s->stores < s->updates ? "too few stores"
						: NULL;
	if (!strcmp(way_of(mode), "atomic"))
		return s->stores < s->updates / 10 ? "too few stores"
		       : !traps                    ? "no site needed an int3"
						   : NULL;
	if (traps)
		return "a thread has trapped";
	if (s->remaps < s->updates)
		return "too few remaps";
	if (!mode->batch && s->crossing < s->updates / 100)
		return "too few sites that cross pages";
	/* A remap is over in some 5 us: how many meet one is the scheduler's, not that some do. */
	return s->during < s->remaps / 1000 ? "too few calls while pages were remapped" : NULL;
}

/* Whether what @mode is to provoke has happened often enough. */
static const char *too_little(const struct mode *mode, const struct stats *s)
{
	uint64_t want = updates_of(mode) / 1000; /* of the rarest; the usual is 10 times that */

	if (s->updates < updates_of(mode))
		return "updates are missing";
	if (s->missed > s->holds / 10)
		return "too many waits were given up";
	if (mode->provoke == FREELY)
		return NULL;
	if (mode->provoke == WHOLE)
		return too_little_whole(mode, s);
	if (mode->provoke == LATE)
		return s->held[OVER][SHUNT_TRAP_LATE] < want * 10 ? "too few late traps" : NULL;
	if (mode->provoke == LATER)
		return s->held[SYNC1][SHUNT_TRAP_EMULATED] < want * 10 ? "too few late traps"
								       : NULL;
	for (unsigned stage = INT3; stage <= OVER; stage++)
		if (sum_all(s->traps, stage, stage) < want)
			return "a phase has too few traps";
	return s->next < want ? "too few traps were kept into the next poke" : NULL;
}

/* Why the run is a failure; NULL: it is none. */
static const char *failure(const struct stats *s, int status, char text[64])
{
	if (WIFSIGNALED(status)) {
		(void)snprintf(text, 64, WTERMSIG(status) == SIGALRM ? "hung" : "died of SIG%s",
			       sigabbrev_np(WTERMSIG(status)));
		return text;
	}
	if (s->failed)
		return s->message;
	return WEXITSTATUS(status) ? "died" : NULL;
}

/* Print the test line for @mode; whether it is ok. */
static bool judge(const struct mode *mode, const struct stats *s, int status, unsigned number)
{
	char text[64];
	const char *why = failure(s, status, text);
	bool failed = why != NULL, ok;

	if (mode->expect == HOLDS && !failed) {
		why = s->disorder ? "steps of a poke out of order, or without a sync between them"
		      : sum(s->traps, BEGUN, OVER, SHUNT_TRAP_FOREIGN)
			      ? "a trap was taken for somebody else's"
			      : too_little(mode, s);
		failed = why != NULL;
	}
	ok = mode->expect == EITHER || failed == (mode->expect == FAILS);
	printf("%s %u - %s: %" PRIu64 " updates, %" PRIu64 " calls, %" PRIu64 " traps: ",
	       ok ? "ok" : "not ok", number, mode->name + 2, (uint64_t)s->updates, all_calls(s),
	       sum_all(s->traps, BEGUN, OVER));
	if (mode->expect == HOLDS)
		printf("%s\n", failed ? why : "each old or new, none old after its update");
	else
		printf("%s%s\n", failed ? "fails, as it should: " : "does not fail",
		       failed ? why : "");
	return ok;
}

static void name_cpu(void)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	char line[256];

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, "model name", 10)) {
			printf("# cpu: %s", strchr(line, ':') + 2);
			break;
		}
	if (f)
		(void)fclose(f);
}

static bool is_chosen(const struct mode *mode, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], mode->name))
			return true;
	return argc == 1 && (mode->expect != EITHER || getenv("SHUNT_TORTURE_UPDATES"));
}

/* What a control that depends on the hardware has shown. */
static void explain(const struct mode *mode, bool failed)
{
	if (!failed && !CPU_HAS_TRAPS)
		printf("# as expected of an emulator, which has no stale caches\n");
	else if (!failed && mode->poke)
		printf("# as expected where the kernel interrupts the CPUs to flush their TLBs, "
		       "and "
		       "the return from that serialises\n");
	else if (!failed && mode->control.skip_sync == 1 << 3)
		printf("# as designed: a core that still sees the int3 traps, and is emulated or "
		       "retried\n");
	else if (!failed)
		printf("# leaving this out could not be made to fail in this run, on this "
		       "hardware\n");
	if (mode->control.skip_sync)
		printf("# that each sync is asked for, and when, is checked in the runs above\n");
}

static bool test(const struct mode *mode, unsigned number)
{
	struct timespec t0, t1;
	struct stats *s;
	int status;
	bool ok;

	if (SANITIZED && mode->expect != HOLDS) {
		printf("ok %u - %s # SKIP a sanitizer handles the signals\n", number,
		       mode->name + 2);
		return true;
	}
	(void)clock_gettime(CLOCK_MONOTONIC, &t0);
	status = spawn(mode, &s);
	(void)clock_gettime(CLOCK_MONOTONIC, &t1);
	ok = judge(mode, s, status, number);
	print_counts(s);
	printf("# %.1f s\n",
	       (double)(t1.tv_sec - t0.tv_sec) + 1e-9 * (double)(t1.tv_nsec - t0.tv_nsec));
	if (mode->expect == EITHER)
		explain(mode, WIFSIGNALED(status) || s->failed);
	(void)munmap(s, sizeof(*s));
	return ok;
}

int main(int argc, char **argv)
{
	unsigned chosen = 0, number = 0;
	bool ok = true;

	if (argc == 4 && !strcmp(argv[1], "--child"))
		return child(argv[2], atoi(argv[3]));
	for (size_t i = 0; i < NR_MODES; i++)
		chosen += is_chosen(&modes[i], argc, argv);
	printf("1..%u\n", chosen);
	name_cpu();
	for (size_t i = 0; i < NR_MODES; i++)
		if (is_chosen(&modes[i], argc, argv))
			ok &= test(&modes[i], ++number);
	return !ok;
}
