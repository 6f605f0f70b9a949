/* SPDX-License-Identifier: MIT */
/* The rows of a program of hostile processes: each started, counted, waited for, judged. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hostile.h"

#define WATCHDOG 60 /* seconds */

/* What the process of a row leaves behind, however it ends. */
struct tally {
	_Atomic uint64_t provoked, failures;
	_Atomic bool is_told;
	_Atomic bool is_skipped;
	char what[160]; /* the first failure, or why it is skipped */
};

static const char *const way_names[NR_WAYS] = {"int3", "remap", "auto", "atomic", "flip"};

const char *way_name(const struct row *r)
{
	return way_names[r->way];
}

/* A flip is a flip under every policy. */
static const char *policy(enum way way)
{
	return way_names[way == FLIP ? AUTO : way];
}

/* ---------------------------------------------------------------------- for rows */

void provoked(struct row *r, uint64_t n)
{
	atomic_fetch_add(&r->tally->provoked, n);
}

uint64_t times_provoked(const struct row *r)
{
	return atomic_load(&r->tally->provoked);
}

bool more(const struct row *r)
{
	return times_provoked(r) < r->times && !atomic_load(&r->tally->failures);
}

static void tell(struct tally *t, const char *what)
{
	size_t i = 0;

	if (atomic_exchange(&t->is_told, true))
		return;
	for (; what[i] && i < sizeof(t->what) - 1; i++)
		t->what[i] = what[i] == '|' ? '/' : what[i];
}

void failed(struct row *r, const char *what)
{
	tell(r->tally, what);
	atomic_fetch_add(&r->tally->failures, 1);
}

_Noreturn void skip_row(struct row *r, const char *why)
{
	tell(r->tally, why);
	atomic_store(&r->tally->is_skipped, true);
	_exit(0);
}

/* Steele, Lea and Flood's SplitMix64. */
uint64_t pick(struct row *r, uint64_t below)
{
	uint64_t z = __atomic_add_fetch(&r->seed, 0x9e3779b97f4a7c15u, __ATOMIC_RELAXED);

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return (z ^ z >> 31) % below;
}

/*
 * HOSTILE_PART: the n-th part of what a row provokes where it is to hold. Controls have all, and
 * end with their failure.
 */
static uint64_t part_of(uint64_t times)
{
	const char *part = getenv("HOSTILE_PART");
	uint64_t n = part ? strtoull(part, NULL, 10) : 1;

	return n ? (times + n - 1) / n : times;
}

/* ------------------------------------------------------------------ the processes */

/* In the process of the row. */
static int run_here(struct row *r, struct tally *tally)
{
	r->tally = tally;
	if (r->way == FLIP)
		change_by_flip();
	r->run(r);
	return 0;
}

/* The same program once more: nothing that a row does to its process is seen by another. */
static void become(const char *self, const struct row *r, int fd)
{
	char number[16], seed[24];

	(void)snprintf(number, sizeof(number), "%d", fd);
	(void)snprintf(seed, sizeof(seed), "%llu", (unsigned long long)r->seed);
	(void)setenv("HOSTILE_FD", number, 1);
	(void)setenv("SHUNT_POKE", policy(r->way), 1);
	(void)setenv("SHUNT_LOG", "0", 1);
	(void)setpgid(0, 0);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	execl("/proc/self/exe", self, r->name, way_names[r->way], "--seed", seed,
	      r->is_control ? "--control" : NULL, (char *)NULL);
	_exit(127);
}

static uint64_t now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Its status; or -1, and it is killed, with what it has started. */
static int wait_for(pid_t child, unsigned seconds)
{
	const struct timespec moment = {.tv_nsec = 1000000};
	uint64_t end = now() + seconds * 1000000000ull;
	bool hangs = false;
	int status = -1;

	while (waitpid(child, &status, WNOHANG) == 0) {
		if (now() > end && !hangs) {
			hangs = true;
			(void)kill(child, SIGKILL);
		}
		(void)nanosleep(&moment, NULL);
	}
	(void)kill(-child, SIGKILL); /* what it has left running */
	return hangs ? -1 : status;
}

