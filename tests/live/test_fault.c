/* SPDX-License-Identifier: MIT */
/*
 * Faults in the real process: each write to text and each core sync of an update
 * fails in turn, in each way and with each error, while another thread runs
 * through the sites without a pause. Linked with --wrap around the port's two
 * functions. Negative controls, in children: without the way back, and without the trap
 * path, the same faults leave what the tests look for. Prints how many faults were injected.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>

#include "linux/linux.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* ------------------------------------------------------------------- the sites */

static long old_function(long x)
{
	return 2 * x;
}

/* Kept apart: were they alike, a linker could make one of them. */
static long new_function(long x)
{
	return 2 * x + 1;
}

DEFINE_STATIC_CALL(faulty, old_function);

#define NOINLINE __attribute__((noinline))

static NOINLINE long tail_1(long x)
{
	return static_call(faulty)(x);
}

static NOINLINE long tail_2(long x)
{
	return static_call(faulty)(x + 2);
}

static NOINLINE long tail_3(long x)
{
	return static_call(faulty)(3 * x);
}

static NOINLINE long call_1(long x)
{
	return static_call(faulty)(x) + 10;
}

static NOINLINE long call_2(long x)
{
	return 5 - static_call(faulty)(x);
}

/* Two calls in one function: both results have to be of one kind or the other. */
static NOINLINE long calls_3(long x)
{
	long first = static_call(faulty)(x) - 2 * x;

	return 100 * first + static_call(faulty)(x);
}

static NOINLINE long call_4(long x)
{
	return static_call(faulty)(x) ^ 64;
}

#define BIT(value) ((value) == 0 || (value) == 1)

/* One round through all sites; false if a call was of neither function. */
static bool round_trip(long x, unsigned *new_results)
{
	long r[] = {
		tail_1(x) - 2 * x,      tail_2(x) - 2 * (x + 2), tail_3(x) - 6 * x,
		call_1(x) - 10 - 2 * x, 5 - call_2(x) - 2 * x,   (call_4(x) ^ 64) - 2 * x,
	};
	long two = calls_3(x) - 2 * x;
	bool right = two == 0 || two == 1 || two == 100 || two == 101;

	*new_results = (unsigned)(two / 100 + two % 100);
	for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
		right = right && BIT(r[i]);
		*new_results += (unsigned)r[i];
	}
	return right;
}

#define SITES 8

struct place {
	uint8_t *addr;
	size_t len;
	uint8_t before[6];
};

static struct place places[2 * SITES];
static size_t nr_places, nr_tails;

static int add_place(const struct shunt_site_info *info, void *arg)
{
	(void)arg;
	assert_true(nr_places < ARRAY_SIZE(places));
	places[nr_places++] = (struct place){.addr = info->addr, .len = info->len};
	nr_tails += info->state == SHUNT_SITE_TAIL;
	assert_null(info->why);
	return 0;
}

static void remember_text(void)
{
	for (size_t i = 0; i < nr_places; i++)
		memcpy(places[i].before, places[i].addr, places[i].len);
}

static bool is_text_as_before(void)
{
	for (size_t i = 0; i < nr_places; i++)
		if (memcmp(places[i].before, places[i].addr, places[i].len) != 0)
			return false;
	return true;
}

static size_t count_int3(void)
{
	size_t n = 0;

	for (size_t i = 0; i < nr_places; i++)
		n += *places[i].addr == 0xcc;
	return n;
}

/* ---------------------------------------------------------------------- faults */

enum what_fails {
	A_WRITE,       /* in a vector: what comes before it is done */
	A_VECTOR,      /* nothing of it is done */
	A_DONE_VECTOR, /* all of it is done, and then the error */
	A_SYNC,        /* not done */
	A_DONE_SYNC,   /* done, and then the error */
	NR_WHAT,
};

static struct {
	bool armed, onwards;
	enum what_fails what;
	size_t at;
	int error;
	size_t seen[3]; /* writes, vectors, syncs */
	const char *step;
	unsigned long injected;
} fault;

static const char *const write_steps[] = {"write int3", "write the tails", "write the first bytes"};
static const char *const sync_steps[] = {"core sync after int3", "core sync after the tails",
					 "core sync after the first bytes"};

static bool fires(enum what_fails what, size_t count)
{
	bool fire = fault.armed && fault.what == what &&
		    (fault.onwards ? count >= fault.at : count == fault.at);

	if (fire && !fault.step)
		fault.step = (what >= A_SYNC ? sync_steps : write_steps)[fault.seen[2]];
	fault.injected += fire;
	return fire;
}

