/* SPDX-License-Identifier: MIT */
/*
 * Faults in the real process: each write to text and each core sync of an update
 * fails in turn, in each way and with each error, while another thread runs
 * through the sites without a pause. Linked with --wrap around the port's two
 * functions. Negative controls, in children: without the way back, and without the trap
 * path, the same faults leave what the tests look for. Prints how many faults were injected.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fault.h"

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
