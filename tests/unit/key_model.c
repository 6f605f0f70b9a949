/* SPDX-License-Identifier: MIT */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/error.h"

#include "key_model.h"

const struct static_key *handle(size_t i)
{
	return &branch_handles[0][i];
}

int run_op(enum op op, size_t key)
{
	switch (op) {
	case ENABLE:
		return __static_key_enable(handle(key));
	case DISABLE:
		return __static_key_disable(handle(key));
	case INC:
		return __static_key_inc(handle(key));
	default:
		return __static_key_dec(handle(key));
	}
}

/* What the op does to a count, by the manual: 0 with *@count changed, or the error. */
int model(enum op op, int *count)
{
	switch (op) {
	case ENABLE:
		*count = *count ? *count : 1;
		return 0;
	case DISABLE:
		if (*count > 1)
			return -SHUNT_EBUSY;
		*count = 0;
		return 0;
	case INC:
		if (*count == INT_MAX)
			return -SHUNT_EOVERFLOW;
		++*count;
		return 0;
	default:
		if (!*count)
			return -SHUNT_EINVAL;
		--*count;
		return 0;
	}
}

void expect_right(const struct branches *b)
{
	const char *why = branches_wrong(b);

	if (why || fake.violation)
		fail_msg("%s", why ? why : fake.violation);
	assert_false(fake.locked);
	assert_int_equal(fake.outstanding, 0);
}

struct branches *add_module(size_t index, uint32_t n, uint32_t nr_keys)
{
	struct branches *b = branches_new(index, n, nr_keys);
	struct shunt_report report;

	assert_int_equal(branches_add(b, &report), 0);
	assert_int_equal(report.error, 0);
	return b;
}

struct branches *fresh(uint32_t n, uint32_t nr_keys, unsigned initial)
{
	fake_reset();
	fake_watch(NULL, 0, NULL, 0);
	branch_keys_new(nr_keys, initial);
	return add_module(0, n, nr_keys);
}

/* A key with @count users, by way of the public functions. */
struct branches *fresh_with_count(int count, unsigned initial)
{
	struct branches *b = fresh(SITES, 1, initial);

	assert_int_equal(__static_key_disable(handle(0)), 0);
	for (int i = 0; i < count; i++)
		assert_int_equal(__static_key_inc(handle(0)), 0);
	assert_int_equal(__static_key_count(handle(0)), count);
	fake_restart();
	return b;
}

const char *trap_wrong;

void check_traps(void)
{
	const char *why = branches_wrong_traps(&branches[0]);

	if (why)
		trap_wrong = why;
}

/* Who holds a count finds the key on, at every site, for as long as it holds it. */
bool is_on_everywhere(const struct branches *b, uint32_t key)
{
	bool on = __static_key_count(handle(key)) > 0;

	for (uint32_t i = key; i < b->n; i += b->nr_keys)
		on = on && branch_is(b, i, true);
	return on;
}