/* For the negative controls. */
static struct {
	bool no_way_back; /* behind a fault, nothing is written any more */
	bool no_trap_path;
} control;

static int injected(const char *call)
{
	shunt_failed_call = call;
	return -fault.error;
}

int __real_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __real_shunt_port_core_sync(void);
int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __wrap_shunt_port_core_sync(void);
enum shunt_trap __real_shunt_trap(struct shunt_regs *regs);
enum shunt_trap __wrap_shunt_trap(struct shunt_regs *regs);

enum shunt_trap __wrap_shunt_trap(struct shunt_regs *regs)
{
	return control.no_trap_path ? SHUNT_TRAP_FOREIGN : __real_shunt_trap(regs);
}

int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n)
{
	size_t vector = ++fault.seen[1];
	int ret;

	if (control.no_way_back && fault.step)
		return 0;
	if (fires(A_VECTOR, vector))
		return injected("injected write");
	for (size_t i = 0; i < n; i++)
		if (fires(A_WRITE, ++fault.seen[0])) {
			ret = i ? __real_shunt_port_text_write(writes, i) : 0;
			return ret ? ret : injected("injected write");
		}
	ret = __real_shunt_port_text_write(writes, n);
	return !ret && fires(A_DONE_VECTOR, vector) ? injected("injected write") : ret;
}

int __wrap_shunt_port_core_sync(void)
{
	size_t sync = fault.seen[2] + 1;
	int ret = 0;

	if (fires(A_SYNC, sync)) {
		ret = injected("injected sync");
	} else {
		ret = __real_shunt_port_core_sync();
		if (!ret && fires(A_DONE_SYNC, sync))
			ret = injected("injected sync");
	}
	fault.seen[2] = sync;
	return ret;
}

static void arm(enum what_fails what, size_t at, int error, bool onwards)
{
	memset(fault.seen, 0, sizeof(fault.seen));
	fault.step = NULL;
	fault.what = what;
	fault.at = at;
	fault.error = error;
	fault.onwards = onwards;
	fault.armed = true;
}

static void disarm(void)
{
	fault.armed = false;
	memset(fault.seen, 0, sizeof(fault.seen));
}

/* --------------------------------------------------------- the hammering thread */

static struct {
	pthread_t thread;
	_Atomic bool stop;
	_Atomic unsigned long rounds, wrong;
	_Atomic unsigned long new_results; /* of the last round: 0 to SITES */
} hammer;

static void *run_through_the_sites(void *arg)
{
	(void)arg;
	for (long x = 0; !hammer.stop; x = (x + 1) & 0xffff) {
		unsigned new_results;

		if (!round_trip(x, &new_results))
			hammer.wrong++;
		hammer.new_results = new_results;
		hammer.rounds++;
	}
	return NULL;
}

/* Until it has begun and finished a round since now. */
static void wait_for_a_round(void)
{
	unsigned long now = hammer.rounds;

	while (hammer.rounds < now + 2)
		sched_yield();
}

/* ----------------------------------------------------------------------- tests */

static int update(bool new)
{
	return new ? static_call_update(faulty, new_function)
		   : static_call_update(faulty, old_function);
}

static void *function(bool new)
{
	return new ? (void *)new_function : (void *)old_function;
}

/* Every call that starts now, on either thread, reaches this function. */
static void expect_calls_reach(bool new)
{
	unsigned new_results;

	assert_ptr_equal(static_call_query(faulty), function(new));
	assert_true(round_trip(1234, &new_results));
	assert_int_equal(new_results, new ? SITES : 0);
	wait_for_a_round();
	assert_int_equal(hammer.new_results, new ? SITES : 0);
	assert_int_equal(hammer.wrong, 0);
}

static void expect_message(int error, const char *step)
{
	const char *message = shunt_last_error();
	char site[32];
	bool named = false;

	if (!strstr(message, "key faulty") || !strstr(message, step) ||
	    !strstr(message, ": injected ") || !strstr(message, strerror(error)))
		fail_msg("the message is \"%s\"; wanted: %s, %s", message, step, strerror(error));
	for (size_t i = 0; i < nr_places; i++) {
		(void)snprintf(site, sizeof(site), "site %p", (void *)places[i].addr);
		named = named || strstr(message, site);
	}
	assert_true(named);
}

static const int errors[] = {EIO, EPERM, ENOMEM};

