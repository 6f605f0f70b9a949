/* SPDX-License-Identifier: MIT */
/* The arena (arena.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arena.h"
#include "poke_hooked.h"

enum where { NOWHERE, A, B, A_NEAR, SLOT };

struct shape {
	uint8_t op, len, cc;
	enum where target;
};

/* From what to what a site can change; each of one length. */
static const struct {
	struct shape form[2];
} changes[KINDS] = {
	{{{SHUNT_OP_CALL, 5, 0, A}, {SHUNT_OP_CALL, 5, 0, B}}},
	{{{SHUNT_OP_CALL, 5, 0, A}, {SHUNT_OP_NOP, 5, 0, NOWHERE}}},
	{{{SHUNT_OP_JCC, 6, 12, A}, {SHUNT_OP_JCC, 6, 12, B}}},
	{{{SHUNT_OP_JMP, 5, 0, A}, {SHUNT_OP_RET, 5, 0, NOWHERE}}},
	{{{SHUNT_OP_CALL, 5, 0, A}, {SHUNT_OP_CALL, 5, 0, A_NEAR}}},
	{{{SHUNT_OP_RET0, 5, 0, NOWHERE}, {SHUNT_OP_CALL, 5, 0, B}}},
	{{{SHUNT_OP_CALL_MEM, 6, 0, SLOT}, {SHUNT_OP_NOP, 6, 0, NOWHERE}}},
	{{{SHUNT_OP_CALL, 5, 0, A}, {SHUNT_OP_JMP, 5, 0, A}}}, /* no tail changes */
};

struct arena arena;
unsigned long checks;

void wrong(const char *what)
{
	if (!arena.wrong)
		arena.wrong = what;
}

static bool insn_of(const struct shunt_table *table, const struct shunt_site *site,
		    struct shunt_insn *out)
{
	(void)table;
	*out = arena.spots[site->owner]
		       .insn[atomic_load_explicit(&arena.state, memory_order_acquire)];
	return out->op != SHUNT_OP_NONE;
}

static struct shunt_table table = {.insn = insn_of};

static uintptr_t target_of(enum where where)
{
	uintptr_t text = (uintptr_t)arena.text;

	switch (where) {
	case A:
		return text - 0x123456;
	case A_NEAR: /* another byte of the rel32 than the first */
		return text - 0x123456 + 0x20000;
	case B:
		return text + 0x1654321;
	case SLOT:
		return text + arena.size - sizeof(uintptr_t);
	default:
		return 0;
	}
}

void make_spot(size_t i, size_t kind)
{
	struct spot *spot = &arena.spots[i];

	spot->addr = arena.text + arena.shift + i * STRIDE + i % 3;
	spot->len = changes[kind].form[0].len;
	for (unsigned s = 0; s < 2; s++) {
		const struct shape *shape = &changes[kind].form[s];
		uint8_t buf[SHUNT_INSN_MAX];

		spot->insn[s] = (struct shunt_insn){shape->op, shape->len, shape->cc,
						    target_of(shape->target)};
		assert_int_equal(shunt_insn_encode(&spot->insn[s], (uintptr_t)spot->addr, buf),
				 spot->len);
		memcpy(spot->bytes[s], buf, spot->len);
	}
	memcpy(spot->addr, spot->bytes[0], spot->len);
	arena.sites[i].off = (uint32_t)(spot->addr - arena.text);
	arena.sites[i].owner = (uint32_t)i;
}

static void watch(void)
{
	struct fake_site *sites = calloc(arena.n + 1, sizeof(*sites));

	assert_non_null(sites);
	for (size_t i = 0; i < arena.n; i++)
		sites[i] = (struct fake_site){arena.spots[i].addr, (uint8_t)arena.spots[i].len};
	fake_watch(arena.text, arena.size, sites, arena.n);
	free(sites);
}

void arena_new(size_t n, size_t kind)
{
	fake_reset();
	arena.n = n;
	arena.size = arena.shift + n * STRIDE + 16;
	arena.text = malloc(arena.size);
	arena.spots = calloc(n + 1, sizeof(*arena.spots));
	arena.sites = calloc(n + 1, sizeof(*arena.sites));
	assert_true(arena.text && arena.spots && arena.sites);
	memset(arena.text, 0x90, arena.size);
	for (size_t i = 0; i < n; i++)
		make_spot(i, kind == MIXED ? i % KINDS : kind);
	arena.state = false;
	arena.wrong = NULL;
	arena.commits = arena.reverts = 0;
	arena.check_turn = check_turn;
	shunt_table_publish(&table, (uintptr_t)arena.text, arena.sites, (uint32_t)n);
	watch();
}

void arena_free(void)
{
	shunt_table_withdraw(&table);
	fake_watch(NULL, 0, NULL, 0);
	fake_reset();
	free(arena.text);
	free(arena.spots);
	free(arena.sites);
	poke_before_load = NULL;
}

bool is_poked(size_t i)
{
	return arena.sites[i].poked;
}

bool has(size_t i, bool state)
{
	const struct spot *spot = &arena.spots[i];

	return !memcmp(spot->addr, spot->bytes[state], spot->len);
}

/* ------------------------------------------------------------------- checkers */

uint8_t stack[STACK];

void fresh_stack(void)
{
	for (size_t i = 0; i < STACK; i++)
		stack[i] = (uint8_t)(i * 151);
}

