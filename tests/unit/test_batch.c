/* SPDX-License-Identifier: MIT */
/*
 * Batches of static calls and static keys over the fake port: one set of core syncs
 * for all of them, and all of them or none, whatever fails.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <shunt/static_call.h>

#include "core/error.h"

#include "branch_sites.h"
#include "fake_port.h"

#define MAX_CALLS  512 /* keys, of CALL_SITES sites each */
#define CALL_SITES 2
#define STRIDE     8

typedef void (*func_t)(void);

static void func_a(void)
{
}

static long func_b(void)
{
	return 1;
}

/* ------------------------------------------------------- static calls in a buffer */

static uint8_t call_text[MAX_CALLS * CALL_SITES * STRIDE];
static uint8_t call_tramps[MAX_CALLS][16];
static struct static_call_key call_keys[MAX_CALLS];
static struct shunt_mod call_mods[MAX_CALLS];
static struct shunt_site call_sites[MAX_CALLS * CALL_SITES];
static struct shunt_sites call_record;
static uint32_t nr_calls;

/* A call and a tail call by turns. */
static bool is_tail(uint32_t site)
{
	return site & 1;
}

static void put_call(uint8_t *at, uint32_t site, uintptr_t target)
{
	uint32_t rel = (uint32_t)(target - (uintptr_t)at - 5);

	at[0] = is_tail(site) ? 0xe9 : 0xe8;
	memcpy(at + 1, &rel, 4);
}

static void calls_new(uint32_t n)
{
	static char names[MAX_CALLS][8];

	nr_calls = n;
	memset(call_text, 0x90, sizeof(call_text));
	memset(call_mods, 0, sizeof(call_mods));
	memset(call_sites, 0, sizeof(call_sites));
	for (uint32_t k = 0; k < n; k++) {
		names[k][0] = 'c';
		for (uint32_t d = 3, rest = k; d > 0; d--, rest /= 10)
			names[k][d] = (char)('0' + rest % 10);
		call_keys[k] = (struct static_call_key){.func = func_a,
							.init = func_a,
							.name = names[k],
							.flags = k & 1 ? STATIC_CALL_NULLABLE : 0};
		call_mods[k] = (struct shunt_mod){.key = &call_keys[k],
						  .tramp = (uintptr_t)call_tramps[k]};
	}
	for (uint32_t i = 0; i < n * CALL_SITES; i++) {
		put_call(call_text + i * STRIDE, i, (uintptr_t)call_tramps[i % n]);
		call_sites[i] =
			(struct shunt_site){.off = i * STRIDE,
					    .owner = i % n,
					    .next = i % n,
					    .kind = is_tail(i) ? SHUNT_KIND_JMP : SHUNT_KIND_CALL};
	}
	call_record.kind = &shunt_static_call_kind;
	call_record.mods = call_mods;
	call_record.nr_mods = n;
}

/* What stands at site @i if its key goes to @func. */
static void call_bytes(uint32_t i, func_t func, uint8_t bytes[5])
{
	uint8_t *at = call_text + i * STRIDE, saved[5];

	if (func == (func_t)__static_call_return0 && !is_tail(i)) {
		memcpy(bytes, "\x2e\x2e\x2e\x31\xc0", 5);
		return;
	}
	memcpy(saved, at, 5);
	put_call(at, i, func == __static_call_nop ? call_mods[i % nr_calls].last : (uintptr_t)func);
	if (func == __static_call_nop)
		at[0] = is_tail(i) ? 0xc3 : 0xa9;
	memcpy(bytes, at, 5);
	memcpy(at, saved, 5);
}

static const char *calls_wrong(void)
{
	for (uint32_t i = 0; i < nr_calls * CALL_SITES; i++) {
		uint8_t bytes[5];

		call_bytes(i, call_keys[i % nr_calls].func, bytes);
		if (memcmp(call_text + i * STRIDE, bytes, 5) != 0)
			return "a call is not what its key says";
		if (call_sites[i].poked || call_sites[i].why != SHUNT_INLINE)
			return "a call's record is wrong";
	}
	return NULL;
}

