/* SPDX-License-Identifier: MIT */
/*
 * Pokes for others over the fake port: every instruction to every other of its
 * length, ten thousand sites, what is refused, and each fault at each place. Bytes
 * and effects are written out here, apart from the library's own tables.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include <shunt/text_poke.h>

#include "core/error.h"
#include "core/poke.h"
#include "core/text_site.h"

#include "branch_sites.h"
#include "control.h"
#include "fake_port.h"

#define STRIDE 8

/* Where sites are. Those that are to be new to the library are taken in order. */
static uint8_t text[64 * 1024 * STRIDE];
static uint8_t *fresh_text = text + STRIDE;

static uint8_t *take(size_t sites)
{
	uint8_t *at = fresh_text;

	fresh_text += sites * STRIDE;
	assert_true(fresh_text <= text + sizeof(text));
	memset(at, 0x90, sites * STRIDE);
	return at;
}

/* ---------------------------------------------------------------- instructions */

enum what { NOP, CALL, JMP, JMP8, JCC, JCC8, RET, RET0, CALL_MEM, JMP_MEM, NR_WHAT };

/* One instruction of a site; the target or the slot where there is one. */
struct form {
	enum what what;
	unsigned cc;
	uintptr_t target;
};

static uintptr_t slot = 0x123456789abc;

/* Its bytes at @addr; false where there is none of @len bytes. */
static bool form_bytes(const struct form *f, size_t len, uintptr_t addr, uint8_t b[6])
{
	static const char *const nops[] = {
		"",
		"\x90",
		"\x66\x90",
		"\x0f\x1f\x00",
		"\x0f\x1f\x40\x00",
		"\x0f\x1f\x44\x00\x00",
		"\x66\x0f\x1f\x44\x00\x00",
	};
	uint8_t buf[6] = {0};
	uint32_t rel32;
	size_t n;

	/* What is behind a jmp or a ret is never reached. */
	memset(b, 0xcc, 6);
	switch (f->what) {
	case NOP:
		memcpy(b, nops[len], len);
		return true;
	case RET:
		b[0] = 0xc3;
		return true;
	case RET0:
		memcpy(b, len == 5 ? "\x2e\x2e\x2e\x31\xc0" : "\x2e\x2e\x2e\x2e\x31\xc0",
		       len > 4 ? len : 0);
		return len >= 5;
	case JMP8:
	case JCC8:
		b[0] = f->what == JMP8 ? 0xeb : (uint8_t)(0x70 | f->cc);
		b[1] = (uint8_t)(f->target - addr - 2);
		return f->what == JMP8 ? len >= 2 : len == 2;
	default:
		break;
	}
	if (f->what == JMP || (f->what == CALL && len == 5)) {
		buf[0] = f->what == JMP ? 0xe9 : 0xe8;
		n = 1;
	} else {
		n = 2;
		memcpy(buf,
		       f->what == CALL       ? "\x67\xe8"
		       : f->what == CALL_MEM ? "\xff\x15"
		       : f->what == JMP_MEM  ? "\xff\x25"
					     : "\x0f\x80",
		       2);
		if (f->what == JCC)
			buf[1] |= (uint8_t)f->cc;
	}
	if (len < n + 4 || (len > n + 4 && f->what != JMP))
		return false;
	rel32 = (uint32_t)((f->what == CALL_MEM || f->what == JMP_MEM ? (uintptr_t)&slot
								      : f->target) -
			   addr - n - 4);
	memcpy(b, buf, n);
	memcpy(b + n, &rel32, 4);
	return true;
}

/* The conditions, by the flags of the manual: o b z be s p l le, and their opposites. */
static bool cc_holds(unsigned cc, uintptr_t flags)
{
	bool c = flags & 1, p = flags & 4, z = flags & 0x40, s = flags & 0x80, o = flags & 0x800;
	bool holds[] = {o, c, z, c || z, s, p, s != o, z || s != o};

	return holds[cc / 2] != (cc & 1);
}

static uintptr_t stack[8];

