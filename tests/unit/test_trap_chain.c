/* SPDX-License-Identifier: MIT */
/*
 * Who is asked about a trap, and in which order, one file of the port alone: the handlers that
 * were found, the latest first, each once, however often the trap comes round; and one whose
 * record is being changed is passed over.
 *
 * Control: a record that is whole is not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../../src/linux/trap/trap_chain.c" /* NOLINT(bugprone-suspicious-include) */

const char shunt_trap_entries[SHUNT_TRAP_ENTRIES][SHUNT_TRAP_ENTRY_SIZE];
struct shunt_action shunt_trap_records[SHUNT_TRAP_ENTRIES];

static void begin(void)
{
	memset(shunt_trap_records, 0, sizeof(shunt_trap_records));
	memset((void *)found, 0, sizeof(found));
	last = 0;
}

static struct shunt_action numbered(uintptr_t number)
{
	struct shunt_action action = {.flags = SA_SIGINFO};

	memcpy(&action.handler, &number, sizeof(number));
	return action;
}

/* An update finds handler @number in front. */
static unsigned find(uintptr_t number)
{
	struct shunt_action action = numbered(number);

	return shunt_trap_entry_for(&action);
}

/* Whom the trap comes to that comes to @entry; 0: the default action. */
static uintptr_t ask(ucontext_t *uc, unsigned entry)
{
	struct shunt_action next = {0};
	uintptr_t number = 0;

	if (shunt_trap_next(uc, entry, &next))
		memcpy(&number, &next.handler, sizeof(number));
	return number;
}

static void the_latest_first(void **state)
{
	unsigned front, other;
	ucontext_t uc;

	(void)state;
	begin();
	front = find(1);
	other = find(2);
	(void)find(3);
	assert_int_equal(find(2), other);
	assert_int_equal(find(1), front);
	memset(&uc, 0, sizeof(uc));
	assert_int_equal(ask(&uc, front), 1);
	assert_int_equal(ask(&uc, front), 2);
	assert_int_equal(ask(&uc, front), 3);
	assert_int_equal(ask(&uc, front), 0);
	/* From what another one was told when it was installed: what there was then. */
	memset(&uc, 0, sizeof(uc));
	assert_int_equal(ask(&uc, other), 2);
	assert_int_equal(ask(&uc, other), 3);
	assert_int_equal(ask(&uc, other), 0);
}

static void one_that_changes_is_passed_over(void **state)
{
	unsigned first, second;
	ucontext_t uc;

	(void)state;
	begin();
	first = find(1);
	second = find(2);
	memset(&uc, 0, sizeof(uc));
	assert_int_equal(ask(&uc, second), 2);
	found[second] = 0; /* an update is at it */
	memset(&uc, 0, sizeof(uc));
	assert_int_equal(ask(&uc, second), 0);
	memset(&uc, 0, sizeof(uc));
	assert_int_equal(ask(&uc, first), 1);
}

/* When all entries are in use the oldest is used again, and the others are as they were. */
static void more_than_there_are_entries(void **state)
{
	unsigned entries[SHUNT_TRAP_ENTRIES + 1];
	ucontext_t uc;

	(void)state;
	begin();
	for (unsigned i = 0; i <= SHUNT_TRAP_ENTRIES; i++)
		entries[i] = find(100 + i);
	assert_int_equal(entries[SHUNT_TRAP_ENTRIES], entries[0]);
	memset(&uc, 0, sizeof(uc));
	for (unsigned i = SHUNT_TRAP_ENTRIES; i > 0; i--)
		assert_int_equal(ask(&uc, entries[SHUNT_TRAP_ENTRIES]), 100 + i);
	assert_int_equal(ask(&uc, entries[SHUNT_TRAP_ENTRIES]), 0);
}

static void a_handler_for_once(void **state)
{
	struct shunt_action once = numbered(7);
	ucontext_t uc;
	unsigned entry;

	(void)state;
	begin();
	(void)find(6);
	entry = find(7);
	shunt_trap_reset(&once);
	memset(&uc, 0, sizeof(uc));
	assert_int_equal(ask(&uc, entry), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_latest_first),
		cmocka_unit_test(one_that_changes_is_passed_over),
		cmocka_unit_test(more_than_there_are_entries),
		cmocka_unit_test(a_handler_for_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