/* ------------------------------------------------------------- all of it together */

static struct branches *br;
static struct static_call_batch batch;

static const char *anything_wrong(void)
{
	const char *why = calls_wrong();

	why = why ? why : branches_wrong(br);
	return why ? why : fake.violation;
}

static void expect_right(void)
{
	const char *why = anything_wrong();

	if (why)
		fail_msg("%s", why);
	assert_false(fake.locked);
}

/* @calls static calls and @keys static keys, each with sites. */
static void world_new(uint32_t calls, uint32_t keys, unsigned initial)
{
	struct shunt_report report = {0};

	fake_reset();
	fake_watch(NULL, 0, NULL, 0);
	/* The batch itself is the user's, who has no lock. */
	fake.free_alloc = true;
	calls_new(calls);
	assert_int_equal(shunt_port_lock(), 0);
	assert_int_equal(shunt_sites_add(&call_record, (uintptr_t)call_text, call_sites,
					 calls * CALL_SITES, &report),
			 0);
	shunt_port_unlock();
	branch_keys_new(keys, initial);
	br = branches_new(0, 4 * keys, keys);
	assert_int_equal(branches_add(br, &report), 0);
	batch = (struct static_call_batch)STATIC_CALL_BATCH_INIT;
	fake_restart();
}

static void world_free(void)
{
	static_call_batch_destroy(&batch);
	assert_null(batch.changes);
	assert_int_equal(batch.n, 0);
	assert_int_equal(batch.max, 0);
	assert_int_equal(shunt_port_lock(), 0);
	shunt_sites_remove(&call_record);
	shunt_port_unlock();
	branches_remove(br);
	assert_int_equal(fake.outstanding, 0);
	if (fake.violation)
		fail_msg("%s", fake.violation);
}

/* All that a failure has to leave as it was. */
struct snapshot {
	uint8_t calls[sizeof(call_text)];
	uint8_t branches[MAX_BRANCHES * BRANCH_STRIDE];
	func_t func[MAX_CALLS];
	int count[MAX_BRANCH_KEYS];
	uint8_t on[MAX_BRANCH_KEYS];
};

static void take(struct snapshot *s)
{
	memset(s, 0, sizeof(*s));
	memcpy(s->calls, call_text, sizeof(s->calls));
	memcpy(s->branches, br->text, br->n * BRANCH_STRIDE);
	for (uint32_t k = 0; k < nr_calls; k++)
		s->func[k] = call_keys[k].func;
	for (uint32_t k = 0; k < br->nr_keys; k++) {
		s->count[k] = branch_keys[k].count;
		s->on[k] = branch_keys[k].on;
	}
}

static bool is_as(const struct snapshot *s)
{
	static struct snapshot now;

	take(&now);
	return !memcmp(s, &now, sizeof(now));
}

static int add_call(uint32_t key, func_t func)
{
	return __static_call_batch_add(&batch, &call_keys[key], func);
}

static int add_branch(uint32_t key, int on)
{
	return __static_key_batch_add(&batch, &branch_handles[0][key], on);
}

/* Every key changes, calls and branches in an order that is not that of addresses. */
static void add_all(func_t func)
{
	for (uint32_t k = 0; k < nr_calls || k < br->nr_keys; k++) {
		if (k < br->nr_keys)
			assert_int_equal(add_branch(br->nr_keys - 1 - k,
						    !branch_keys[br->nr_keys - 1 - k].on),
					 0);
		if (k < nr_calls)
			assert_int_equal(add_call((k * 7) % nr_calls, func), 0);
	}
}

/* ----------------------------------------------------------------- what goes through */

static const char *trap_wrong;
static unsigned long traps;