/* What is wrong with a trap at @addr that is to have the effect of @f; or NULL. */
static const char *wrong_effect(const struct form *f, size_t len, uintptr_t addr, uintptr_t flags)
{
	uintptr_t sp = (uintptr_t)&stack[4], next = addr + len;
	struct shunt_regs got = {.ip = addr + 1, .sp = sp, .flags = flags, .ax = 77};
	struct shunt_regs want = got;
	bool call = f->what == CALL || f->what == CALL_MEM;

	stack[3] = 3333;
	stack[4] = 4444;
	if (shunt_trap(&got) != SHUNT_TRAP_EMULATED)
		return "a trap is not emulated";
	switch (f->what) {
	case NOP:
		want.ip = next;
		break;
	case RET:
		want.ip = 4444;
		want.sp += 8;
		break;
	case RET0:
		want.ip = next;
		want.ax = 0;
		want.flags = (flags & ~(uintptr_t)0x881) | 0x44;
		break;
	case JCC:
	case JCC8:
		want.ip = cc_holds(f->cc, flags) ? f->target : next;
		break;
	case CALL_MEM:
	case JMP_MEM:
		want.ip = slot;
		break;
	default:
		want.ip = f->target;
	}
	want.sp -= call ? 8 : 0;
	if (memcmp(&got, &want, sizeof(got)) != 0)
		return "registers after a trap";
	return stack[3] == (call ? next : 3333) ? NULL : "the stack after a trap";
}

/* -------------------------------------------------------------------- the sites */

struct spot {
	uint8_t *addr;
	size_t len;
	struct form form[2]; /* before and after: what a trap does */
	uint8_t bytes[2][6];
};

static struct {
	struct spot *spots;
	struct text_poke *pokes;
	size_t n;
	bool tails; /* any tail changes: three syncs */
	const char *wrong;
	unsigned long traps[2];
} arena;

static void add_spot(uint8_t *addr, size_t len, struct form from, struct form to)
{
	struct spot *s = &arena.spots[arena.n];

	*s = (struct spot){.addr = addr, .len = len, .form = {from, to}};
	for (unsigned i = 0; i < 2; i++)
		assert_true(form_bytes(&s->form[i], len, (uintptr_t)addr, s->bytes[i]));
	memcpy(addr, s->bytes[0], len);
	arena.tails = arena.tails || memcmp(s->bytes[0] + 1, s->bytes[1] + 1, len - 1) != 0;
	arena.pokes[arena.n++] = (struct text_poke){
		.addr = addr, .insn = s->bytes[1], .len = len, .old = s->bytes[0]};
}

static void arena_new(size_t n)
{
	fake_reset();
	fake_watch(NULL, 0, NULL, 0);
	memset(&arena, 0, sizeof(arena));
	arena.spots = calloc(n + 1, sizeof(*arena.spots));
	arena.pokes = calloc(n + 1, sizeof(*arena.pokes));
	assert_true(arena.spots && arena.pokes);
}

static void arena_free(void)
{
	if (fake.violation)
		fail_msg("%s", fake.violation);
	assert_false(fake.locked);
	text_poke_forget(text, sizeof(text));
	free(arena.spots);
	free(arena.pokes);
}

/* At each int3 the effect is that of @new. */
static void check_traps(bool new)
{
	static unsigned turn;
	/* None, all, and each alone, by turns: no two conditions agree in all of them. */
	static const uintptr_t flags[] = {0x202,        0x202 | 0x8d5, 0x202 | 1,    0x202 | 4,
					  0x202 | 0x40, 0x202 | 0x80,  0x202 | 0x800};

	for (size_t i = 0; i < arena.n; i++) {
		const struct spot *s = &arena.spots[i];
		const char *why;

		if (*s->addr != SHUNT_INT3)
			continue;
		arena.traps[new]++;
		why = wrong_effect(&s->form[new], s->len, (uintptr_t)s->addr,
				   flags[turn++ % ARRAY_SIZE(flags)]);
		if (why && !arena.wrong)
			arena.wrong = why;
	}
}

/* Writes of the flips in a batch that has others too, 256 in a call. */
static size_t flip_calls(void)
{
	size_t flips = 0;

	for (size_t i = 0; i < arena.n; i++) {
		const struct spot *s = &arena.spots[i];

		flips += s->bytes[0][0] != s->bytes[1][0] &&
			 !memcmp(s->bytes[0] + 1, s->bytes[1] + 1, s->len - 1);
	}
	return flips < arena.n ? (flips + 255) / 256 : 0;
}

static size_t calls_before; /* writes up to the last sync */
static size_t with_flips;   /* what flip_calls() is of the batch in which a step fails */

/* The commit lies behind the sync of the last tail, and the flips, and before the first bytes. */
static void at_write(void)
{
	check_traps(fake.syncs >= (arena.tails ? 2 : 1) &&
		    fake.write_calls > calls_before + flip_calls());
}

static void at_sync(void)
{
	calls_before = fake.write_calls;
	check_traps(fake.syncs > (arena.tails ? 2 : 1));
}

static bool has(size_t i, bool new)
{
	const struct spot *s = &arena.spots[i];

	return !memcmp(s->addr, s->bytes[new], s->len);
}

