/* SPDX-License-Identifier: MIT */
/*
 * Flips under everything at once: while keys are switched on and off, two threads evaluate their
 * sites, 2,000 signals a second come upon these, whose handler evaluates sites as well, a thread
 * makes children that evaluate and switch, and another loads and unloads a plugin with sites of the
 * keys. The sites: static branches; calls and tail calls that may be NULL, at each offset of a
 * cache line and across a page; calls and tail calls that may return 0 (which retarget, beside the
 * flips of the same batch).
 *
 * What is seen must have been in force at some time between the start and the end of the
 * evaluation; behind an update that has returned that is the new one alone.
 *
 * Controls: two instructions that differ in two bytes, written as flips are, tear. An update whose
 * first bytes are not written is seen. Without the core sync nothing is seen to fail: on an Intel
 * Xeon, 2 CPUs, in 220,000 flips with 620 million evaluations that had one right answer
 * (SHUNT_TORTURE_SECONDS=40); models/flip.pml has what that may come to.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/port.h>

#include "flip_torture.h"

enum { KEYS = 4, OFFSETS = 68 };

DEFINE_STATIC_KEY_FALSE(flip_key);
EXPORT_STATIC_KEY(flip_key);
DEFINE_STATIC_CALL_NULL(flip_call, flip_callee);
EXPORT_STATIC_CALL(flip_call);
DEFINE_STATIC_CALL_NULL(flip_tail, flip_tail_callee);
EXPORT_STATIC_CALL(flip_tail);
DEFINE_STATIC_CALL_RET0(flip_ret0, flip_one);
EXPORT_STATIC_CALL(flip_ret0);

extern void (*const flip_calls[OFFSETS])(int *count), (*const flip_tails[OFFSETS])(int *count);
extern const struct flip_sites own_sites;
DEFINE_FLIP_SITES(own);

KEEP void flip_callee(int *count)
{
	++*count;
}

KEEP void flip_tail_callee(int *count)
{
	++*count;
}

KEEP int flip_one(void)
{
	return 1;
}

/* An update makes @begun the number of the one that begins and, behind it, @done; odd: on. */
static struct history {
	_Alignas(64) _Atomic uint64_t begun, done;
} history[KEYS];

static struct {
	_Atomic bool stop, failed;
	_Atomic uint64_t seen, settled, signals, children, loads;
	char message[160];
} run;

static void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void fail(const char *format, ...)
{
	va_list args;

	if (atomic_exchange(&run.failed, true))
		return;
	va_start(args, format);
	(void)vsnprintf(run.message, sizeof(run.message), format, args);
	va_end(args);
}

/* ------------------------------------------------------------------ evaluations */

static int by_offset(void (*const *fns)(int *), unsigned i)
{
	int count = 0;

	fns[i % OFFSETS](&count);
	return count;
}

/* Site @i of key @key, of @sites or of those in assembly. */
static int evaluate(const struct flip_sites *sites, unsigned key, unsigned i)
{
	switch (key) {
	case 0:
		return i % 2 ? sites->branch() : sites->likely();
	case 1:
		return i % 2 ? by_offset(flip_calls, i / 2) : sites->call();
	case 2:
		return i % 2 ? by_offset(flip_tails, i / 2) : sites->tail();
	default:
		return sites->ret0();
	}
}

static void check(const struct flip_sites *sites, unsigned i, const char *who)
{
	unsigned key = i % KEYS;
	struct history *h = &history[key];
	uint64_t done = atomic_load_explicit(&h->done, memory_order_acquire), begun;
	int value = evaluate(sites, key, i / KEYS);

	begun = atomic_load_explicit(&h->begun, memory_order_acquire);
	atomic_fetch_add_explicit(&run.seen, 1, memory_order_relaxed);
	if (begun == done)
		atomic_fetch_add_explicit(&run.settled, 1, memory_order_relaxed);
	if ((value & ~1) || (begun == done && value != (int)(done & 1)))
		fail("%s: key %u, site %u says %d; update %" PRIu64 " was done, %" PRIu64 " begun",
		     who, key, i / KEYS, value, done, begun);
}

static void on_signal(int sig)
{
	static _Atomic unsigned n;
	int saved = errno;

	(void)sig;
	for (unsigned i = 0; i < KEYS; i++)
		check(&own_sites, atomic_fetch_add(&n, 7), "handler");
	atomic_fetch_add(&run.signals, 1);
	errno = saved;
}

/* 1,000 signals a second to this thread. */
static bool send_signals(timer_t *timer)
{
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
	struct itimerspec each = {{0, 1000000}, {0, 1000000}};

	event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
	return !timer_create(CLOCK_MONOTONIC, &event, timer) &&
	       !timer_settime(*timer, 0, &each, NULL);
}