struct outcome {
	uint64_t provoked, failures;
	bool is_skipped;
	bool is_trap;    /* died of SIGTRAP */
	char words[200]; /* "holds", "fails (...)" */
};

static void judge(struct outcome *o, struct tally *t, int status)
{
	const char *skipped = t->is_skipped ? t->what : NULL;

	o->provoked = t->provoked;
	o->failures = t->failures + (status != 0);
	o->is_skipped = skipped;
	o->is_trap = status >= 0 && WIFSIGNALED(status) && WTERMSIG(status) == SIGTRAP;
	if (skipped)
		(void)snprintf(o->words, sizeof(o->words), "skipped (%s)", skipped);
	else if (status == -1)
		(void)snprintf(o->words, sizeof(o->words), "fails (hangs)");
	else if (WIFSIGNALED(status))
		(void)snprintf(o->words, sizeof(o->words), "fails (killed by SIG%s)",
			       sigabbrev_np(WTERMSIG(status)));
	else if (o->failures)
		(void)snprintf(o->words, sizeof(o->words), "fails (%s)",
			       t->what[0] ? t->what : "exit status");
	else
		(void)snprintf(o->words, sizeof(o->words), "holds");
}

/* Run @r as it is set up, in a process of its own. */
static struct outcome run_away(const char *self, const struct row *r)
{
	struct outcome o = {.is_skipped = false};
	int fd = memfd_create("tally", 0);
	struct tally *tally;
	pid_t child;