/* What is wrong at rest: text all of @new, no marks, every trap a late one; or NULL. */
static const char *wrong_at_rest(bool new)
{
	for (size_t i = 0; i < arena.n; i++) {
		uintptr_t addr = (uintptr_t)arena.spots[i].addr;
		struct shunt_regs regs = {.ip = addr + 1};
		struct shunt_insn insn;
		struct shunt_site *site = shunt_text_site_find(addr, &insn);

		if (!has(i, new))
			return "text is not what it should be";
		if (!site)
			continue; /* never poked */
		if (site->poked)
			return "a mark is left";
		if (shunt_trap(&regs) != SHUNT_TRAP_LATE || regs.ip != addr)
			return "a late trap does not look again";
	}
	return arena.wrong ? arena.wrong : fake.violation;
}

static void expect_at_rest(bool new)
{
	const char *why = wrong_at_rest(new);

	if (why)
		fail_msg("%s", why);
}

static int poke_all(void)
{
	fake_restart();
	fake.on_write = at_write;
	fake.on_sync = at_sync;
	return text_poke_bp_batch(arena.pokes, arena.n);
}

/* ------------------------------------------------------------ all pairs of forms */

/* The @i-th form of all that there are; false behind the last one. */
static bool nth_form(unsigned i, uint8_t *addr, struct form *f)
{
	/* Each what, with two targets; the conditional ones with all sixteen conditions. */
	if (i >= 2 * NR_WHAT + 2 * 14)
		return false;
	*f = (struct form){
		.what = i / 2, .cc = 4, .target = (uintptr_t)text + 0x12345 * (i % 2 + 1)};
	if (i >= 2 * NR_WHAT) {
		i -= 2 * NR_WHAT;
		f->what = (i & 1) ? JCC : JCC8;
		f->cc = i / 2 + 2;
	}
	if (f->what == JMP8 || f->what == JCC8)
		f->target = (uintptr_t)addr + 2 + (uintptr_t)((i % 2) ? 100 : -100);
	return true;
}

static void every_pair_of_instructions(void **state)
{
	unsigned long pairs = 0, traps[2] = {0};
	uint8_t *at = take(1);

	(void)state;
	for (size_t len = 1; len <= 6; len++)
		for (unsigned i = 0;; i++) {
			struct form from, to;
			uint8_t unused[6];

			if (!nth_form(i, at, &from))
				break;
			if (!form_bytes(&from, len, (uintptr_t)at, unused))
				continue;
			for (unsigned j = 0; nth_form(j, at, &to); j++) {
				struct fake_site site = {at, (uint8_t)len};

				if (!form_bytes(&to, len, (uintptr_t)at, unused))
					continue;
				arena_new(1);
				add_spot(at, len, from, to);
				fake_watch(at, STRIDE, &site, 1);
				assert_int_equal(poke_all(), 0);
				expect_at_rest(true);
				assert_int_equal(fake.reports, 0);
				assert_int_equal(fake.begun_for, 1);
				pairs++;
				for (unsigned k = 0; k < 2; k++)
					traps[k] += arena.traps[k];
				fake_watch(NULL, 0, NULL, 0);
				arena_free();
			}
		}
	print_message("%lu pairs, %lu traps before, %lu after the commit\n", pairs, traps[0],
		      traps[1]);
	assert_true(pairs > 1500 && traps[0] > pairs && traps[1] >= pairs);
}

/* ----------------------------------------------------------------- many sites */

/* One of a few kinds of change for each site, of lengths 1 to 6. */
static void add_mixed(uint8_t *at, size_t i)
{
	static const struct {
		size_t len;
		enum what from, to;
	} kinds[] = {
		{5, NOP, CALL},      {5, CALL, NOP}, {6, JCC, NOP}, {5, JMP, RET},
		{2, NOP, JMP8},      {1, NOP, RET},  {3, RET, NOP}, {5, CALL, RET0},
		{6, CALL_MEM, CALL}, {4, NOP, RET},
	};
	size_t k = i % ARRAY_SIZE(kinds);
	struct form from = {kinds[k].from, (unsigned)i % 16,
			    (uintptr_t)text + 0x1000 * (i % 50 + 1)};
	struct form to = from;

	to.what = kinds[k].to;
	to.target = to.what == JMP8 ? (uintptr_t)at + 50 : from.target + 0x234567;
	add_spot(at, kinds[k].len, from, to);
}

static void add_many(uint8_t *at, size_t n)
{
	for (size_t i = 0; i < n; i++)
		add_mixed(at + i * STRIDE + i % 2, i);
}