/* One fault, at each place in turn, both ways; nothing has changed. */
static void fail_once(enum what_fails what, int error)
{
	bool new = static_call_query(faulty) == function(true);

	for (size_t at = 1;; at++) {
		int ret;

		remember_text();
		arm(what, at, error, false);
		ret = update(!new);
		if (!ret) { /* beyond the last one */
			assert_null(fault.step);
			disarm();
			expect_calls_reach(!new);
			return;
		}
		assert_int_equal(ret, -error);
		assert_non_null(fault.step);
		assert_true(is_text_as_before());
		expect_message(error, fault.step);
		disarm();
		expect_calls_reach(new);

		assert_int_equal(update(!new), 0);
		assert_false(is_text_as_before());
		assert_int_equal(count_int3(), 0);
		expect_calls_reach(!new);
		new = !new;
	}
}

static void each_step_fails_once(void **state)
{
	unsigned long before = fault.injected;

	(void)state;
	for (size_t e = 0; e < ARRAY_SIZE(errors); e++)
		for (enum what_fails what = 0; what < NR_WHAT; what++)
			for (unsigned direction = 0; direction < 2; direction++)
				fail_once(what, errors[e]);
	/* At least int3, tail and first byte of each site, and three of the others. */
	assert_true(fault.injected - before >= 2 * ARRAY_SIZE(errors) * (3 * SITES + 4 * 3));
	print_message("%lu faults injected, %lu rounds beside them\n", fault.injected - before,
		      hammer.rounds);
}

/*
 * From one place on everything of a kind fails, the way back as well. Sites may be
 * left on an int3, and still each call reaches what query() says.
 */
static void each_step_fails_for_good(void **state)
{
	unsigned long before = fault.injected, left = 0;

	(void)state;
	for (enum what_fails what = 0; what < NR_WHAT; what++)
		for (size_t at = 1;; at++) {
			bool new = static_call_query(faulty) == function(true), now;
			const char *step;
			int ret;

			remember_text();
			arm(what, at, EIO, true);
			ret = update(!new);
			step = fault.step;
			if (step) {
				now = ret ? new : !new;
				assert_true(*shunt_last_error());
				assert_true(!ret || ret == -EIO);
				assert_true(is_text_as_before() || count_int3() || !ret);
				left += count_int3();
			} else {
				now = !new;
				assert_int_equal(ret, 0);
			}
			expect_calls_reach(now);
			disarm();
			assert_int_equal(update(!now), 0);
			assert_int_equal(count_int3(), 0);
			expect_calls_reach(!now);
			if (!step)
				break;
		}
	assert_true(left > 0);
	print_message("%lu faults injected, sites left on int3: %lu, none after the next update\n",
		      fault.injected - before, left);
}

/* The message of an update that failed for its argument. */
static void bad_argument_names_no_system_call(void **state)
{
	(void)state;
	arm(A_SYNC, 1, EIO, false);
	assert_int_equal(update(static_call_query(faulty) != function(true)), -EIO);
	disarm();
	assert_non_null(strstr(shunt_last_error(), "injected"));
	assert_int_equal(__static_call_update(&STATIC_CALL_KEY(faulty), NULL), -EINVAL);
	assert_null(strstr(shunt_last_error(), "injected"));
	assert_non_null(strstr(shunt_last_error(), "key faulty"));
}