const char *wrong_effect(size_t i, unsigned flags)
{
	const struct spot *spot = &arena.spots[i];
	uintptr_t addr = (uintptr_t)spot->addr;
	struct shunt_regs got = {
		.ip = addr + 1, .sp = (uintptr_t)stack + STACK / 2, .flags = flags, .ax = 0x5eed};
	struct shunt_regs want = got;
	uint8_t stack_got[STACK];
	bool trap = spot->addr[0] == SHUNT_INT3;
	enum shunt_trap whose;

	checks++;
	fresh_stack();
	whose = shunt_trap(&got);
	memcpy(stack_got, stack, STACK);
	fresh_stack();
	if (!trap)
		want.ip = addr;
	else if (!shunt_emulate(&want, addr, &spot->insn[arena.state]))
		return "not an instruction that has an emulation";
	if (whose != (trap ? SHUNT_TRAP_EMULATED : SHUNT_TRAP_LATE))
		return whose == SHUNT_TRAP_FOREIGN ? "a trap of ours is called foreign"
						   : "late and emulated are mixed up";
	if (memcmp(&got, &want, sizeof(got)) != 0)
		return "registers after the trap";
	if (memcmp(stack_got, stack, STACK) != 0)
		return "stack after the trap";
	return NULL;
}

const char *wrong_effects(void)
{
	for (size_t i = 0; i < arena.n; i++)
		for (unsigned f = 0; f < 2; f++) {
			const char *why = wrong_effect(i, f ? 0x282 : 0x202);

			if (why)
				return why;
		}
	return NULL;
}

const char *not_whole(bool may_be_left, size_t *left)
{
	*left = 0;
	for (size_t i = 0; i < arena.n; i++) {
		if (has(i, arena.state)) {
			if (is_poked(i))
				return "a mark is left at a site without an int3";
		} else if (!may_be_left || arena.spots[i].addr[0] != SHUNT_INT3) {
			return "text is neither old nor new";
		} else if (!is_poked(i)) {
			return "an int3 is left without a mark";
		} else {
			++*left;
		}
	}
	for (size_t i = 0; i < arena.n; i++) {
		const uint8_t *end = arena.spots[i].addr + arena.spots[i].len;
		const uint8_t *next =
			i + 1 < arena.n ? arena.spots[i + 1].addr : arena.text + arena.size - 8;

		for (; end < next; end++)
			if (*end != 0x90)
				return "a byte between the sites has changed";
	}
	return wrong_effects();
}

void expect_whole(void)
{
	size_t left;
	const char *why = not_whole(false, &left);

	if (why)
		fail_msg("%s", why);
	if (arena.wrong)
		fail_msg("%s", arena.wrong);
	if (fake.violation)
		fail_msg("%s", fake.violation);
}

/* -------------------------------------------------------------------- to poke */

struct flip {
	struct shunt_change change;
	bool from, to;
};

/* Every site traps, no tail is of state @other, and every CPU has been told so. */
void check_turn(bool state)
{
	for (size_t i = 0; i < arena.n; i++) {
		const struct spot *spot = &arena.spots[i];

		if (spot->addr[0] != SHUNT_INT3)
			wrong("the state turns before all int3 stand");
		if (memcmp(spot->addr + 1, spot->bytes[state] + 1, spot->len - 1) != 0)
			wrong("the state turns before all tails have");
	}
	if (arena.n && !fake.quiet &&
	    (!fake.nr_events || fake.events[fake.nr_events - 1].type != FAKE_SYNC ||
	     fake.events[fake.nr_events - 1].result))
		wrong("the state turns without a core sync before it");
}

static void commit(struct shunt_change *change)
{
	struct flip *flip = (struct flip *)change;

	arena.commits++;
	if (arena.state != flip->from)
		wrong("committed twice");
	arena.check_turn(flip->to);
	atomic_store_explicit(&arena.state, flip->to, memory_order_release);
}

static void revert(struct shunt_change *change)
{
	struct flip *flip = (struct flip *)change;

	arena.reverts++;
	if (arena.state != flip->to)
		wrong("reverted before the commit");
	arena.check_turn(flip->from);
	atomic_store_explicit(&arena.state, flip->from, memory_order_release);
}

static size_t place(enum order order, size_t i)
{
	/* 7919 is a prime that divides none of the sizes in use. */
	return order == ASCENDING    ? i
	       : order == DESCENDING ? arena.n - 1 - i
				     : (i * 7919 + 13) % arena.n;
}

struct shunt_poke *new_pokes(bool to, enum order order)
{
	struct shunt_poke *pokes = calloc(arena.n + 1, sizeof(*pokes));

	assert_non_null(pokes);
	for (size_t i = 0; i < arena.n; i++) {
		struct shunt_poke *p = &pokes[place(order, i)];

		p->addr = arena.spots[i].addr;
		p->site = &arena.sites[i];
		p->len = (uint8_t)arena.spots[i].len;
		memcpy(p->old, arena.spots[i].bytes[arena.state], sizeof(p->old));
		memcpy(p->new, arena.spots[i].bytes[to], sizeof(p->new));
	}
	return pokes;
}

int poke_with(struct shunt_poke *pokes, bool to, struct shunt_report *report)
{
	struct flip *flip = malloc(sizeof(*flip));
	int ret;

	assert_non_null(flip);
	*flip = (struct flip){{commit, revert, NULL, NULL}, arena.state, to};
	*report = (struct shunt_report){0};
	assert_int_equal(shunt_port_lock(), 0);
	ret = shunt_poke_batch(pokes, arena.n, &flip->change, report);
	shunt_port_unlock();
	memset(flip, 0xa5, sizeof(*flip));
	free(flip);
	memset(pokes, 0xa5, arena.n * sizeof(*pokes));
	free(pokes);
	return ret;
}

int poke(bool to, struct shunt_report *report)
{
	return poke_with(new_pokes(to, SHUFFLED), to, report);
}