/* Back to what was there: the same sites, the other way round. */
static void turn_round(void)
{
	for (size_t i = 0; i < arena.n; i++) {
		struct spot *s = &arena.spots[i];
		struct form f = s->form[0];
		uint8_t bytes[6];

		s->form[0] = s->form[1];
		s->form[1] = f;
		memcpy(bytes, s->bytes[0], 6);
		memcpy(s->bytes[0], s->bytes[1], 6);
		memcpy(s->bytes[1], bytes, 6);
	}
}

static void ten_thousand_sites(void **state)
{
	enum { MANY = 10000 };
	uint8_t *at;
	size_t outstanding;

	(void)state;
	SKIP_IN_TSAN();
	at = take(MANY);
	arena_new(MANY);
	fake.quiet = true;
	add_many(at, MANY);
	assert_int_equal(poke_all(), 0);
	assert_int_equal(fake.syncs, 3);
	assert_int_equal(fake.begun_for, MANY);
	assert_true(fake.text_checks <= 2); /* of all sites together */
	expect_at_rest(true);
	assert_true(arena.traps[0] >= 2 * MANY && arena.traps[1] >= MANY);

	/* Their records are there for good: a second time needs no more of them. */
	outstanding = fake.outstanding;
	fake_restart();
	turn_round();
	assert_int_equal(poke_all(), 0);
	expect_at_rest(true);
	assert_int_equal(fake.allocs, 1);
	assert_int_equal(fake.outstanding, outstanding);

	/* Every second one is forgotten: not known, and the others are. */
	for (size_t i = 0; i < MANY; i += 1000)
		text_poke_forget(arena.spots[i].addr, 500 * STRIDE - 1);
	for (size_t i = 0; i < MANY; i++) {
		struct shunt_insn insn;
		bool known = shunt_site_find((uintptr_t)arena.spots[i].addr, &insn);

		assert_int_equal(known, i % 1000 >= 500);
	}
	/* And made known again. */
	fake_restart();
	turn_round();
	assert_int_equal(poke_all(), 0);
	expect_at_rest(true);
	assert_int_equal(fake.outstanding, outstanding);
	arena_free();
}

/* ------------------------------------------------------------------- one site */

static const uint8_t nop5[] = {0x0f, 0x1f, 0x44, 0x00, 0x00},
		     ret5[] = {0xc3, 0xcc, 0xcc, 0xcc, 0xcc}, jmp5[] = {0xe9, 1, 2, 3, 4};

/* With three arguments, and with four. */
static void both_macros(void **state)
{
	uint8_t *at = take(1);

	(void)state;
	arena_new(0);
	memcpy(at, nop5, 5);
	assert_int_equal(text_poke_bp(at, jmp5, 5), 0);
	assert_memory_equal(at, jmp5, 5);
	assert_int_equal(text_poke_bp(at, nop5, sizeof(nop5), NULL), 0);
	assert_memory_equal(at, nop5, 5);
	assert_int_equal(text_poke_bp(at, ret5, 5, jmp5), 0);
	assert_memory_equal(at, ret5, 5);
	assert_int_equal((text_poke_bp)(at, nop5, 5, NULL), 0);
	assert_memory_equal(at, nop5, 5);
	text_poke_forget(at, 1);
	arena_free();
}

/* Where clang has left room for a patch (-fpatchable-function-entry=5), and back. */
static void room_of_clang(void **state)
{
	static const uint8_t clang5[] = {0x0f, 0x1f, 0x44, 0x00, 0x08};
	static const uint8_t gcc5[] = {0x90, 0x90, 0x90, 0x90, 0x90};
	uint8_t *at = take(1);

	(void)state;
	arena_new(0);
	memcpy(at, clang5, 5);
	assert_int_equal(text_poke_bp(at, jmp5, 5), 0);
	assert_memory_equal(at, jmp5, 5);
	assert_int_equal(text_poke_bp(at, clang5, 5), 0);
	assert_memory_equal(at, clang5, 5);
	/* gcc's are five instructions: a thread may be between them. */
	memcpy(at, gcc5, 5);
	assert_int_equal(text_poke_bp(at, jmp5, 5), -SHUNT_EINVAL);
	assert_memory_equal(at, gcc5, 5);
	text_poke_forget(at, 1);
	arena_free();
}