/* A program that closes what it did not open. */
static unsigned close_mem(void)
{
	unsigned closed = 0;

	for (int fd = 3; fd < 256; fd++) {
		char link[32], target[64];
		ssize_t n;

		(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		n = readlink(link, target, sizeof(target) - 1);
		if (n < 4 || memcmp(target + n - 4, "/mem", 4) != 0)
			continue;
		assert_int_equal(close(fd), 0);
		closed++;
	}
	return closed;
}

/*
 * /proc/self/mem is gone and there are no more descriptors: text is written in the
 * other way. What failed on the way there is not blamed for a later failure.
 */
static void recovered_failure_is_not_blamed(void **state)
{
	bool new = static_call_query(faulty) == function(true);
	struct rlimit limit, none;
	struct shunt_ways ways;

	(void)state;
	shunt_get_ways(&ways);
	if (strcmp(ways.write, "/proc/self/mem") != 0 || getenv("SHUNT_WRITE"))
		skip(); /* there is no other way to fall back to */
	assert_int_equal(close_mem(), 1);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(update(!new), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	expect_calls_reach(!new);
	shunt_get_ways(&ways);
	assert_string_equal(ways.write, "mprotect");
	assert_int_equal(__static_call_update(NULL, NULL), -EINVAL);
	assert_null(strstr(shunt_last_error(), "proc"));
}

/* ------------------------------------------------------------ negative controls */

/* In a child of its own: the status that it ends with. */
static int status_of(int (*run)(void))
{
	struct rlimit none = {0, 0};
	int status = -1;
	pid_t pid = fork();

	if (!pid) {
		(void)setrlimit(RLIMIT_CORE, &none);
		_exit(run());
	}
	(void)waitpid(pid, &status, 0);
	return status;
}

/* Put the text back that an update has left. No other thread is there. */
static void restore_text(void)
{
	for (size_t i = 0; i < nr_places; i++) {
		struct shunt_write w = {.addr = places[i].addr, .len = (uint8_t)places[i].len};

		memcpy(w.bytes, places[i].before, places[i].len);
		if (__real_shunt_port_text_write(&w, 1))
			_exit(100);
	}
	if (__real_shunt_port_core_sync())
		_exit(100);
}

/* As fail_once(), without the way back. Bit by bit: what kind of fault leaves wrong bytes. */
static int without_a_way_back(void)
{
	int seen = 0;

	control.no_way_back = true;
	for (enum what_fails what = 0; what < NR_WHAT; what++) {
		unsigned wrong = 0, faults;

		for (faults = 0;; faults++) {
			remember_text();
			arm(what, faults + 1, EIO, false);
			if (!update(static_call_query(faulty) != function(true)))
				break;
			wrong += !is_text_as_before();
			disarm();
			restore_text();
		}
		disarm();
		print_message("fault %d: %u of %u leave wrong bytes without a way back\n", what,
			      wrong, faults);
		seen |= (wrong != 0) << what;
	}
	(void)fflush(stdout);
	return seen;
}

static void way_back_is_needed(void **state)
{
	int status = status_of(without_a_way_back);

	(void)state;
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), (1 << NR_WHAT) - 1);
}

/* All sites are left on an int3, which nobody makes a call of. */
static int without_a_trap_path(void)
{
	unsigned new_results;

	arm(A_WRITE, SITES + 1, EIO, true);
	if (!update(static_call_query(faulty) != function(true)) || count_int3() != SITES ||
	    !round_trip(1, &new_results))
		return 1;
	control.no_trap_path = true;
	return round_trip(1, &new_results) ? 2 : 3;
}

static void trap_path_is_needed(void **state)
{
	int status = status_of(without_a_trap_path);

	(void)state;
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGTRAP);
}

/* The round trip notices a call of a third function. */
static long third_function(long x)
{
	return 2 * x + 2;
}

static void third_function_is_seen(void **state)
{
	unsigned new_results;

	(void)state;
	assert_true(round_trip(7, &new_results));
	hammer.stop = true;
	pthread_join(hammer.thread, NULL);
	assert_int_equal(hammer.wrong, 0);
	assert_int_equal(static_call_update(faulty, third_function), 0);
	assert_false(round_trip(7, &new_results));
	assert_int_equal(static_call_update(faulty, old_function), 0);
	assert_true(round_trip(7, &new_results));
}

static int setup(void **state)
{
	(void)state;
	shunt_set_log(NULL, NULL);
	if (shunt_for_each_site("faulty", add_place, NULL))
		return -1;
	return pthread_create(&hammer.thread, NULL, run_through_the_sites, NULL);
}

static void the_sites(void **state)
{
	(void)state;
	print_message("%zu sites, %zu of them tail calls\n", nr_places, nr_tails);
	assert_int_equal(nr_places, SITES);
#ifndef __SANITIZE_THREAD__ /* which has a call of its own behind each call */
	assert_true(nr_tails > 0);
#endif
	expect_calls_reach(false);
}

static int teardown(void **state)
{
	struct shunt_stats stats;

	(void)state;
	shunt_get_stats(&stats);
	print_message("%lu faults injected in all; %lu traps, %lu of them late\n", fault.injected,
		      (unsigned long)stats.traps, (unsigned long)stats.late_traps);
	return stats.traps ? 0 : -1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_sites),
		cmocka_unit_test(each_step_fails_once),
		cmocka_unit_test(each_step_fails_for_good),
		cmocka_unit_test(bad_argument_names_no_system_call),
		cmocka_unit_test(recovered_failure_is_not_blamed),
		cmocka_unit_test(way_back_is_needed),
		cmocka_unit_test(trap_path_is_needed),
		cmocka_unit_test(third_function_is_seen),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