/* A trap at a call, at any moment, does what its key says. */
static void check_traps(void)
{
	const char *why = branches_wrong_traps(br);
	static uintptr_t stack[4];

	for (uint32_t i = 0; i < nr_calls * CALL_SITES && !why; i++) {
		uintptr_t addr = (uintptr_t)call_text + i * STRIDE;
		struct shunt_regs regs = {.ip = addr + 1, .sp = (uintptr_t)&stack[2]};

		if (call_text[i * STRIDE] != SHUNT_INT3)
			continue;
		traps++;
		if (shunt_trap(&regs) != SHUNT_TRAP_EMULATED ||
		    regs.ip != (uintptr_t)call_keys[i % nr_calls].func)
			why = "a call's trap does not do what its key says";
	}
	trap_wrong = trap_wrong ? trap_wrong : why;
}

/* Three core syncs, however many keys there are. */
static void one_set_of_syncs(void **state)
{
	static const uint32_t sizes[][2] = {{1, 0}, {0, 1}, {1, 1}, {2, 3}, {40, 30}, {500, 500}};

	(void)state;
	for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
		world_new(sizes[s][0], sizes[s][1], EVERY_OTHER);
		fake.on_write = fake.on_sync = check_traps;
		add_all((func_t)func_b);
		assert_int_equal(batch.n, sizes[s][0] + sizes[s][1]);
		assert_int_equal(fake.nr_events, 0);
		assert_int_equal(static_call_batch_commit(&batch), 0);
		assert_int_equal(fake.syncs, 3);
		assert_int_equal(fake.begins, 1);
		assert_int_equal(fake.begun_for, CALL_SITES * nr_calls + br->n);
		assert_int_equal(fake.watches, nr_calls);
		assert_int_equal(fake.wanted, 1);
		assert_int_equal(fake.reports, 0);
		for (uint32_t k = 0; k < nr_calls; k++)
			assert_ptr_equal(call_keys[k].func, (func_t)func_b);
		for (uint32_t k = 0; k < br->nr_keys; k++)
			assert_int_equal(branch_keys[k].count, !branch_keys[k].initial);
		expect_right();
		assert_null(trap_wrong);
		world_free();
	}
	assert_true(traps > 100);
}

/* It stays as it is: again, and again after its keys have gone elsewhere. */
static void commit_twice(void **state)
{
	(void)state;
	world_new(20, 20, EVERY_OTHER);
	add_all((func_t)func_b);
	assert_int_equal(static_call_batch_commit(&batch), 0);
	assert_int_equal(static_call_batch_commit(&batch), 0);
	assert_int_equal(fake.syncs, 3);
	assert_int_equal(__static_call_update(&call_keys[3], func_a), 0);
	assert_int_equal(__static_key_enable(&branch_handles[0][3]), 0);
	assert_int_equal(__static_key_disable(&branch_handles[0][4]), 0);
	expect_right();
	assert_int_equal(static_call_batch_commit(&batch), 0);
	assert_ptr_equal(call_keys[3].func, (func_t)func_b);
	assert_int_equal(branch_keys[3].count, 0);
	assert_int_equal(branch_keys[4].count, 1);
	expect_right();

	/* And with more in it. */
	static_call_batch_destroy(&batch);
	assert_int_equal(static_call_batch_commit(&batch), 0);
	assert_int_equal(add_call(5, NULL), 0);
	assert_int_equal(static_call_batch_commit(&batch), 0);
	assert_int_equal(add_branch(5, 1), 0);
	assert_int_equal(static_call_batch_commit(&batch), 0);
	assert_null(__static_call_query(&call_keys[5]));
	assert_int_equal(branch_keys[5].count, 1);
	expect_right();
	world_free();
}