	if (fd < 0 || ftruncate(fd, sizeof(*tally)))
		abort();
	tally = mmap(NULL, sizeof(*tally), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (tally == MAP_FAILED)
		abort();
	(void)fflush(stdout);
	child = fork();
	if (!child)
		become(self, r, fd);
	judge(&o, tally, wait_for(child, r->seconds ? r->seconds : WATCHDOG));
	(void)munmap(tally, sizeof(*tally));
	(void)close(fd);
	return o;
}

/* ------------------------------------------------------------------------ the rows */

static enum expected expected(const struct row *r, enum way way)
{
	if (!CPU_HAS_TRAPS && (way == INT3 || way == ATOMIC))
		return NOT_RUN;
	if (way == ATOMIC)
		return r->atomic ? r->int3 : NOT_RUN;
	if (way == FLIP)
		return r->flip ? HOLDS : NOT_RUN;
	return way == INT3 ? r->int3 : HOLDS;
}

static const char *unfit(const struct row *r)
{
#ifdef SUITE_TSAN
	if (r->not_tsan)
		return "cannot be provoked beside ThreadSanitizer";
#endif
#ifdef SUITE_ASAN
	if (r->not_asan)
		return "cannot be provoked beside AddressSanitizer";
#endif
	(void)r;
	return NULL;
}

static void report(const struct row *r, const struct outcome *o, const char *control)
{
	diag("row|%s|%s|%llu|%llu|%s|%s", r->name, way_names[r->way],
	     (unsigned long long)o->provoked, (unsigned long long)o->failures, control, o->words);
}

/* The control of its own: what it said. */
static const char *run_control(const char *self, struct row *r)
{
	static char said[320];
	struct outcome o;

	if (r->control_by_int3 && r->way != FIRST_WAY)
		return said;
	if (r->control_by_remap && r->way != REMAP)
		return r->way < REMAP ? "-" : said;
	if (r->control_not_flip && r->way == FLIP)
		return "-";
	r->is_control = true;
	o = run_away(self, r);
	r->is_control = false;
	ok(o.failures || o.is_skipped, "%s, %s: control, %s: %s", r->name, way_names[r->way],
	   r->control, o.words);
	(void)snprintf(said, sizeof(said), "%s: %s", r->control, o.words);
	return said;
}

/* @control: what the int3 run said, where that is the control. */
static void run_way(const char *self, struct row *r, enum way way, char *control, size_t size)
{
	enum expected hope = expected(r, way);
	struct outcome o;
	bool good;

	r->way = way;
	o = run_away(self, r);
	if (o.is_skipped) {
		skip(r->name, o.words);
		return;
	}
	good = hope == EITHER || (hope == FAILS) == (o.failures != 0);
	if (hope == HOLDS)
		good = good && o.provoked >= part_of(r->times);
	ok(good, "%s, %s: %s, %llu %s%s", r->name, way_names[way], o.words,
	   (unsigned long long)o.provoked, r->unit,
	   hope == FAILS    ? " (must fail)"
	   : hope == EITHER ? " (may fail)"
			    : "");
	if (way == INT3 && !r->control)
		(void)snprintf(control, size, "by int3: %s", o.words);
	report(r, &o, r->control && hope == HOLDS ? run_control(self, r) : control);
}

/* HOSTILE_WAYS: those that are run, where not all are. */
static bool is_chosen(enum way way)
{
	const char *ways = getenv("HOSTILE_WAYS");

	return !ways || strstr(ways, way_names[way]);
}

static void run_row(const char *self, struct row *r)
{
	const char *why = unfit(r);
	char control[256] = "-";

	diag("title|%s|%s|%s", r->name, r->title, r->unit);
	if (why) {
		skip(r->name, why);
		return;
	}
	for (enum way way = INT3; way < NR_WAYS; way++)
		if (expected(r, way) != NOT_RUN && is_chosen(way))
			run_way(self, r, way, control, sizeof(control));
}

/* --------------------------------------------------------------------------- main */

static struct row *find(struct row *rows, const char *name)
{
	for (; rows->name; rows++)
		if (!strcmp(rows->name, name))
			return rows;
	return NULL;
}

static int list(const struct row *rows)
{
	for (const struct row *r = rows; r->name; r++)
		for (enum way way = INT3; way < NR_WAYS && !unfit(r); way++)
			if (expected(r, way) == HOLDS)
				printf("%s %s %u\n", r->name, way_names[way],
				       r->seconds ? r->seconds : WATCHDOG);
	return 0;
}

/* ROW WAY [--control] [--seed N]: here, now. */
static int run_one(int argc, char **argv, struct row *r)
{
	const char *fd = getenv("HOSTILE_FD"), *poke = getenv("SHUNT_POKE");
	struct tally *tally;
	enum way way = INT3;

	while (way < NR_WAYS && strcmp(way_names[way], argv[2]) != 0)
		way++;
	if (way == NR_WAYS)
		return 2;
	r->way = way;
	for (int i = 3; i < argc; i++) {
		if (!strcmp(argv[i], "--control"))
			r->is_control = true;
		else if (!strcmp(argv[i], "--seed") && argv[++i])
			r->seed = strtoull(argv[i], NULL, 0);
	}
	if (!r->is_control && expected(r, way) != FAILS)
		r->times = part_of(r->times);
	if (!poke || strcmp(poke, policy(way)) != 0) { /* by hand: start-up is to know too */
		(void)setenv("SHUNT_POKE", policy(way), 1);
		(void)setenv("SHUNT_LOG", "0", 1);
		return execv("/proc/self/exe", argv);
	}
	tally = mmap(NULL, sizeof(*tally), PROT_READ | PROT_WRITE,
		     fd ? MAP_SHARED : MAP_SHARED | MAP_ANONYMOUS, fd ? atoi(fd) : -1, 0);
	if (tally == MAP_FAILED)
		return 2;
	if (fd)
		(void)close(atoi(fd));
	(void)run_here(r, tally);
	if (!fd)
		printf("%llu %s, %llu failures %s\n", (unsigned long long)tally->provoked, r->unit,
		       (unsigned long long)tally->failures, tally->what);
	return !fd && tally->failures ? 1 : 0;
}

void print_costs(void);

int hostile_main(int argc, char **argv, struct row *rows)
{
	struct row *one = argc > 2 ? find(rows, argv[1]) : NULL;

	if (argc > 1 && !strcmp(argv[1], "--list"))
		return list(rows);
	if (one)
		return run_one(argc, argv, one);
	if (argc > 1) {
		(void)fprintf(stderr, "usage: %s [--list | ROW WAY [--control] [--seed N]]\n",
			      argv[0]);
		return 2;
	}
	for (struct row *r = rows; r->name; r++)
		run_row(argv[0], r);
	print_costs();
	return tap_done();
}