/* What traps after the commit does what @emulate says. */
static void emulate_argument(void **state)
{
	uint8_t *at = take(1);

	(void)state;
	arena_new(1);
	add_spot(at, 5, (struct form){.what = NOP}, (struct form){.what = RET});
	arena.spots[0].form[1] =
		(struct form){.what = JMP, .target = (uintptr_t)at + 5 + 0x04030201};
	arena.pokes[0].emulate = jmp5;
	assert_int_equal(poke_all(), 0);
	assert_true(arena.traps[0] && arena.traps[1]);
	expect_at_rest(true);
	assert_memory_equal(at, ret5, 5);
	/* The next poke starts from what the text is, not from what was emulated. */
	arena.pokes[0] = (struct text_poke){.addr = at, .insn = nop5, .len = 5, .old = ret5};
	arena.spots[0].form[0] = (struct form){.what = RET};
	arena.spots[0].form[1] = (struct form){.what = NOP};
	memcpy(arena.spots[0].bytes[1], nop5, 5);
	assert_int_equal(poke_all(), 0);
	expect_at_rest(true);
	arena_free();
}

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

static void bad_arguments(void **state)
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
	expect_refused(-SHUNT_EINVAL, NULL, NULL);
	assert_int_equal(text_poke_bp(at, NULL, 5), -SHUNT_EINVAL);
	expect_refused(-SHUNT_EINVAL, NULL, at);
	assert_int_equal(text_poke_bp(at, jmp5, 0), -SHUNT_EINVAL);
	expect_refused(-SHUNT_EINVAL, NULL, at);
	assert_int_equal(text_poke_bp(at, jmp5, 7), -SHUNT_EINVAL);
	expect_refused(-SHUNT_EINVAL, NULL, at);
	assert_int_equal(text_poke_bp(at, jmp5, SIZE_MAX), -SHUNT_EINVAL);
	expect_refused(-SHUNT_EINVAL, NULL, at);
	assert_memory_equal(at, before, STRIDE);
	arena_free();
}

/* A target above 2^47, as there are with five levels of page tables: no 48 bits hold it. */
static void target_above_47_bits(void **state)
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
	expect_refused(-SHUNT_ERANGE, "new", at);
	assert_memory_equal(at, nop, 5);
	assert_int_equal(text_poke_bp(at, nop, 5, jmp), -SHUNT_ERANGE);
	expect_refused(-SHUNT_ERANGE, "new", at);
	memcpy(at, jmp, 5);
	assert_int_equal(text_poke_bp(at, nop, 5), -SHUNT_ERANGE);
	expect_refused(-SHUNT_ERANGE, "old", at);
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

static void undecodable_instructions(void **state)
{
	static const char *const good[] = {"",
					   "\x90",
					   "\x66\x90",
					   "\x0f\x1f\x00",
					   "\x0f\x1f\x40\x00",
					   "\x0f\x1f\x44\x00\x00",
					   "\x66\x0f\x1f\x44\x00\x00"};
	uint8_t *at = take(1);

	(void)state;
	arena_new(0);
	for (size_t i = 0; i < ARRAY_SIZE(undecodable); i++) {
		size_t len = undecodable[i].len;
		const void *bad = undecodable[i].bytes;

		memcpy(at, good[len], len);
		assert_int_equal(text_poke_bp(at, bad, len), -SHUNT_EINVAL);
		expect_refused(-SHUNT_EINVAL, "new", at);
		assert_int_equal(text_poke_bp(at, good[len], len, bad), -SHUNT_EINVAL);
		expect_refused(-SHUNT_EINVAL, "new", at);
		/* What is emulated is one thing, but what stays must be known as well. */
		assert_int_equal(text_poke_bp(at, bad, len, good[len]), -SHUNT_EINVAL);
		expect_refused(-SHUNT_EINVAL, "new", at);
		assert_memory_equal(at, good[len], len);
		memcpy(at, bad, len);
		assert_int_equal(text_poke_bp(at, good[len], len), -SHUNT_EINVAL);
		expect_refused(-SHUNT_EINVAL, "old", at);
		assert_memory_equal(at, bad, len);
	}
	arena_free();
}

/* Each byte that is not what is expected, a debugger's breakpoint among them. */
static void old_bytes_mismatch(void **state)
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

static void overlapping_sites(void **state)
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
static void overlaps_earlier_site(void **state)
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
static void site_of_a_key(void **state)
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

static void site_of_a_key_not_found_yet(void **state)
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
static void site_across_a_key(void **state)
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

static void poke_within_a_poke(void **state)
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

/* ------------------------------------------------------------------------ forget */

static bool is_known(const uint8_t *at)
{
	struct shunt_insn insn;

	return shunt_site_find((uintptr_t)at, &insn);
}

