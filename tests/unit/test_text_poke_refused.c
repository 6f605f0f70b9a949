/* SPDX-License-Identifier: MIT */
/* unit/text_poke: what is refused, and what stands at the sites then. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include <shunt/text_poke.h>

#include "core/error.h"
#include "core/text_site.h"

#include "../common/nops_x86_64.h"
#include "branch_sites.h"
#include "control.h"
#include "fake_port.h"
#include "test_text_poke.h"
#include "text_arena.h"

/* --------------------------------------------------------------- what is refused */

static void expect_refused(int error, const char *what, const void *site)
{
	assert_int_equal(fake.reports, 1);
	assert_int_equal(fake.report.error, error);
	assert_non_null(fake.report.what);
	if (what && !strstr(fake.report.what, what))
		fail_msg("the report says \"%s\"", fake.report.what);
	assert_ptr_equal(fake.report.site, site);
	assert_int_equal(fake.nr_events, 0);
	fake_restart();
}

void bad_arguments(void **state)
{
	uint8_t *at = take(1);
	uint8_t before[STRIDE];
	struct text_poke poke = {.addr = at, .insn = jmp5, .len = 5};

	(void)state;
	arena_new(0);
	memcpy(at, nop5, 5);
	memcpy(before, at, STRIDE);
	assert_int_equal(text_poke_bp_batch(NULL, 0), 0);
	assert_int_equal(text_poke_bp_batch(&poke, 0), 0);
	assert_int_equal(text_poke_bp_batch(NULL, 1), -SHUNT_EINVAL);
	expect_refused(-SHUNT_EINVAL, NULL, NULL);
	assert_int_equal(text_poke_bp(NULL, jmp5, 5), -SHUNT_EINVAL);
	expect_refused(-SHUNT_EINVAL, "the address is NULL", NULL);
	assert_int_equal(text_poke_bp(at, NULL, 5), -SHUNT_EINVAL);
	expect_refused(-SHUNT_EINVAL, "the new instruction is NULL", at);
	assert_int_equal(text_poke_bp(at, jmp5, 0), -SHUNT_EINVAL);
	expect_refused(-SHUNT_EINVAL, "length", at);
	assert_int_equal(text_poke_bp(at, jmp5, 7), -SHUNT_EINVAL);
	expect_refused(-SHUNT_EINVAL, "length", at);
	assert_int_equal(text_poke_bp(at, jmp5, SIZE_MAX), -SHUNT_EINVAL);
	expect_refused(-SHUNT_EINVAL, "length", at);
	assert_memory_equal(at, before, STRIDE);
	arena_free();
}

