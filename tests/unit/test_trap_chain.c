/* SPDX-License-Identifier: MIT */
/*
 * Who is asked about a trap, and in which order, one file of the port alone: the handlers that
 * were found, the latest first, each once, however often the trap comes round; and one whose
 * record is being changed is passed over. And whether a trap reaches us: through the entries of
 * other libshunts too.
 *
 * Control: a record that is whole is not; and an entry that leads to the program's handler.
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
	memset((void *)found_at, 0, sizeof(found_at));
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
	found_at[second] = 0; /* an update is at it */
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

/* The entry of another libshunt, as far as it is looked at: its code, and where its record is. */
struct others_entry {
	char code[SHUNT_TRAP_ENTRY_SIZE];
	struct shunt_action record;
};

static uintptr_t passes_on_to(struct others_entry *other, uintptr_t handler)
{
	int32_t distance = (int32_t)((char *)&other->record - (other->code + 25));

	memcpy(other->code, shunt_trap_entries[0], 21);
	memcpy(other->code + 21, &distance, sizeof(distance));
	memcpy(&other->record.handler, &handler, sizeof(handler));
	return (uintptr_t)other->code;
}

static bool reaches_us(uintptr_t handler, bool by_others)
{
	bool others = false, ours = shunt_trap_reaches_us(handler, &others);

	assert_int_equal(others, by_others);
	return ours;
}

static void through_others(void **state)
{
	static struct others_entry first, second;
	static const char programs[64] = {1};
	uintptr_t own = (uintptr_t)shunt_trap_entries[SHUNT_TRAP_ENTRIES - 1];

	(void)state;
	assert_true(reaches_us(own, false));
	assert_false(reaches_us((uintptr_t)programs, false));
	assert_false(reaches_us(0, false));
	assert_true(reaches_us(passes_on_to(&first, own), true));
	assert_true(reaches_us(passes_on_to(&second, (uintptr_t)first.code), true));
	assert_false(reaches_us(passes_on_to(&first, (uintptr_t)programs), true));
	assert_false(reaches_us((uintptr_t)second.code, true));
	/* Round and round: not for ever. */
	assert_false(reaches_us(passes_on_to(&first, (uintptr_t)second.code), true));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_latest_first),
		cmocka_unit_test(one_that_changes_is_passed_over),
		cmocka_unit_test(more_than_there_are_entries),
		cmocka_unit_test(a_handler_for_once),
		cmocka_unit_test(through_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