static void forget(void **state)
{
	uint8_t *at = take(3);

	(void)state;
	arena_new(0);
	text_poke_forget(at, 3 * STRIDE);
	text_poke_forget(NULL, SIZE_MAX);
	memcpy(at + STRIDE, nop5, 5);
	assert_false(is_known(at + STRIDE));
	for (unsigned round = 0; round < 5; round++) {
		struct shunt_regs regs = {.ip = (uintptr_t)at + STRIDE + 1}, before = regs;

		assert_int_equal(text_poke_bp(at + STRIDE, (round & 1) ? nop5 : ret5, 5), 0);
		assert_true(is_known(at + STRIDE));
		text_poke_forget(at, STRIDE);
		text_poke_forget(at + STRIDE + 1, STRIDE);
		text_poke_forget(at + STRIDE, 0);
		assert_true(is_known(at + STRIDE));
		assert_int_equal(shunt_trap(&regs), SHUNT_TRAP_LATE);
		regs = before;
		text_poke_forget(at, STRIDE + 1);
		assert_false(is_known(at + STRIDE));
		assert_int_equal(shunt_trap(&regs), SHUNT_TRAP_FOREIGN);
		assert_memory_equal(&regs, &before, sizeof(regs));
	}
	/* Another instruction, of another length, may come to stand there. */
	at[STRIDE] = 0x90;
	assert_int_equal(text_poke_bp(at + STRIDE, ret5, 1), 0);
	assert_true(is_known(at + STRIDE));
	text_poke_forget(NULL, SIZE_MAX);
	assert_false(is_known(at + STRIDE));
	arena_free();
}

/* To the byte, whether it goes by addresses or by records. */
static void edges_of_what_is_forgotten(void **state)
{
	static const size_t lens[] = {1, 5, 100, 1 << 24};
	uint8_t *at = take(2), *behind = at + STRIDE;

	(void)state;
	arena_new(0);
	for (size_t i = 0; i < ARRAY_SIZE(lens); i++)
		for (unsigned round = 0; round < 3; round++) {
			memcpy(at, nop5, 5);
			memcpy(behind, nop5, 5);
			assert_int_equal(text_poke_bp(at, ret5, 5), 0);
			assert_int_equal(text_poke_bp(behind, ret5, 5), 0);
			/* The range ends before the site; in its first byte; or starts behind it.
			 */
			text_poke_forget(behind + (round == 1) - lens[i], lens[i]);
			assert_int_equal(is_known(behind), round != 1);
			assert_int_equal(is_known(at), lens[i] < STRIDE);
			text_poke_forget(behind + 1, lens[i]);
			assert_int_equal(is_known(behind), round != 1);
			text_poke_forget(NULL, SIZE_MAX);
		}
	arena_free();
}

/*
 * A site that was left on an int3 is forgotten, and other code comes to stand there: an
 * int3 in that is not ours, neither to a trap nor to the next poke.
 */
static void forgotten_with_its_int3(void **state)
{
	uint8_t *at = take(1);

	(void)state;
	for (unsigned len = 1; len <= 5; len += 4)
		for (size_t k = 2; k <= 3; k++) {
			struct text_poke again = {at, nop5, 5, ret5, NULL};
			struct shunt_regs regs = {.ip = (uintptr_t)at + 1};

			arena_new(0);
			memcpy(at, nop5, 5);
			/* The int3 can be written, and not one byte more. */
			fake.write =
				(struct fake_fault){.at = 2, .onwards = true, .error = -SHUNT_EIO};
			assert_int_not_equal(text_poke_bp(at, "\xe9\x00\x01\x00\x00", 5), 0);
			fake.write = (struct fake_fault){0};
			assert_int_equal(*at, SHUNT_INT3);
			if (k == 2)
				text_poke_forget(at, len);
			else
				text_poke_forget(NULL, SIZE_MAX);
			memcpy(at, ret5, 5);
			*at = SHUNT_INT3; /* a debugger's */
			fake_restart();
			assert_int_equal(shunt_trap(&regs), SHUNT_TRAP_FOREIGN);
			assert_int_equal(text_poke_bp_batch(&again, 1), -SHUNT_EBUSY);
			assert_int_equal(*at, SHUNT_INT3);
			*at = ret5[0];
			assert_int_equal(text_poke_bp_batch(&again, 1), 0);
			arena_free();
		}
}

/* ------------------------------------------------------------------------ faults */