static void empty_batch(void **state)
{
	(void)state;
	world_new(2, 2, 0);
	assert_int_equal(static_call_batch_commit(&batch), 0);
	assert_int_equal(fake.nr_events, 0);
	assert_int_equal(fake.reports, 0);
	static_call_batch_destroy(&batch);
	static_call_batch_destroy(&batch);
	static_call_batch_destroy(NULL);
	/* What changes nothing writes nothing. */
	assert_int_equal(add_call(0, func_a), 0);
	assert_int_equal(add_branch(1, 0), 0);
	assert_int_equal(static_call_batch_commit(&batch), 0);
	assert_int_equal(fake.nr_events, 0);
	expect_right();
	world_free();
}

/* NULL, RET0 and functions side by side, the first of them as they were. */
static void all_sorts(void **state)
{
	(void)state;
	world_new(12, 3, 1);
	for (uint32_t k = 0; k < 12; k++) {
		static const func_t to[] = {func_a, NULL, (func_t)__static_call_return0, NULL};

		assert_int_equal(add_call(k, to[k % 4]), 0);
	}
	assert_int_equal(add_branch(0, 1), 0); /* is on already */
	assert_int_equal(add_branch(1, 7), 0); /* any truth will do */
	assert_int_equal(add_branch(2, 0), 0);
	assert_int_equal(static_call_batch_commit(&batch), 0);
	assert_int_equal(fake.syncs, 3);
	for (uint32_t k = 0; k < 12; k++)
		assert_ptr_equal(__static_call_query(&call_keys[k]),
				 k % 2   ? NULL
				 : k % 4 ? (void *)__static_call_return0
					 : (void *)func_a);
	assert_int_equal(branch_keys[1].count, 1);
	assert_int_equal(branch_keys[2].count, 0);
	expect_right();
	world_free();
}

/* A count of many is what it was behind a batch that wants the key on. */
static void counts_are_kept(void **state)
{
	(void)state;
	world_new(1, 3, 0);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(__static_key_inc(&branch_handles[0][0]), 0);
	assert_int_equal(add_branch(0, 1), 0);
	assert_int_equal(add_branch(1, 1), 0);
	assert_int_equal(static_call_batch_commit(&batch), 0);
	assert_int_equal(branch_keys[0].count, 5);
	assert_int_equal(branch_keys[1].count, 1);
	expect_right();
	world_free();
}

/* ------------------------------------------------------------------- what is refused */

static void expect_report(int error, const char *key, const char *what)
{
	assert_int_equal(fake.reports, 1);
	assert_int_equal(fake.report.error, error);
	if (key)
		assert_string_equal(fake.report.key, key);
	else
		assert_null(fake.report.key);
	assert_non_null(strstr(fake.report.what, what));
	assert_int_equal(fake.nr_events, 0);
	fake_restart();
}

static void bad_arguments(void **state)
{
	(void)state;
	world_new(2, 2, 0);
	assert_int_equal(add_call(0, NULL), -SHUNT_EINVAL); /* not nullable */
	expect_report(-SHUNT_EINVAL, "c000", "NULL");
	assert_int_equal(__static_call_batch_add(NULL, &call_keys[0], func_a), -SHUNT_EINVAL);
	expect_report(-SHUNT_EINVAL, NULL, "no batch");
	assert_int_equal(__static_call_batch_add(&batch, NULL, func_a), -SHUNT_EINVAL);
	expect_report(-SHUNT_EINVAL, NULL, "no key");
	assert_int_equal(__static_key_batch_add(NULL, &branch_handles[0][0], 1), -SHUNT_EINVAL);
	expect_report(-SHUNT_EINVAL, NULL, "no batch");
	assert_int_equal(static_call_batch_commit(NULL), -SHUNT_EINVAL);
	expect_report(-SHUNT_EINVAL, NULL, "no batch");
	assert_int_equal(batch.n, 0);
	assert_int_equal(add_call(1, NULL), 0);
	world_free();
}

