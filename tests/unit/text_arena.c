/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <shunt/text_poke.h>

#include "core/text_site.h"

#include "../common/nops_x86_64.h"
#include "fake_port.h"
#include "text_arena.h"

struct text_arena arena;

const uint8_t nop5[5] = {0x0f, 0x1f, 0x44, 0x00, 0x00};
const uint8_t ret5[5] = {0xc3, 0xcc, 0xcc, 0xcc, 0xcc};
const uint8_t jmp5[5] = {0xe9, 1, 2, 3, 4};

/* Where sites are. Those that are to be new to the library are taken in order. */
uint8_t text[TEXT_SIZE];
static uint8_t *fresh_text = text + STRIDE;

uint8_t *take(size_t sites)
{
	uint8_t *at = fresh_text;

	fresh_text += sites * STRIDE;
	assert_true(fresh_text <= text + sizeof(text));
	memset(at, 0x90, sites * STRIDE);
	return at;
}

/* ---------------------------------------------------------------- instructions */

static uintptr_t slot = 0x123456789abc;

/* Its bytes at @addr; false where there is none of @len bytes. */
bool form_bytes(const struct form *f, size_t len, uintptr_t addr, uint8_t b[6])
{
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

void add_spot(uint8_t *addr, size_t len, struct form from, struct form to)
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

void arena_new(size_t n)
{
	fake_reset();
	fake_watch(NULL, 0, NULL, 0);
	memset(&arena, 0, sizeof(arena));
	arena.spots = calloc(n + 1, sizeof(*arena.spots));
	arena.pokes = calloc(n + 1, sizeof(*arena.pokes));
	assert_true(arena.spots && arena.pokes);
}

void arena_free(void)
{
	if (fake.violation)
		fail_msg("%s", fake.violation);
	assert_false(fake.locked);
	text_poke_forget(text, sizeof(text));
	free(arena.spots);
	free(arena.pokes);
}

/* At each int3 the effect is that of @new. */
void check_traps(bool new)
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
size_t flip_calls(void)
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

bool has(size_t i, bool new)
{
	const struct spot *s = &arena.spots[i];

	return !memcmp(s->addr, s->bytes[new], s->len);
}

/* What is wrong at rest: text all of @new, no marks, every trap a late one; or NULL. */
const char *wrong_at_rest(bool new)
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

void expect_at_rest(bool new)
{
	const char *why = wrong_at_rest(new);

	if (why)
		fail_msg("%s", why);
}

int poke_all(void)
{
	fake_restart();
	fake.on_write = at_write;
	fake.on_sync = at_sync;
	return text_poke_bp_batch(arena.pokes, arena.n);
}

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

void add_many(uint8_t *at, size_t n)
{
	for (size_t i = 0; i < n; i++)
		add_mixed(at + i * STRIDE + i % 2, i);
}

/* Back to what was there: the same sites, the other way round. */
void turn_round(void)
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