static size_t fails_at(struct fake_fault *fault, int error, size_t n, bool known)
{
	size_t failures = 0;

	for (size_t k = 1;; k++) {
		uint8_t *at = take(n);
		int ret;

		arena_new(n);
		add_many(at, n);
		if (known) {
			for (unsigned i = 0; i < 2; i++) {
				assert_int_equal(poke_all(), 0);
				turn_round();
			}
			fake_restart();
		}
		*fault = (struct fake_fault){.at = k, .error = error};
		ret = poke_all();
		*fault = (struct fake_fault){0};
		if (ret) {
			failures++;
			assert_int_equal(ret, error);
			assert_int_equal(fake.reports, 1);
			assert_int_equal(fake.report.error, error);
			assert_non_null(fake.report.what);
			/* The traps on the way back are the old ones again: not checked here. */
			arena.wrong = NULL;
			expect_at_rest(false);
			fake_restart();
			assert_int_equal(poke_all(), 0);
		}
		expect_at_rest(true);
		with_flips = flip_calls();
		arena_free();
		if (!ret)
			return failures;
	}
}

static void every_step_fails(void **state)
{
	(void)state;
	SKIP_IN_TSAN();
	for (size_t n = 1; n <= 21; n += 10) {
		assert_int_equal(fails_at(&fake.begin, -SHUNT_EPERM, n, false), 1);
		assert_int_equal(fails_at(&fake.sync, -SHUNT_EPERM, n, false), 3);
		assert_int_equal(fails_at(&fake.write_call, -SHUNT_EIO, n, false), 3 + with_flips);
		assert_true(fails_at(&fake.write, -SHUNT_EIO, n, true) >= 2 * n);
	}
}

/* For the batch, for the table when it grows, and for each block of records. */
static void no_memory(void **state)
{
	size_t failures = 0;

	(void)state;
	SKIP_IN_TSAN();
	for (size_t n = 1; n < 2000; n = 3 * n + 1)
		failures += fails_at(&fake.alloc, -SHUNT_ENOMEM, n, false);
	print_message("%zu failures of memory\n", failures);
	assert_true(failures > 20);
	/* Sites that are known need none but for the batch. */
	assert_int_equal(fails_at(&fake.alloc, -SHUNT_ENOMEM, 30, true), 1);
}

/*
 * The way back fails as well: sites stay on an int3 that does old or new, as the
 * result says; the next poke mends them, whatever it is to.
 */
/* While sites are mended they do what they did, up to the commit. */
static bool left_new;

static void at_first_sync(void)
{
	if (fake.syncs == 1)
		check_traps(left_new);
}

static void cannot_be_undone(void **state)
{
	size_t kept = 0, changed = 0;

	(void)state;
	SKIP_IN_TSAN();
	for (size_t k = 1; k <= 30; k++)
		for (unsigned back = 0; back < 2; back++) {
			uint8_t *at = take(10);
			int ret;

			arena_new(10);
			add_many(at, 10);
			fake.write =
				(struct fake_fault){.at = k, .onwards = true, .error = -SHUNT_EIO};
			ret = text_poke_bp_batch(arena.pokes, arena.n);
			fake.write = (struct fake_fault){0};
			if (!fake.injected) {
				arena_free();
				continue;
			}
			assert_int_equal(fake.report.error, -SHUNT_EIO);
			*(ret ? &kept : &changed) += 1;
			check_traps(!ret);
			assert_null(arena.wrong);
			for (size_t i = 0; i < arena.n; i++) {
				/* What stands there now is no instruction to compare with. */
				arena.pokes[i].old = NULL;
				assert_true(*arena.spots[i].addr == SHUNT_INT3 || has(i, !ret));
			}
			if (back)
				for (size_t i = 0; i < arena.n; i++)
					arena.pokes[i].insn = arena.spots[i].bytes[0];
			fake_restart();
			left_new = !ret;
			fake.on_sync = at_first_sync;
			assert_int_equal(text_poke_bp_batch(arena.pokes, arena.n), 0);
			expect_at_rest(!back);
			arena_free();
		}
	assert_true(kept && changed);
}

/* ---------------------------------------------- handlers beside a growing table */

static struct {
	_Atomic bool stop;
	_Atomic unsigned long traps, emulated, wrong;
	uint8_t *known;
} crowd;

static void *trap_all_the_time(void *arg)
{
	uintptr_t own_stack[4] = {0};
	uintptr_t addr = (uintptr_t)crowd.known;

	(void)arg;
	while (!crowd.stop) {
		struct shunt_regs regs = {.ip = addr + 1, .sp = (uintptr_t)&own_stack[2]};
		enum shunt_trap trap = shunt_trap(&regs);

		crowd.traps++;
		crowd.emulated += trap == SHUNT_TRAP_EMULATED;
		if (trap == SHUNT_TRAP_FOREIGN || (trap == SHUNT_TRAP_LATE && regs.ip != addr) ||
		    (trap == SHUNT_TRAP_EMULATED && regs.ip != addr + 5 &&
		     regs.ip != addr + 5 + 0x04030201))
			crowd.wrong++;
	}
	return NULL;
}