/* A key twice, next to each other or not, to the same or not. */
static void key_twice(void **state)
{
	static struct snapshot before;

	(void)state;
	for (unsigned variant = 0; variant < 8; variant++) {
		world_new(10, 10, EVERY_OTHER);
		take(&before);
		assert_int_equal((variant & 1) ? add_call(3, (func_t)func_b) : add_branch(3, 0), 0);
		for (uint32_t k = 4; k < 10 && (variant & 2); k++) {
			assert_int_equal(add_call(k, (func_t)func_b), 0);
			assert_int_equal(add_branch(k, 1), 0);
		}
		assert_int_equal((variant & 1)
					 ? add_call(3, (variant & 4) ? func_a : (func_t)func_b)
					 : add_branch(3, (variant & 4) != 0),
				 0);
		assert_int_equal(static_call_batch_commit(&batch), -SHUNT_EINVAL);
		expect_report(-SHUNT_EINVAL, (variant & 1) ? "c003" : "s0003", "twice");
		assert_true(is_as(&before));
		expect_right();
		world_free();
	}
}

/*
 * A static key that others count on is not switched off; the keys that were asked
 * before it have their counts back, those behind it were never touched.
 */
static void counted_key_is_refused(void **state)
{
	static struct snapshot before;

	(void)state;
	for (uint32_t counted = 0; counted < 10; counted++) {
		char name[8] = "s0000";

		world_new(5, 10, 1);
		assert_int_equal(__static_key_disable(&branch_handles[0][(counted + 1) % 10]), 0);
		assert_int_equal(__static_key_inc(&branch_handles[0][counted]), 0);
		take(&before);
		fake_restart();
		for (uint32_t k = 0; k < 10; k++)
			assert_int_equal(add_branch(k, k == (counted + 1) % 10), 0);
		for (uint32_t k = 0; k < 5; k++)
			assert_int_equal(add_call(k, (func_t)func_b), 0);
		assert_int_equal(static_call_batch_commit(&batch), -SHUNT_EBUSY);
		name[4] = (char)('0' + counted);
		expect_report(-SHUNT_EBUSY, name, "count");
		assert_true(is_as(&before));
		expect_right();
		/* Once they do not, it goes through. */
		assert_int_equal(__static_key_dec(&branch_handles[0][counted]), 0);
		assert_int_equal(static_call_batch_commit(&batch), 0);
		assert_int_equal(branch_keys[counted].count, 0);
		assert_int_equal(branch_keys[(counted + 1) % 10].count, 1);
		expect_right();
		world_free();
	}
}

/* Nobody counts a key up, without the lock, that a batch is about to switch off. */
static int inner_inc, inner_dec, inner_commit;

static void from_a_handler(void)
{
	const char *violation = fake.violation;

	inner_inc = __static_key_inc(&branch_handles[0][0]);
	inner_dec = __static_key_dec(&branch_handles[0][0]);
	inner_commit = static_call_batch_commit(&batch);
	/* To the fake port, a report within an update is a breach; here it is the point. */
	fake.violation = violation;
}

static void commit_within_a_commit(void **state)
{
	(void)state;
	for (unsigned initial = 0; initial < 2; initial++) {
		world_new(2, 2, initial);
		add_all((func_t)func_b);
		fake.on_sync = from_a_handler;
		assert_int_equal(static_call_batch_commit(&batch), 0);
		fake.on_sync = NULL;
		assert_int_equal(inner_inc, -SHUNT_EDEADLK);
		assert_int_equal(inner_dec, -SHUNT_EDEADLK);
		assert_int_equal(inner_commit, -SHUNT_EDEADLK);
		assert_int_equal(fake.report.error, -SHUNT_EDEADLK);
		for (uint32_t k = 0; k < 2; k++)
			assert_int_equal(branch_keys[k].count, !initial);
		expect_right();
		world_free();
	}
}