/* A target above 2^47, as there are with five levels of page tables: no 48 bits hold it. */
void target_above_47_bits(void **state)
{
	void *const high = (void *)0x7fffe0000000;
	const uint8_t jmp[] = {0xe9, 0x00, 0xff, 0xff, 0x7f}, nop[] = {0x0f, 0x1f, 0x44, 0, 0};
	uint8_t *at = mmap(high, 4096, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	(void)state;
	if (at != high) {
		if (at != MAP_FAILED)
			(void)munmap(at, 4096);
		skip(); /* the stack is there */
	}
	arena_new(0);
	memcpy(at, nop, 5);
	assert_int_equal(text_poke_bp(at, jmp, 5), -SHUNT_ERANGE);
	expect_refused(-SHUNT_ERANGE, "new instruction is above 2^47", at);
	assert_memory_equal(at, nop, 5);
	assert_int_equal(text_poke_bp(at, nop, 5, jmp), -SHUNT_ERANGE);
	expect_refused(-SHUNT_ERANGE, "the one to emulate is above 2^47", at);
	memcpy(at, jmp, 5);
	assert_int_equal(text_poke_bp(at, nop, 5), -SHUNT_ERANGE);
	expect_refused(-SHUNT_ERANGE, "old instruction is above 2^47", at);
	arena_free();
	(void)munmap(at, 4096);
}

/* Control "decoder" (SHUNT_CONTROL, by ld --wrap): what cannot be decoded is taken for a nop. */
int __real_shunt_text_insn_decode(const uint8_t *bytes, size_t len, uintptr_t addr, uint64_t *word);
int __wrap_shunt_text_insn_decode(const uint8_t *bytes, size_t len, uintptr_t addr, uint64_t *word);

int __wrap_shunt_text_insn_decode(const uint8_t *bytes, size_t len, uintptr_t addr, uint64_t *word)
{
	int ret = __real_shunt_text_insn_decode(bytes, len, addr, word);

	if (ret && is_control("decoder"))
		ret = __real_shunt_text_insn_decode((const uint8_t *)"\x90", 1, addr, word);
	return ret;
}

/* Not an instruction of that length, or one that cannot be emulated. */
static const struct {
	const char *bytes;
	size_t len;
} undecodable[] = {
	{"\xcc", 1},
	{"\xcc\xcc\xcc\xcc\xcc", 5},
	{"\xcd\x03", 2},
	{"\x55", 1},
	{"\x66\x31\xc0", 3},
	{"\xf3\x90", 2},
	{"\x41\x90", 2},
	{"\xe8\x00\x00\x00", 4},
	{"\x90\x90", 2},
	{"\xe8\x00\x00\x00\x00\x90", 6},
	{"\x66\xe8\x00\x00\x00\x00", 6},
	{"\x0f\x1f\x44\x00", 4},
	{"\x0f\x05", 2},
	{"\x74\x00\x90", 3},
	{"\xff\xd0", 2},
	{"\xc2\x08\x00", 3},
	{"\xff\x15\x00\x00\x00", 5},
	{"\xf2\xc3", 2},
};

void undecodable_instructions(void **state)
{
	uint8_t *at = take(1);

	(void)state;
	arena_new(0);
	for (size_t i = 0; i < ARRAY_SIZE(undecodable); i++) {
		size_t len = undecodable[i].len;
		const void *bad = undecodable[i].bytes;

		memcpy(at, nops[len], len);
		assert_int_equal(text_poke_bp(at, bad, len), -SHUNT_EINVAL);
		expect_refused(-SHUNT_EINVAL, "new", at);
		assert_int_equal(text_poke_bp(at, nops[len], len, bad), -SHUNT_EINVAL);
		expect_refused(-SHUNT_EINVAL, "to emulate", at);
		/* What is emulated is one thing, but what stays must be known as well. */
		assert_int_equal(text_poke_bp(at, bad, len, nops[len]), -SHUNT_EINVAL);
		expect_refused(-SHUNT_EINVAL, "new", at);
		assert_memory_equal(at, nops[len], len);
		memcpy(at, bad, len);
		assert_int_equal(text_poke_bp(at, nops[len], len), -SHUNT_EINVAL);
		expect_refused(-SHUNT_EINVAL, "old", at);
		assert_memory_equal(at, bad, len);
	}
	arena_free();
}

/* Each byte that is not what is expected, a debugger's breakpoint among them. */
void old_bytes_mismatch(void **state)
{
	uint8_t *at = take(5);

	(void)state;
	arena_new(5);
	for (size_t i = 0; i < 5; i++)
		add_spot(at + i * STRIDE, 5, (struct form){.what = CALL, .target = (uintptr_t)text},
			 (struct form){.what = JMP, .target = (uintptr_t)text});
	for (size_t i = 0; i < 5; i++)
		for (size_t b = 0; b < 5; b++) {
			uint8_t *byte = arena.spots[i].addr + b, was = *byte;

			*byte = b ? was ^ 1 : SHUNT_INT3;
			assert_int_equal(poke_all(), -SHUNT_EBUSY);
			assert_int_equal(fake.report.nbytes, 5);
			assert_memory_equal(fake.report.found, arena.spots[i].addr, 5);
			assert_memory_equal(fake.report.expected, arena.spots[i].bytes[0], 5);
			expect_refused(-SHUNT_EBUSY, "foreign", arena.spots[i].addr);
			*byte = was;
			expect_at_rest(false);
		}
	assert_int_equal(poke_all(), 0);
	expect_at_rest(true);
	/* Without @old whatever stands there will do. */
	assert_int_equal(text_poke_bp(at, nop5, 5), 0);
	assert_int_equal(text_poke_bp_batch(arena.pokes, 1), -SHUNT_EBUSY);
	arena_free();
}

void overlapping_sites(void **state)
{
	uint8_t *at = take(3);

	(void)state;
	for (size_t distance = 0; distance <= 6; distance++) {
		struct text_poke pokes[2];
		uint8_t before[3 * STRIDE];

		arena_new(0);
		/* A ret and what is behind it: any second site among that decodes. */
		memset(at, 0xc3, 3 * STRIDE);
		memcpy(before, at, sizeof(before));
		for (size_t i = 0; i < 2; i++)
			pokes[i] = (struct text_poke){
				.addr = at + (1 - i) * distance, .insn = nop5, .len = 5};
		if (distance < 5) {
			assert_int_equal(text_poke_bp_batch(pokes, 2), -SHUNT_EINVAL);
			expect_refused(-SHUNT_EINVAL, "overlap", at + distance);
			assert_memory_equal(at, before, sizeof(before));
		} else {
			assert_int_equal(text_poke_bp_batch(pokes, 2), 0);
			assert_memory_equal(at, nop5, 5);
			assert_memory_equal(at + distance, nop5, 5);
		}
		text_poke_forget(at, 3 * STRIDE);
		arena_free();
	}
}

/*
 * With a site of an earlier call: refused, and nothing is written. Not beside it, not what it was
 * itself, and not when it has been forgotten or the program has put other code there.
 */
void overlaps_earlier_site(void **state)
{
	static const uint8_t ret[1] = {0xc3}, nop1[1] = {0x90}, nop2[2] = {0x66, 0x90};
	static const uint8_t jmp[5] = {0xe9, 0x90, 0x90, 0x90, 0x90};
	uint8_t *at = take(4), before[4 * STRIDE];

	(void)state;
	memcpy(at + 8, "\x0f\x1f\x44\x00\x00", 5);
	memcpy(at + 6, "\x66\x90", 2);
	assert_int_equal(text_poke_bp(at + 8, jmp, 5), 0);
	memcpy(before, at, sizeof(before));
	for (size_t i = 1; i < 5; i++) {
		fake_restart();
		assert_int_equal(text_poke_bp(at + 8 + i, ret, 1), -SHUNT_EINVAL);
		expect_refused(-SHUNT_EINVAL, "overlaps one of an earlier call", at + 8 + i);
	}
	at[7] = 0x66; /* an instruction of two bytes, that goes into the site */
	at[8] = 0x90;
	assert_int_equal(text_poke_bp(at + 7, nop2, 2), 0); /* the site is not there any more */
	memcpy(at, before, sizeof(before));
	text_poke_forget(at + 7, 1);
	assert_int_equal(text_poke_bp(at + 6, nop2, 2), 0);
	assert_int_equal(text_poke_bp(at + 13, nop1, 1), 0);
	assert_int_equal(text_poke_bp(at + 8, jmp, 5), 0);
	assert_memory_equal(at, before, sizeof(before));
	text_poke_forget(at + 8, 1);
	assert_int_equal(text_poke_bp(at + 9, ret, 1), 0);
	assert_int_equal(at[9], 0xc3);
}

/* A static branch's site is its key's, from its first byte to its last. */
void site_of_a_key(void **state)
{
	struct shunt_report report;
	struct branches *b;

	(void)state;
	arena_new(0);
	branch_keys_new(1, 0);
	b = branches_new(0, 8, 1);
	assert_int_equal(branches_add(b, &report), 0);
	fake_restart();
	for (uint32_t i = 0; i < 8; i++) {
		uint8_t *at = branch_addr(b, i);
		size_t len = branch_len(b, i);

		assert_int_equal(text_poke_bp(at, len == 5 ? ret5 : (uint8_t *)"\xc3\xcc", len),
				 -SHUNT_EINVAL);
		expect_refused(-SHUNT_EINVAL, "key", at);
		assert_int_equal(text_poke_bp(at, ret5, 1), -SHUNT_EINVAL);
		expect_refused(-SHUNT_EINVAL, "key", at);
		assert_null(branches_wrong(b));
	}
	branches_remove(b);
	/* The module is gone: the text is anyone's. */
	assert_int_equal(text_poke_bp(branch_addr(b, 0), ret5, branch_len(b, 0)), 0);
	text_poke_forget(b->text, 8 * BRANCH_STRIDE);
	arena_free();
}

/* Also where the port has put off finding it. */
static void add_branches(void)
{
	struct shunt_report report = {0};

	fake.on_wanted = NULL;
	assert_int_equal(shunt_sites_add(branches[0].record, (uintptr_t)branches[0].text,
					 branches[0].sites, branches[0].n, &report),
			 0);
}

void site_of_a_key_not_found_yet(void **state)
{
	struct branches *b;

	(void)state;
	arena_new(0);
	branch_keys_new(1, 0);
	b = branches_new(0, 8, 1);
	fake.on_wanted = add_branches;
	assert_int_equal(text_poke_bp(branch_addr(b, 0), ret5, 5), -SHUNT_EINVAL);
	expect_refused(-SHUNT_EINVAL, "key", branch_addr(b, 0));
	assert_null(branches_wrong(b));
	branches_remove(b);
	arena_free();
}

/* Nor may another's site reach into a key's from before it, or lie in its middle. */
void site_across_a_key(void **state)
{
	struct shunt_report report;
	struct branches *b;

	(void)state;
	arena_new(0);
	branch_keys_new(1, 0);
	b = branches_new(0, 8, 1);
	for (uint32_t i = 1; i < 8; i++)
		*(branch_addr(b, i) - 1) = 0xc3; /* what is behind a ret is its own, one thinks */
	assert_int_equal(branches_add(b, &report), 0);
	fake_restart();
	for (uint32_t i = 1; i < 8; i++) {
		uint8_t *at = branch_addr(b, i);
		bool short_nop = *at == 0x66;

		assert_int_equal(text_poke_bp(at - 1, ret5, 2), -SHUNT_EINVAL);
		expect_refused(-SHUNT_EINVAL, "key", at - 1);
		assert_int_equal(text_poke_bp(at - 1, nop5, 5), -SHUNT_EINVAL);
		expect_refused(-SHUNT_EINVAL, "key", at - 1);
		assert_int_equal(text_poke_bp(at - 1, ret5, 1), 0); /* short of it */
		if (short_nop) {
			/* 66 90: its second byte is a nop of its own, to who looks there. */
			assert_int_equal(text_poke_bp(at + 1, ret5, 1), -SHUNT_EINVAL);
			fake_restart();
		}
		fake_restart();
	}
	branches_remove(b);
	text_poke_forget(b->text - 1, 8 * BRANCH_STRIDE);
	arena_free();
}

static int inner;
static bool forget_inside;

static void poke_from_a_handler(void)
{
	const char *violation = fake.violation;

	inner = text_poke_bp(arena.spots[0].addr, ret5, 5);
	if (forget_inside)
		text_poke_forget(arena.spots[0].addr, 1);
	/* To the fake port, a report within an update is a breach; here it is the point. */
	fake.violation = violation;
}

void poke_within_a_poke(void **state)
{
	uint8_t *at = take(10);

	(void)state;
	arena_new(10);
	add_many(at, 10);
	fake.on_sync = poke_from_a_handler;
	forget_inside = true;
	assert_int_equal(text_poke_bp_batch(arena.pokes, arena.n), 0);
	fake.on_sync = NULL;
	forget_inside = false;
	assert_int_equal(inner, -SHUNT_EDEADLK);
	assert_int_equal(fake.report.error, -SHUNT_EDEADLK);
	expect_at_rest(true);
	arena_free();
}