static void handlers_beside_a_growing_table(void **state)
{
	enum { MORE = 12000 };
	uint8_t *at = take(MORE);
	pthread_t handler;
	unsigned long pokes = 0;

	(void)state;
	arena_new(0);
	fake.quiet = true;
	crowd.known = take(1);
	memcpy(crowd.known, nop5, 5);
	assert_int_equal(text_poke_bp(crowd.known, jmp5, 5), 0);
	assert_int_equal(pthread_create(&handler, NULL, trap_all_the_time, NULL), 0);
	while (pokes < MORE || (pokes < 5000000 && !crowd.emulated)) {
		if (pokes < MORE)
			assert_int_equal(text_poke_bp(at + pokes * STRIDE, ret5, 1), 0);
		assert_int_equal(text_poke_bp(crowd.known, (pokes++ & 1) ? jmp5 : nop5, 5), 0);
	}
	crowd.stop = true;
	pthread_join(handler, NULL);
	print_message("%lu pokes, %lu traps, %lu of them emulated\n", pokes, crowd.traps,
		      crowd.emulated);
	assert_int_equal(crowd.wrong, 0);
	assert_true(crowd.emulated > 0);
	for (size_t i = 0; i < MORE; i++)
		assert_true(is_known(at + i * STRIDE));
	text_poke_forget(text, sizeof(text));
	arena_free();
}

/* ------------------------------------------------------------ negative controls */

static void wrong_outcomes_are_seen(void **state)
{
	uint8_t *at = take(10);
	size_t writes;

	(void)state;
	arena_new(10);
	add_many(at, 10);
	assert_null(wrong_at_rest(false));
	assert_non_null(wrong_at_rest(true));
	assert_int_equal(poke_all(), 0);
	assert_null(wrong_at_rest(true));
	writes = fake.writes;
	/* The effect of another target, and of another instruction. */
	*arena.spots[0].addr = SHUNT_INT3;
	check_traps(true); /* one that nobody has marked */
	assert_non_null(arena.wrong);
	arena.wrong = NULL;
	{
		struct shunt_insn insn;
		struct shunt_site *site =
			shunt_text_site_find((uintptr_t)arena.spots[0].addr, &insn);

		assert_non_null(site);
		site->poked = 1;
		check_traps(true);
		assert_null(arena.wrong);
		check_traps(false);
		assert_non_null(arena.wrong);
		arena.wrong = NULL;
		arena.spots[0].form[1].target++;
		check_traps(true);
		assert_non_null(arena.wrong);
		site->poked = 0;
	}
	arena_free();
	for (size_t k = 1; k <= writes; k++) {
		struct fake_site sites[10];

		arena_new(10);
		add_many(at, 10);
		for (size_t i = 0; i < 10; i++)
			sites[i] = (struct fake_site){arena.spots[i].addr,
						      (uint8_t)arena.spots[i].len};
		fake_watch(at, 10 * STRIDE, sites, 10);
		fake.drop_at = k;
		(void)!poke_all();
		/* Of a site of one byte a lost int3 is nothing to anyone. */
		if (k > 10)
			assert_non_null(wrong_at_rest(true));
		fake.violation = NULL;
		fake_watch(NULL, 0, NULL, 0);
		arena_free();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_pair_of_instructions),
		cmocka_unit_test(ten_thousand_sites),
		cmocka_unit_test(both_macros),
		cmocka_unit_test(room_of_clang),
		cmocka_unit_test(emulate_argument),
		cmocka_unit_test(bad_arguments),
		cmocka_unit_test(target_above_47_bits),
		cmocka_unit_test(undecodable_instructions),
		cmocka_unit_test(old_bytes_mismatch),
		cmocka_unit_test(overlapping_sites),
		cmocka_unit_test(overlaps_earlier_site),
		cmocka_unit_test(site_of_a_key),
		cmocka_unit_test(site_of_a_key_not_found_yet),
		cmocka_unit_test(site_across_a_key),
		cmocka_unit_test(poke_within_a_poke),
		cmocka_unit_test(forget),
		cmocka_unit_test(edges_of_what_is_forgotten),
		cmocka_unit_test(forgotten_with_its_int3),
		cmocka_unit_test(every_step_fails),
		cmocka_unit_test(no_memory),
		cmocka_unit_test(cannot_be_undone),
		cmocka_unit_test(handlers_beside_a_growing_table),
		cmocka_unit_test(wrong_outcomes_are_seen),
	};

	return cmocka_run_group_tests(tests, NULL, fake_teardown);
}