static void *hammer(void *arg)
{
	unsigned i = *(unsigned *)arg;
	timer_t timer;

	if (!send_signals(&timer)) {
		fail("timer_create: %s", strerror(errno));
		return NULL;
	}
	while (!run.stop && !run.failed)
		check(&own_sites, i++, "thread");
	(void)timer_delete(timer);
	return NULL;
}

/* ------------------------------------------------------------------------ switching */

static int turn(unsigned key, bool on)
{
	switch (key) {
	case 0:
		return on ? static_branch_enable(&flip_key) : static_branch_disable(&flip_key);
	case 1:
		return on ? static_call_update(flip_call, flip_callee)
			  : static_call_update(flip_call, NULL);
	case 2:
		return on ? static_call_update(flip_tail, flip_tail_callee)
			  : static_call_update(flip_tail, NULL);
	default:
		return on ? static_call_update(flip_ret0, flip_one)
			  : static_call_update(flip_ret0, STATIC_CALL_RET0);
	}
}

static int turn_all(bool on)
{
	struct static_call_batch batch = STATIC_CALL_BATCH_INIT;
	int ret = on ? static_branch_batch_enable(&batch, &flip_key)
		     : static_branch_batch_disable(&batch, &flip_key);

	if (!ret)
		ret = on ? static_call_batch_add(&batch, flip_call, flip_callee)
			 : static_call_batch_add(&batch, flip_call, NULL);
	if (!ret)
		ret = on ? static_call_batch_add(&batch, flip_tail, flip_tail_callee)
			 : static_call_batch_add(&batch, flip_tail, NULL);
	if (!ret)
		ret = on ? static_call_batch_add(&batch, flip_ret0, flip_one)
			 : static_call_batch_add(&batch, flip_ret0, STATIC_CALL_RET0);
	if (!ret)
		ret = static_call_batch_commit(&batch);
	static_call_batch_destroy(&batch);
	return ret;
}

static void begin_updates(unsigned first, unsigned last)
{
	for (unsigned k = first; k <= last; k++)
		atomic_store_explicit(&history[k].begun, history[k].done + 1, memory_order_release);
}

static void end_updates(unsigned first, unsigned last)
{
	for (unsigned k = first; k <= last; k++)
		atomic_store_explicit(&history[k].done, history[k].begun, memory_order_release);
}

static struct {
	unsigned updates, flips;
} switched;

/* A plugin that comes meanwhile is an update too; so not each that is a flip is counted. */
static void note_way(void)
{
	struct shunt_ways ways;

	shunt_get_ways(&ways);
	switched.updates++;
	switched.flips += !strcmp(ways.poke, "flip");
}

/* The @i-th: of one key in
 * turn, or each fifth pair of all keys. */
static void update(unsigned i)
{
	bool all = i / 2 % 5 == 4, on = i % 2 == 0;
	unsigned first = all ? 0 : i / 2 % KEYS, last = all ? KEYS - 1 : first;
	int ret;

	begin_updates(first, last);
	ret = all ? turn_all(on) : turn(first, on);
	end_updates(first, last);
	if (ret)
		fail("update %u: %s", i, shunt_last_error());
	else
		note_way();
}

/* -------------------------------------------------------------------- forks, modules */

static bool all_say(unsigned key, int value)
{
	for (unsigned i = 0; i < 2 * OFFSETS; i++)
		if (evaluate(&own_sites, key, i) != value)
			return false;
	return true;
}

/*
 * A child is between two updates, whatever its parent was in, and goes on from there; or where the
 * parent was in the middle of loading the plugin, each update fails, and changes nothing.
 */
static int in_child(void)
{
	for (unsigned key = 0; key < KEYS; key++) {
		int now = evaluate(&own_sites, key, 0), ret;

		if (!all_say(key, now))
			return 1;
		ret = turn(key, !now);
		if (ret && ret != -EIO)
			return 2;
		if (!all_say(key, ret ? now : !now))
			return 3;
	}
	return 0;
}

static void *fork_all_the_time(void *arg)
{
	while (!run.stop && !run.failed) {
		struct timespec moment = {0, 2000000};
		int status = 0;
		pid_t pid = fork();

		if (!pid)
			_exit(in_child());
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status) {
			fail("child %d: status %#x", (int)pid, (unsigned)status);
			break;
		}
		run.children++;
		(void)nanosleep(&moment, NULL);
	}
	return arg;
}

static void *load_all_the_time(void *arg)
{
	for (unsigned i = 0; !run.stop && !run.failed; run.loads++) {
		void *plugin = dlopen(arg, RTLD_NOW | RTLD_LOCAL);
		const struct flip_sites *sites = plugin ? dlsym(plugin, "plugin_sites") : NULL;

		if (!sites) {
			fail("%s", dlerror());
			break;
		}
		for (unsigned n = 0; n < 400 && !run.failed; n++)
			check(sites, i++, "plugin");
		(void)dlclose(plugin);
	}
	return arg;
}

/* --------------------------------------------------------------------------- a run */

/* What the controls leave out. */
static _Atomic bool drop_writes, drop_syncs;