static void foreign_bytes(void **state)
{
	static struct snapshot before;

	(void)state;
	world_new(4, 4, EVERY_OTHER);
	add_all((func_t)func_b);
	for (uint32_t i = 0; i < br->n + 4 * CALL_SITES; i++) {
		uint8_t *at = i < br->n ? branch_addr(br, i) : call_text + (i - br->n) * STRIDE;
		const char *name = i < br->n ? branch_key(br, i)->name
					     : call_keys[(i - br->n) % nr_calls].name;
		uint8_t was = *at;

		*at = SHUNT_INT3;
		take(&before);
		assert_int_equal(static_call_batch_commit(&batch), -SHUNT_EBUSY);
		assert_ptr_equal(fake.report.site, at);
		expect_report(-SHUNT_EBUSY, name, "foreign");
		assert_true(is_as(&before));
		*at = was;
		expect_right();
	}
	assert_int_equal(static_call_batch_commit(&batch), 0);
	expect_right();
	world_free();
}

/* -------------------------------------------------------------------------- faults */

static size_t fails_at(struct fake_fault *fault, int error, uint32_t keys)
{
	static struct snapshot before;
	size_t failures = 0;

	for (size_t k = 1;; k++) {
		int ret;

		world_new(keys, keys, EVERY_OTHER);
		add_all((func_t)func_b);
		take(&before);
		fake_restart();
		fake.on_write = fake.on_sync = check_traps;
		*fault = (struct fake_fault){.at = k, .error = error};
		ret = static_call_batch_commit(&batch);
		*fault = (struct fake_fault){0};
		if (ret) {
			failures++;
			assert_int_equal(ret, error);
			assert_int_equal(fake.reports, 1);
			assert_int_equal(fake.report.error, error);
			assert_non_null(fake.report.what);
			assert_true(is_as(&before));
			expect_right();
			assert_int_equal(static_call_batch_commit(&batch), 0);
		}
		assert_false(is_as(&before));
		expect_right();
		assert_null(trap_wrong);
		world_free();
		if (!ret)
			return failures;
	}
}

static void all_or_none(void **state)
{
	(void)state;
	for (uint32_t keys = 1; keys <= 9; keys += 4) {
		assert_int_equal(fails_at(&fake.begin, -SHUNT_EPERM, keys), 1);
		assert_int_equal(fails_at(&fake.sync, -SHUNT_EPERM, keys), 3);
		assert_int_equal(fails_at(&fake.write_call, -SHUNT_EIO, keys), 3);
		assert_int_equal(fails_at(&fake.alloc, -SHUNT_ENOMEM, keys), keys > 1);
		assert_true(fails_at(&fake.write, -SHUNT_EIO, keys) >= 18 * keys);
	}
}

/* Both ways fail: what the keys say holds for all of them, and a commit mends it. */
static void cannot_be_undone(void **state)
{
	static struct snapshot before;
	size_t kept = 0, changed = 0;

	(void)state;
	for (size_t k = 1; k <= 3 * 6 * 3; k++) {
		int ret;

		world_new(3, 3, EVERY_OTHER);
		add_all((func_t)func_b);
		take(&before);
		fake.write = (struct fake_fault){.at = k, .onwards = true, .error = -SHUNT_EIO};
		ret = static_call_batch_commit(&batch);
		fake.write = (struct fake_fault){0};
		assert_int_equal(fake.report.error, -SHUNT_EIO);
		for (uint32_t i = 0; i < 3; i++) {
			assert_ptr_equal(call_keys[i].func, ret ? func_a : (func_t)func_b);
			assert_int_equal(branch_keys[i].count,
					 ret ? branch_keys[i].initial : !branch_keys[i].initial);
		}
		check_traps();
		assert_null(trap_wrong);
		*(ret ? &kept : &changed) += 1;
		/* All the other way. */
		static_call_batch_destroy(&batch);
		add_all(ret ? (func_t)func_b : func_a);
		assert_int_equal(static_call_batch_commit(&batch), 0);
		expect_right();
		world_free();
	}
	assert_true(kept && changed);
}

