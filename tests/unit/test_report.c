/* SPDX-License-Identifier: MIT */
/*
 * Who has a record of messages: report.c with a hook between the look at a record's owner and the
 * claim of it. The owner has gone, and a new thread of the same number takes the record in that
 * very moment: the one that was about to take it must find another one.
 *
 * Control (-DCONTROL): the new thread leaves the owner's word as it was, as if claims were not
 * counted. Then both have the record.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

static void (*before_claim)(_Atomic uint64_t *owner);

static bool claim_if(_Atomic uint64_t *owner, uint64_t *from, uint64_t to)
{
	void (*hook)(_Atomic uint64_t *) = before_claim;

	before_claim = NULL;
	if (hook)
		hook(owner);
	return atomic_compare_exchange_strong(owner, from, to);
}

#undef atomic_compare_exchange_strong
#define atomic_compare_exchange_strong(owner, from, to) claim_if(owner, from, to)

/* As part of this file, or the macro would not reach it. */
#include "linux/base/report.c" /* NOLINT(bugprone-suspicious-include) */

static int32_t gone; /* the number of a thread that has ended */

static void *note_number(void *arg)
{
	gone = (int32_t)shunt_syscall(SYS_gettid, 0, 0, 0, 0);
	return arg;
}

/* Does what a new thread of the number `gone` does that needs a record. */
static struct record *of_new_thread;

static void new_thread_claims(_Atomic uint64_t *owner)
{
	uint64_t was = atomic_load(owner);

	of_new_thread = find_record(gone, false);
	assert_non_null(of_new_thread);
	assert_ptr_equal(&of_new_thread->owner, owner);
#ifdef CONTROL
	atomic_store(owner, was);
#else
	assert_true(atomic_load(owner) != was);
	assert_int_equal(number_in(atomic_load(owner)), gone);
#endif
}

static void let_a_thread_go(void)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, note_number, NULL), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	while (!is_gone(gone, 0))
		(void)usleep(
			100); /* the kernel wakes the one that joins before the number is free */
}

static void one_record_one_thread(void **state)
{
	struct record *mine_now;

	(void)state;
	let_a_thread_go();
	atomic_store(&first.records[0].owner, 1ull << 32 | (uint32_t)gone);
	before_claim = new_thread_claims;
	mine_now = own_record();
	assert_non_null(mine_now);
	assert_ptr_equal(of_new_thread, &first.records[0]);
#ifdef CONTROL
	assert_ptr_equal(mine_now, of_new_thread);
#else
	assert_ptr_not_equal(mine_now, of_new_thread);
	assert_int_equal(number_in(atomic_load(&of_new_thread->owner)), gone);
#endif
}

/* The new thread is there before the look: its record is nobody else's. */
static void a_live_owner_keeps_it(void **state)
{
	const uint64_t alive = 7ull << 32 | (uint32_t)getpid();

	(void)state;
	for (size_t i = 0; i < RECORDS; i++)
		atomic_store(&first.records[i].owner, alive);
	assert_null(find_record(gone, true));
	assert_ptr_equal(find_record((int32_t)getpid(), false), &first.records[0]);
}

/* Of a message that is too long the names are cut, and not what went wrong at its end. */
static void the_reason_stays(void **state)
{
	static char name[8001];
	struct shunt_report report = {.error = -EIO, .what = "write it", .key = name, .refused = 1};

	(void)state;
	shunt_set_log(NULL, NULL);
	memset(name, 'n', sizeof(name) - 1);
	memcpy(name, "first", 5);
	memcpy(name + sizeof(name) - 5, "last", 4);
	shunt_port_report(&report);
	assert_non_null(strstr(shunt_last_error(), "key firstnnn"));
	assert_non_null(strstr(shunt_last_error(), "nnnlast: write it: Input/output error"));
	shunt_message("module %s: %s", name, "is not there");
	assert_non_null(strstr(shunt_last_error(), "nnnlast: is not there"));
	name[300] = '\0'; /* all of it fits */
	shunt_port_report(&report);
	assert_non_null(strstr(shunt_last_error(), name));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_record_one_thread),
		cmocka_unit_test(a_live_owner_keeps_it),
		cmocka_unit_test(the_reason_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