int __real_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void)
{
	return drop_syncs ? 0 : __real_shunt_port_core_sync();
}

int __real_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n)
{
	return drop_writes ? 0 : __real_shunt_port_text_write(writes, n);
}

static double now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* At least so much of each has to be met, or the run says nothing. */
static bool has_met_all(void)
{
	return run.signals > 300 && run.children > 20 && run.loads > 20 && run.settled > 10000 &&
	       switched.flips > 300;
}

static bool torture(const char *plugin, double seconds, bool alone)
{
	static unsigned starts[2] = {0, 5};
	pthread_t threads[4];
	unsigned n = 0, i = 0;
	double start = now();

	if (!pthread_create(&threads[n], NULL, hammer, &starts[0]))
		n++;
	if (!pthread_create(&threads[n], NULL, hammer, &starts[1]))
		n++;
	if (!alone && !pthread_create(&threads[n], NULL, fork_all_the_time, NULL))
		n++;
	if (!alone && !pthread_create(&threads[n], NULL, load_all_the_time, (void *)plugin))
		n++;
	if (n != (alone ? 2 : 4))
		fail("pthread_create");
	while (!run.failed &&
	       (now() < start + seconds || (!alone && !has_met_all() && now() < start + 600)))
		if (!drop_writes || !i)
			update(i++);
	run.stop = true;
	while (n)
		(void)pthread_join(threads[--n], NULL);
	return !run.failed;
}

static void tell(const char *what)
{
	diag("%s: %u updates, %u of them by flips; %" PRIu64 " evaluations, %" PRIu64
	     " with one right answer; %" PRIu64 " signals, %" PRIu64 " children, %" PRIu64 " loads",
	     what, switched.updates, switched.flips, (uint64_t)run.seen, (uint64_t)run.settled,
	     (uint64_t)run.signals, (uint64_t)run.children, (uint64_t)run.loads);
	if (run.failed)
		diag("%s: %s", what, run.message);
}

/* ----------------------------------------------------------------------- controls */

/* As long as the user wants it to be. */
static double seconds(double otherwise)
{
	const char *wish = getenv("SHUNT_TORTURE_SECONDS");

	return wish ? strtod(wish, NULL) : otherwise;
}

static bool is_run_in_child(int (*fn)(void))
{
	int status = 0;
	pid_t pid;

	(void)fflush(stdout);
	pid = fork();
	if (!pid) {
		struct rlimit none = {0, 0};

		(void)setrlimit(RLIMIT_CORE, &none);
		(void)alarm(600 + (unsigned)seconds(0));
		_exit(fn());
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && !status;
}

static int without_writes(void)
{
	drop_writes = true;
	return torture(NULL, 10, true) ? 0 : 1;
}

static int without_syncs(void)
{
	bool held;

	drop_syncs = true;
	held = torture(NULL, seconds(1), true);
	tell("without a core sync");
	return held ? 0 : 1;
}

/* The two instructions set one half of ax each. */
int flip_two_bytes(void);
extern uint8_t flip_two_bytes_site[];

static _Atomic int torn;

static void *run_two_bytes(void *arg)
{
	while (!run.stop) {
		int value = flip_two_bytes();

		if (value != 0x0001 && value != 0x0200)
			torn = value;
	}
	return arg;
}

static int two_bytes_at_once(void)
{
	static const uint8_t insn[2][2] = {{0xb0, 1}, {0xb4, 2}};
	int mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	double end = now() + 300;
	pthread_t threads[2];
	unsigned long n = 0;

	for (unsigned t = 0; t < 2; t++)
		if (mem < 0 || pthread_create(&threads[t], NULL, run_two_bytes, NULL))
			return 0;
	while (!torn && now() < end)
		if (pwrite(mem, insn[++n % 2], 2, (off_t)(uintptr_t)flip_two_bytes_site) != 2 ||
		    __real_shunt_port_core_sync())
			return 0;
	run.stop = true;
	for (unsigned t = 0; t < 2; t++)
		(void)pthread_join(threads[t], NULL);
	diag("two bytes at once: %lu writes until %#x was seen", n, (unsigned)torn);
	return torn ? 1 : 0;
}

/* Children's and the control's; what fails here is told with shunt_last_error(). */
static void ignore_message(const char *message, void *arg)
{
	(void)message;
	(void)arg;
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

	shunt_set_log(ignore_message, NULL);
	if (argc < 2 || sigaction(SIGUSR1, &action, NULL))
		return 2;
	ok(!is_run_in_child(two_bytes_at_once), "two bytes that differ, written at once, tear");
	ok(!is_run_in_child(without_writes), "updates that write nothing are seen");
	(void)is_run_in_child(without_syncs);
	ok(torture(argv[1], seconds(3), false),
	   "every evaluation is old or new, and none is old behind an update");
	tell("all");
	ok(has_met_all(), "signals, children, modules and flips were met");
	return tap_done();
}