/* No memory for more: the batch is what it was, and can still be committed. */
static void no_memory_for_a_batch(void **state)
{
	(void)state;
	for (uint32_t full = 0; full <= 256; full += full ? full : 128) {
		world_new(400, 100, 0);
		for (uint32_t k = 0; k < full; k++)
			assert_int_equal(add_call(k, (func_t)func_b), 0);
		fake_restart();
		fake.alloc = (struct fake_fault){.at = 1, .onwards = true, .error = -1};
		assert_int_equal(add_call(full, (func_t)func_b), -SHUNT_ENOMEM);
		expect_report(-SHUNT_ENOMEM, call_keys[full].name, "allocate");
		assert_int_equal(add_branch(1, 1), -SHUNT_ENOMEM);
		expect_report(-SHUNT_ENOMEM, "s0001", "allocate");
		fake.alloc = (struct fake_fault){0};
		assert_int_equal(batch.n, full);
		assert_int_equal(static_call_batch_commit(&batch), 0);
		for (uint32_t k = 0; k < 400; k++)
			assert_ptr_equal(call_keys[k].func, k < full ? (func_t)func_b : func_a);
		assert_int_equal(add_call(full, (func_t)func_b), 0);
		assert_int_equal(static_call_batch_commit(&batch), 0);
		assert_ptr_equal(call_keys[full].func, (func_t)func_b);
		expect_right();
		world_free();
	}
}

/* ------------------------------------------------------------------ negative controls */

static void wrong_outcomes_are_seen(void **state)
{
	static struct snapshot before;
	size_t writes;

	(void)state;
	world_new(3, 3, EVERY_OTHER);
	take(&before);
	assert_true(is_as(&before));
	branch_keys[1].count++;
	assert_false(is_as(&before));
	branch_keys[1].count--;
	call_keys[1].func = (func_t)func_b;
	assert_false(is_as(&before));
	assert_non_null(anything_wrong());
	call_keys[1].func = func_a;
	assert_null(anything_wrong());
	call_text[STRIDE * 4 + 3] ^= 1;
	assert_false(is_as(&before));
	assert_non_null(anything_wrong());
	call_text[STRIDE * 4 + 3] ^= 1;
	call_text[STRIDE * 2] = SHUNT_INT3;
	check_traps(); /* one that nobody has marked */
	assert_non_null(trap_wrong);
	trap_wrong = NULL;
	put_call(call_text + STRIDE * 2, 2, (uintptr_t)func_a);
	add_all((func_t)func_b);
	assert_int_equal(static_call_batch_commit(&batch), 0);
	writes = fake.writes;
	world_free();
	for (size_t k = 1; k <= writes; k++) {
		world_new(3, 3, EVERY_OTHER);
		add_all((func_t)func_b);
		fake.drop_at = k;
		if (static_call_batch_commit(&batch))
			assert_int_equal(fake.report.error, -SHUNT_EBUSY);
		/* A lost int3 does no harm to a poke that nobody sees the middle of. */
		if (k > 18)
			assert_non_null(anything_wrong());
		world_free();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_set_of_syncs),
		cmocka_unit_test(commit_twice),
		cmocka_unit_test(empty_batch),
		cmocka_unit_test(all_sorts),
		cmocka_unit_test(counts_are_kept),
		cmocka_unit_test(bad_arguments),
		cmocka_unit_test(key_twice),
		cmocka_unit_test(counted_key_is_refused),
		cmocka_unit_test(commit_within_a_commit),
		cmocka_unit_test(foreign_bytes),
		cmocka_unit_test(all_or_none),
		cmocka_unit_test(cannot_be_undone),
		cmocka_unit_test(no_memory_for_a_batch),
		cmocka_unit_test(wrong_outcomes_are_seen),
	};

	return cmocka_run_group_tests(tests, NULL, fake_teardown);
}
