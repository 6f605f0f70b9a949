/* SPDX-License-Identifier: MIT */
/*
 * Static calls over the fake port: sites of every kind in a buffer, under keys
 * that go to every sort of target. What must stand at a site is written out here
 * byte by byte, apart from the library's own encoder.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include <shunt/static_call.h>

#include "core/error.h"
#include "core/key.h"

#include "fake_port.h"

typedef void (*func_t)(void);

#define STRIDE    8
#define MAX_SITES 100000
#define MAX_KEYS  64

/* A module: text, trampolines and slots within reach of each other. */
struct module {
	uint8_t *text;
	uint8_t (*tramps)[16];
	void **slots;
	struct shunt_sites *sites_of; /* the record that is handed over */
	struct shunt_mod mods[MAX_KEYS];
	struct shunt_site *sites;
	uint32_t n;
	uint8_t *linked; /* the text as it was linked */
};

/* Near this program's functions, as the sites of an executable are. */
static uint8_t near_text[2][MAX_SITES * STRIDE];
static uint8_t near_tramps[2][MAX_KEYS][16];
static void *near_slots[2][MAX_KEYS];

/* Tables are for good: one for each module, ever. */
static struct shunt_sites tables[2];
static struct module modules[2];
static struct static_call_key keys[MAX_KEYS];

/* Where keys go to. Never called. */
static void func_a(void)
{
}

static long func_b(void)
{
	return 1;
}

enum target { FUNC_A, FUNC_B, NOTHING, RET0, FAR, FARTHER, NR_TARGETS };

static func_t target_func(enum target target)
{
	switch (target) {
	case FUNC_A:
		return func_a;
	case FUNC_B:
		return (func_t)func_b;
	case NOTHING:
		return NULL;
	case RET0:
		return (func_t)__static_call_return0;
	default:
		return (func_t)((uintptr_t)near_text + ((uintptr_t)(target - FAR + 1) << 33));
	}
}

static void set_text(struct module *m, size_t i)
{
	m->text = near_text[i];
	m->tramps = near_tramps[i];
	m->slots = near_slots[i];
	m->sites_of = &tables[i];
}

/* --------------------------------------------------- what stands at a site */

static unsigned kind_len(unsigned kind)
{
	return kind == SHUNT_SITE_CALL || kind == SHUNT_SITE_JMP ? 5 : 6;
}

static void put_rel32(uint8_t *at, uintptr_t field, const void *target)
{
	uint32_t rel = (uint32_t)((uintptr_t)target - field - 4);

	memcpy(at, &rel, 4);
}

static bool reaches(const uint8_t *next, func_t func)
{
	intptr_t distance = (intptr_t)func - (intptr_t)next;

	return distance == (int32_t)distance;
}

/* The stubs that the fake port has near the program's text, by target; 0: no more. */
#define MAX_STUBS 4
static uint8_t stubs[MAX_STUBS][16];
static uintptr_t stub_targets[MAX_STUBS];
static size_t nr_stubs;

static uintptr_t stub(uintptr_t target)
{
	for (size_t i = 0; i < nr_stubs; i++)
		if (stub_targets[i] == target)
			return (uintptr_t)stubs[i];
	return 0;
}

/* The same answer for the same question. */
static uintptr_t near_stub(uintptr_t near, uintptr_t target)
{
	(void)near;
	if (!stub(target) && nr_stubs < MAX_STUBS)
		stub_targets[nr_stubs++] = target;
	return stub(target);
}

/* A port that is mistaken: what it gives is out of reach as well. */
static uintptr_t far_stub(uintptr_t near, uintptr_t target)
{
	(void)target;
	return near + ((uintptr_t)1 << 40);
}

/* @kind includes the condition. */
static void linked_bytes(const struct module *m, uint32_t owner, const uint8_t *addr, uint8_t kind,
			 uint8_t bytes[6])
{
	static const uint8_t opcode[][2] = {
		[SHUNT_SITE_CALL] = {0xe8},      [SHUNT_SITE_CALL_GOT] = {0xff, 0x15},
		[SHUNT_SITE_JMP] = {0xe9},       [SHUNT_SITE_JMP_GOT] = {0xff, 0x25},
		[SHUNT_SITE_JCC] = {0x0f, 0x80},
	};
	unsigned k = kind & 0xf, n = kind_len(k) - 4;
	bool got = k == SHUNT_SITE_CALL_GOT || k == SHUNT_SITE_JMP_GOT;

	memcpy(bytes, opcode[k], 2);
	if (k == SHUNT_SITE_JCC)
		bytes[1] |= (uint8_t)(kind >> 4);
	put_rel32(bytes + n, (uintptr_t)addr + n,
		  got ? (void *)&m->slots[owner] : (void *)m->tramps[owner]);
}

/* The direct form; false where there is none in reach. */
static bool direct_bytes(const uint8_t *addr, uint8_t kind, func_t func, uint8_t bytes[6])
{
	unsigned k = kind & 0xf;
	bool nothing = !func || func == __static_call_nop;
	bool ret0 = func == (func_t)__static_call_return0;
	func_t to = nothing ? __static_call_nop : func;

	switch (k) {
	case SHUNT_SITE_CALL:
		memcpy(bytes, nothing ? "\x0f\x1f\x44\x00\x00" : "\x2e\x2e\x2e\x31\xc0", 5);
		if (nothing || ret0)
			return true;
		bytes[0] = 0xe8;
		put_rel32(bytes + 1, (uintptr_t)addr + 1, (void *)to);
		return reaches(addr + 5, to);
	case SHUNT_SITE_CALL_GOT:
		memcpy(bytes, nothing ? "\x66\x0f\x1f\x44\x00\x00" : "\x2e\x2e\x2e\x2e\x31\xc0", 6);
		if (nothing || ret0)
			return true;
		bytes[0] = 0x67;
		bytes[1] = 0xe8;
		put_rel32(bytes + 2, (uintptr_t)addr + 2, (void *)to);
		return reaches(addr + 6, to);
	case SHUNT_SITE_JCC:
		bytes[0] = 0x0f;
		bytes[1] = (uint8_t)(0x80 | kind >> 4);
		put_rel32(bytes + 2, (uintptr_t)addr + 2, (void *)to);
		return reaches(addr + 6, to);
	default:
		memcpy(bytes, "\xc3\xcc\xcc\xcc\xcc\xcc", 6);
		if (nothing)
			return true;
		bytes[0] = 0xe9;
		put_rel32(bytes + 1, (uintptr_t)addr + 1, (void *)to);
		bytes[5] = 0x90;
		return reaches(addr + 5, to);
	}
}

/*
 * What is off with the displacement of what it called last: of the target or of its veneer. False
 * where there is no such form, and then it is off by itself. (What mods[].last is to be is
 * looked at by keeps_what_it_called().)
 */
static bool off_bytes(const struct module *m, const struct shunt_site *site, uint8_t bytes[6],
		      enum shunt_why *why)
{
	const uint8_t *addr = m->text + site->off;
	unsigned kind = site->kind & 0xf;
	func_t last = (func_t)m->mods[site->owner].last;
	uintptr_t veneer = stub((uintptr_t)last);
	uint8_t on[6];

	if (!last || kind == SHUNT_SITE_CALL_GOT || kind == SHUNT_SITE_JCC)
		return false;
	*why = SHUNT_INLINE;
	if (!direct_bytes(addr, site->kind, last, on)) {
		if (!veneer || !direct_bytes(addr, site->kind, (func_t)veneer, on))
			return false;
		*why = SHUNT_INLINE_OFF;
	}
	memcpy(bytes, on, 6);
	bytes[0] = kind == SHUNT_SITE_CALL ? 0xa9 : 0xc3;
	return true;
}

/* Bytes and reason of site @i while its key goes to @func. */
static void expect_site(const struct module *m, uint32_t i, func_t func)
{
	const struct shunt_site *site = &m->sites[i];
	const uint8_t *addr = m->text + site->off;
	uint8_t bytes[6];
	enum shunt_why why = SHUNT_INLINE;

	if (func == __static_call_nop && off_bytes(m, site, bytes, &why)) {
		/* as it says */
	} else if (!direct_bytes(addr, site->kind, func, bytes)) {
		uintptr_t veneer = stub((uintptr_t)func);

		why = veneer ? SHUNT_WHY_FAR : SHUNT_WHY_TOO_FAR;
		if (!veneer || !direct_bytes(addr, site->kind, (func_t)veneer, bytes))
			linked_bytes(m, site->owner, addr, site->kind, bytes);
	}
	assert_memory_equal(addr, bytes, kind_len(site->kind & 0xf));
	assert_int_equal(site->why, why);
	assert_int_equal(site->poked, 0);
}

static void expect_linked(const struct module *m, enum shunt_why why)
{
	assert_memory_equal(m->text, m->linked, m->n * STRIDE);
	for (uint32_t i = 0; i < m->n; i++) {
		assert_int_equal(m->sites[i].why, why);
		assert_int_equal(m->sites[i].poked, 0);
	}
}

/* ------------------------------------------------------------------ to build */

static void keys_new(size_t n, enum target target, uint32_t flags)
{
	static char names[MAX_KEYS][8];
	func_t func = target_func(target);

	for (size_t i = 0; i < n; i++) {
		names[i][0] = 'k';
		names[i][1] = (char)('0' + i / 10);
		names[i][2] = (char)('0' + i % 10);
		keys[i] = (struct static_call_key){
			.func = func ? func : __static_call_nop, .name = names[i], .flags = flags};
		keys[i].init = keys[i].func;
	}
}

static struct module *module_new(size_t index, uint32_t n, uint32_t nr_keys)
{
	struct module *m = &modules[index];

	*m = (struct module){.n = n};
	set_text(m, index);
	m->sites = calloc(n + 1, sizeof(*m->sites));
	m->linked = malloc(n * STRIDE + 1);
	assert_true(m->sites && m->linked);
	for (uint32_t i = 0; i < nr_keys; i++) {
		m->mods[i].key = &keys[i];
		m->mods[i].tramp = (uintptr_t)m->tramps[i];
		m->mods[i].slot = (uintptr_t)&m->slots[i];
	}
	m->sites_of->mods = m->mods;
	m->sites_of->nr_mods = nr_keys;
	m->sites_of->kind = &shunt_static_call_kind;
	return m;
}

/* The @i-th site of @m by address, entered at @place. */
static void site_new(struct module *m, uint32_t i, uint32_t place, uint8_t kind, uint32_t owner)
{
	struct shunt_site *site = &m->sites[place];
	uint8_t bytes[6];

	*site = (struct shunt_site){
		.off = i * STRIDE + i % 3, .owner = owner, .next = owner, .kind = kind};
	linked_bytes(m, owner, m->text + site->off, kind, bytes);
	memcpy(m->text + site->off, bytes, kind_len(kind & 0xf));
}

static uint8_t any_kind(uint32_t i)
{
	unsigned kind = i % 5;

	return (uint8_t)(kind == SHUNT_SITE_JCC ? kind | (i / 5 % 16) << 4 : kind);
}

static void watch(const struct module *m)
{
	struct fake_site *sites = calloc(m->n + 1, sizeof(*sites));

	assert_non_null(sites);
	for (uint32_t i = 0; i < m->n; i++)
		sites[i] = (struct fake_site){m->text + m->sites[i].off,
					      (uint8_t)kind_len(m->sites[i].kind & 0xf)};
	fake_watch(m->text, m->n * STRIDE, sites, m->n);
	free(sites);
}

/* Sites of all kinds, in order, dealt out to @nr_keys keys. */
static struct module *mixed_module(size_t index, uint32_t n, uint32_t nr_keys)
{
	struct module *m = module_new(index, n, nr_keys);

	memset(m->text, 0x90, n * STRIDE);
	for (uint32_t i = 0; i < n; i++)
		site_new(m, i, i, any_kind(i), i % nr_keys);
	memcpy(m->linked, m->text, n * STRIDE);
	return m;
}

static int add_to(struct module *m, struct shunt_report *report)
{
	int ret;

	*report = (struct shunt_report){0};
	assert_int_equal(shunt_port_lock(), 0);
	ret = shunt_sites_add(m->sites_of, (uintptr_t)m->text, m->sites, m->n, report);
	shunt_port_unlock();
	return ret;
}

static void remove_sites(struct module *m)
{
	assert_int_equal(shunt_port_lock(), 0);
	shunt_sites_remove(m->sites_of);
	shunt_port_unlock();
}

static void add(struct module *m)
{
	struct shunt_report report;

	assert_int_equal(add_to(m, &report), 0);
	assert_int_equal(report.error, 0);
}

static void expect_clean_port(void)
{
	if (fake.violation)
		fail_msg("%s", fake.violation);
	assert_false(fake.locked);
	assert_int_equal(fake.outstanding, 0);
}

static void module_free(struct module *m)
{
	expect_clean_port();
	free(m->sites);
	free(m->linked);
	*m = (struct module){0};
}

static void remove_and_free(struct module *m)
{
	remove_sites(m);
	module_free(m);
}

static void expect_sites(const struct module *m)
{
	for (uint32_t i = 0; i < m->n; i++)
		expect_site(m, i, keys[m->sites[i].owner].func);
}

/* --------------------------------------------------------------- trap effects */

/* The same, reckoned here: whether a trap at site @i has the effect of @func. */
static bool has_effect(const struct module *m, uint32_t i, func_t func)
{
	static uintptr_t stack[8];
	const struct shunt_site *site = &m->sites[i];
	uintptr_t addr = (uintptr_t)m->text + site->off, sp = (uintptr_t)&stack[4];
	unsigned kind = site->kind & 0xf, cc = site->kind >> 4;
	struct shunt_regs regs = {.ip = addr + 1, .sp = sp, .flags = 0x202, .ax = 77};
	uintptr_t next = addr + kind_len(kind);
	bool call = kind == SHUNT_SITE_CALL || kind == SHUNT_SITE_CALL_GOT;

	stack[3] = 3333;
	stack[4] = 4444;
	if (shunt_trap(&regs) != SHUNT_TRAP_EMULATED)
		return false;
	if (call && func == __static_call_nop)
		return regs.ip == next && regs.sp == sp && regs.ax == 77;
	if (call && func == (func_t)__static_call_return0)
		return regs.ip == next && regs.sp == sp && regs.ax == 0;
	if (call)
		return regs.ip == (uintptr_t)func && regs.sp == sp - 8 && stack[3] == next;
	if (kind == SHUNT_SITE_JCC) /* without any flag the negated conditions hold, and ge, g */
		return regs.ip == ((cc & 1) ? (uintptr_t)func : next) && regs.sp == sp;
	if (func == __static_call_nop)
		return regs.ip == 4444 && regs.sp == sp + 8;
	return regs.ip == (uintptr_t)func && regs.sp == sp && regs.ax == 77;
}

static size_t traps_checked;
static const char *trap_wrong;

/* At each step of a poke: what traps does what the key says. */
static void check_traps(void)
{
	for (size_t k = 0; k < ARRAY_SIZE(modules); k++)
		for (uint32_t i = 0; i < modules[k].n; i++) {
			const struct module *m = &modules[k];

			if (m->text[m->sites[i].off] != 0xcc)
				continue;
			traps_checked++;
			if (!has_effect(m, i, keys[m->sites[i].owner].func))
				trap_wrong = "a trap does not do what the key says";
		}
}

/* ------------------------------------------------------------ kinds and targets */

static void from_every_target_to_every_other(uintptr_t (*veneer)(uintptr_t, uintptr_t))
{
	size_t veneers = 0;

	trap_wrong = NULL;
	traps_checked = 0;
	for (enum target from = 0; from < NR_TARGETS; from++)
		for (enum target to = 0; to < NR_TARGETS; to++) {
			func_t func = target_func(to);
			struct module *m;

			fake_reset();
			nr_stubs = 0;
			fake.veneer = veneer;
			keys_new(1, from, STATIC_CALL_NULLABLE);
			m = mixed_module(0, 80, 1); /* a jcc of each condition among them */
			watch(m);
			fake.on_sync = fake.on_write = check_traps;
			add(m);
			expect_sites(m);
			assert_int_equal(__static_call_update(&keys[0], func), 0);
			assert_int_equal(fake.watches, 1);
			assert_int_equal(fake.watched, func ? func : __static_call_nop);
			assert_ptr_equal(__static_call_query(&keys[0]), (void *)func);
			assert_ptr_equal(keys[0].func, func ? func : __static_call_nop);
			expect_sites(m);
			assert_int_equal(__static_call_update(&keys[0], target_func(from)), 0);
			expect_sites(m);
			assert_int_equal(fake.reports, 0);
			assert_null(trap_wrong);
			assert_int_equal(fake.veneers > 0, from >= FAR || to >= FAR);
			veneers += fake.veneers;
			remove_and_free(m);
		}
	fake_watch(NULL, 0, NULL, 0);
	nr_stubs = 0;
	assert_true(traps_checked > 1000 && veneers > 100);
}

static void every_kind_from_every_target_to_every_other(void **state)
{
	(void)state;
	from_every_target_to_every_other(NULL);
}

/* Out of reach, but there are stubs to go through. */
static void the_same_with_veneers(void **state)
{
	(void)state;
	from_every_target_to_every_other(near_stub);
}

/* A stub that does not reach either is as good as none. */
static void the_same_with_bad_veneers(void **state)
{
	(void)state;
	from_every_target_to_every_other(far_stub);
}

/* The stubs run out: one target has one, the other is left to the trampoline. */
static void veneers_run_out(void **state)
{
	struct module *m;

	(void)state;
	fake_reset();
	fake.veneer = near_stub;
	nr_stubs = MAX_STUBS - 1;
	memset(stub_targets, 0, sizeof(stub_targets));
	keys_new(1, FUNC_A, STATIC_CALL_NULLABLE);
	m = mixed_module(0, 30, 1);
	add(m);
	for (unsigned round = 0; round < 3; round++) {
		assert_int_equal(__static_call_update(&keys[0], target_func(FAR)), 0);
		assert_int_equal(m->sites[0].why, SHUNT_WHY_FAR);
		expect_sites(m);
		assert_int_equal(__static_call_update(&keys[0], target_func(FARTHER)), 0);
		assert_int_equal(m->sites[0].why, SHUNT_WHY_TOO_FAR);
		expect_sites(m);
	}
	remove_and_free(m);
	nr_stubs = 0;
}

/*
 * Targets on either side of each edge: of what a rel32 reaches, and of what its 32 bits
 * would be mistaken for. From one near, back to it, and from each to the next.
 */
static void edges_of_reach(void **state)
{
	static const intptr_t edges[] = {(intptr_t)1 << 31, (intptr_t)1 << 32, (intptr_t)3 << 31,
					 (intptr_t)1 << 33};
	uint32_t inlined = 0, left = 0;
	struct module *m;

	(void)state;
	fake_reset();
	keys_new(1, FUNC_A, STATIC_CALL_NULLABLE);
	m = mixed_module(0, 10, 1);
	add(m);
	for (size_t e = 0; e < ARRAY_SIZE(edges); e++)
		for (intptr_t step = -8; step <= 8; step++)
			for (unsigned below = 0; below < 2; below++) {
				intptr_t to = (below ? -edges[e] : edges[e]) + step;
				func_t func = (func_t)(near_text[0] + to);

				assert_int_equal(__static_call_update(&keys[0], func), 0);
				expect_sites(m);
				inlined += m->sites[0].why == SHUNT_INLINE;
				left += m->sites[0].why == SHUNT_WHY_TOO_FAR;
				if (step & 1)
					continue;
				assert_int_equal(__static_call_update(&keys[0], func_a), 0);
				expect_sites(m);
			}
	assert_true(inlined > 10 && left > 100);
	remove_and_free(m);
}

/* A site that reaches, and one in a far module that does not, under one key. */
static void near_and_far_sites_of_one_key(void **state)
{
	struct module *near, *far;
	uint8_t *area =
		mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_ptr_not_equal(area, MAP_FAILED);
	assert_false(reaches(area, func_a));
	fake_reset();
	keys_new(1, FUNC_A, STATIC_CALL_NULLABLE);
	near = mixed_module(0, 10, 1);
	far = module_new(1, 10, 1);
	far->text = area;
	far->tramps = (uint8_t(*)[16])(area + 0x8000);
	far->slots = (void **)(area + 0x9000);
	far->mods[0].tramp = (uintptr_t)far->tramps[0];
	far->mods[0].slot = (uintptr_t)&far->slots[0];
	for (uint32_t i = 0; i < 10; i++)
		site_new(far, i, i, any_kind(i), 0);
	add(near);
	add(far);
	for (enum target to = NR_TARGETS; to-- > 0;) {
		assert_int_equal(__static_call_update(&keys[0], target_func(to)), 0);
		expect_sites(near);
		expect_sites(far);
		if (to == FUNC_A) {
			assert_int_equal(near->sites[0].why, SHUNT_INLINE);
			assert_int_equal(far->sites[0].why, SHUNT_WHY_TOO_FAR);
		}
	}
	remove_and_free(near);
	remove_and_free(far);
	munmap(area, 1 << 16);
}

static void same_function_again_writes_nothing(void **state)
{
	struct module *m;

	(void)state;
	for (enum target to = 0; to < NR_TARGETS; to++) {
		fake_reset();
		keys_new(1, to, STATIC_CALL_NULLABLE);
		m = mixed_module(0, 30, 1);
		add(m);
		fake_restart();
		assert_int_equal(__static_call_update(&keys[0], target_func(to)), 0);
		assert_int_equal(fake.nr_events, 0);
		expect_sites(m);
		remove_and_free(m);
	}
}

/* All the sites of a key in one batch: three syncs, however many there are. */
static void one_batch_for_all_sites(void **state)
{
	struct module *m;

	(void)state;
	fake_reset();
	keys_new(3, FUNC_A, 0);
	m = mixed_module(0, 3000, 3);
	add(m);
	assert_int_equal(fake.syncs, 3);
	fake_restart();
	assert_int_equal(__static_call_update(&keys[1], (func_t)func_b), 0);
	assert_int_equal(fake.syncs, 3);
	assert_int_equal(fake.begins, 1);
	expect_sites(m);
	remove_and_free(m);
}

/* ------------------------------------------------------------------- promotion */

static void foreign_sites_are_left_alone(void **state)
{
	struct shunt_report report;

	(void)state;
	for (uint32_t i = 0; i < 20; i++)
		for (unsigned b = 0; b < kind_len(any_kind(i) & 0xf); b++) {
			struct module *m;
			uint8_t *at, foreign[6];

			fake_reset();
			keys_new(1, FUNC_A, 0);
			m = mixed_module(0, 20, 1);
			at = m->text + m->sites[i].off;
			at[b] ^= 0x10;
			memcpy(foreign, at, sizeof(foreign));
			assert_int_equal(add_to(m, &report), 0);
			assert_int_equal(__static_call_update(&keys[0], (func_t)func_b), 0);
			for (uint32_t j = 0; j < 20; j++)
				if (j != i)
					expect_site(m, j, (func_t)func_b);
			assert_int_equal(m->sites[i].why, SHUNT_WHY_FOREIGN);
			assert_memory_equal(at, foreign, kind_len(any_kind(i) & 0xf));
			remove_and_free(m);
		}
}

/* After a promotion that failed: everything works, through the trampolines. */
static void expect_on_trampolines(struct module *m, enum shunt_why why)
{
	expect_linked(m, why);
	for (enum target to = 0; to < NR_TARGETS; to++) {
		fake_restart();
		assert_int_equal(__static_call_update(&keys[0], target_func(to)), 0);
		assert_ptr_equal(__static_call_query(&keys[0]), (void *)target_func(to));
		assert_int_equal(fake.nr_events, 0);
		expect_linked(m, why);
	}
}

/* @fault fails once, at each place in turn, until there are no more of them. */
static void promotion_fails_at(struct fake_fault *fault, int error)
{
	struct shunt_report report;
	size_t failures = 0;
	int ret;

	for (size_t k = 1;; k++) {
		struct module *m;

		fake_reset();
		keys_new(1, FUNC_A, STATIC_CALL_NULLABLE);
		m = mixed_module(0, 20, 1);
		*fault = (struct fake_fault){.at = k, .error = error};
		ret = add_to(m, &report);
		assert_int_equal(fake.reports, 0); /* the caller's to tell */
		if (!ret) {
			expect_sites(m);
			remove_and_free(m);
			break;
		}
		failures++;
		assert_int_equal(ret, error);
		assert_int_equal(report.error, error);
		assert_non_null(report.what);
		*fault = (struct fake_fault){0};
		expect_on_trampolines(m, SHUNT_WHY_WRITE);
		remove_and_free(m);
	}
	assert_true(failures > 0);
}

static void promotion_fails(void **state)
{
	(void)state;
	promotion_fails_at(&fake.begin, -SHUNT_EPERM);
	promotion_fails_at(&fake.write, -SHUNT_EIO);
	promotion_fails_at(&fake.write_call, -SHUNT_EPERM);
	promotion_fails_at(&fake.sync, -SHUNT_EPERM);
	promotion_fails_at(&fake.alloc, -SHUNT_ENOMEM);
}

/* The way back fails as well: the int3 that stay do what the key says, for ever. */
static void promotion_cannot_be_undone(void **state)
{
	struct shunt_report report;

	(void)state;
	for (size_t k = 2; k < 60; k += 3) {
		struct module *m;

		fake_reset();
		keys_new(1, FUNC_A, STATIC_CALL_NULLABLE);
		m = mixed_module(0, 20, 1);
		fake.write = (struct fake_fault){.at = k, .onwards = true, .error = -SHUNT_EIO};
		(void)add_to(m, &report);
		assert_int_equal(report.error, -SHUNT_EIO);
		fake.write = (struct fake_fault){0};
		for (enum target to = 0; to < NR_TARGETS; to++) {
			trap_wrong = NULL;
			assert_int_equal(__static_call_update(&keys[0], target_func(to)), 0);
			check_traps();
			assert_null(trap_wrong);
			/* And they stay no longer than to the first update that is one. */
			for (uint32_t i = 0; i < m->n && to != FUNC_A; i++) {
				assert_int_equal(m->sites[i].poked, 0);
				assert_int_not_equal(m->text[m->sites[i].off], 0xcc);
			}
		}
		remove_and_free(m);
	}
}

/*
 * A baked file: its sites hold the direct calls of the first targets already. They
 * are left so while the key is, and are brought up to a key that has changed.
 */
static bool bare; /* as an earlier `shunt bake` wrote what is off: without a displacement */

static struct module *baked_module(size_t index, uint32_t n)
{
	struct module *m = mixed_module(index, n, 1);

	m->mods[0].baked_bare = bare;
	m->mods[0].last = bare ? 0 : m->mods[0].tramp;
	for (uint32_t i = 0; i < n; i++) {
		uint8_t *at = m->text + m->sites[i].off, bytes[6];
		enum shunt_why why;

		if (keys[0].init != __static_call_nop || !off_bytes(m, &m->sites[i], bytes, &why))
			assert_true(direct_bytes(at, m->sites[i].kind, keys[0].init, bytes));
		memcpy(at, bytes, kind_len(m->sites[i].kind & 0xf));
		m->sites[i].baked = 1;
	}
	memcpy(m->linked, m->text, n * STRIDE);
	return m;
}

static void check_baked_sites(void)
{
	for (enum target from = FUNC_A; from < FAR; from++)
		for (enum target to = 0; to < NR_TARGETS; to++) {
			struct module *a, *b;

			fake_reset();
			keys_new(1, from, STATIC_CALL_NULLABLE | STATIC_CALL_BAKED);
			a = baked_module(0, 40);
			/* Not before the sites are known: they would not follow. */
			assert_int_equal(__static_call_update(&keys[0], target_func(to)),
					 -SHUNT_EAGAIN);
			assert_int_equal(fake.report.error, -SHUNT_EAGAIN);
			assert_string_equal(fake.report.key, "k00");
			assert_int_equal(fake.nr_events, 0);
			add(a);
			assert_int_equal(fake.nr_events, 0); /* no page is copied */
			expect_sites(a);
			watch(a);
			fake.on_sync = fake.on_write = check_traps;
			assert_int_equal(__static_call_update(&keys[0], target_func(to)), 0);
			expect_sites(a);
			fake_watch(NULL, 0, NULL, 0);
			/* Another baked module comes late. */
			b = baked_module(1, 30);
			add(b);
			expect_sites(b);
			assert_int_equal(__static_call_update(&keys[0], target_func(from)), 0);
			expect_sites(a);
			expect_sites(b);
			assert_null(trap_wrong);
			remove_and_free(a);
			remove_and_free(b);
		}
}

static void baked_sites(void **state)
{
	(void)state;
	check_baked_sites();
	bare = true;
	check_baked_sites();
	bare = false;
}

/* That another module's sites of a baked key are known is not that its own are. */
static void baked_key_known_elsewhere_first(void **state)
{
	struct module *a, *b;

	(void)state;
	fake_reset();
	keys_new(1, FUNC_A, STATIC_CALL_NULLABLE | STATIC_CALL_BAKED);
	b = mixed_module(1, 10, 1);
	add(b);
	assert_int_equal(__static_call_update(&keys[0], (func_t)func_b), -SHUNT_EAGAIN);
	assert_ptr_equal(__static_call_query(&keys[0]), (void *)func_a);
	expect_sites(b);
	a = baked_module(0, 10);
	add(a);
	assert_int_equal(__static_call_update(&keys[0], (func_t)func_b), 0);
	expect_sites(a);
	expect_sites(b);
	remove_and_free(a);
	remove_and_free(b);
}

/* Its module is on its way out, says the port: an update would not reach its sites. */
static void key_is_going(void **state)
{
	struct module *m;

	(void)state;
	fake_reset();
	keys_new(1, FUNC_A, STATIC_CALL_NULLABLE);
	m = mixed_module(0, 10, 1);
	add(m);
	keys[0].flags |= STATIC_CALL_GONE;
	fake_restart();
	assert_int_equal(__static_call_update(&keys[0], (func_t)func_b), -SHUNT_EAGAIN);
	assert_int_equal(fake.report.error, -SHUNT_EAGAIN);
	assert_string_equal(fake.report.key, "k00");
	assert_int_equal(fake.nr_events, 0);
	assert_ptr_equal(__static_call_query(&keys[0]), (void *)func_a);
	expect_sites(m);
	keys[0].flags &= ~STATIC_CALL_GONE; /* and it has come back */
	assert_int_equal(__static_call_update(&keys[0], (func_t)func_b), 0);
	expect_sites(m);
	remove_and_free(m);
}

/* The port has put the sites off; the update wants them. */
static struct module *put_off;

static void hand_over(void)
{
	struct shunt_report report = {0};

	if (put_off)
		assert_int_equal(shunt_sites_add(put_off->sites_of, (uintptr_t)put_off->text,
						 put_off->sites, put_off->n, &report),
				 0);
	put_off = NULL;
}

static void sites_found_when_wanted(void **state)
{
	struct module *m;

	(void)state;
	fake_reset();
	keys_new(1, FUNC_A, STATIC_CALL_NULLABLE | STATIC_CALL_BAKED);
	put_off = m = baked_module(0, 40);
	fake.on_wanted = hand_over;
	assert_int_equal(__static_call_update(&keys[0], (func_t)func_b), 0);
	assert_null(put_off);
	assert_int_equal(fake.wanted, 1);
	expect_sites(m);
	remove_and_free(m);
}

/*
 * Baked sites that come late to a changed key, and cannot be written: the next
 * update still knows what stands there.
 */
static void check_not_promoted(enum target first)
{
	struct shunt_report report;

	for (size_t k = 1; k <= 3; k++) {
		struct module *a, *b;

		fake_reset();
		keys_new(1, first, STATIC_CALL_NULLABLE | STATIC_CALL_BAKED);
		a = baked_module(0, 10);
		add(a);
		assert_int_equal(__static_call_update(&keys[0], (func_t)func_b), 0);
		b = baked_module(1, 10);
		fake_restart();
		fake.sync = (struct fake_fault){.at = k, .error = -SHUNT_EPERM};
		assert_int_equal(add_to(b, &report), -SHUNT_EPERM);
		fake.sync = (struct fake_fault){0};
		assert_memory_equal(b->text, b->linked, b->n * STRIDE);
		for (uint32_t i = 0; i < b->n; i++)
			assert_int_not_equal(b->sites[i].why, SHUNT_INLINE);
		assert_int_equal(__static_call_update(&keys[0], NULL), 0);
		expect_sites(a);
		expect_sites(b);
		assert_int_equal(__static_call_update(&keys[0], func_a), 0);
		expect_sites(a);
		expect_sites(b);
		remove_and_free(a);
		remove_and_free(b);
	}
}

static void baked_sites_cannot_be_promoted(void **state)
{
	(void)state;
	check_not_promoted(FUNC_A);
	check_not_promoted(NOTHING);
	bare = true;
	check_not_promoted(NOTHING);
	bare = false;
}

/* While they still cannot be written no update goes through: they call the first target. */
static void baked_sites_stay_unwritable(void **state)
{
	struct shunt_report report;
	struct module *b;

	(void)state;
	fake_reset();
	keys_new(1, FUNC_A, STATIC_CALL_NULLABLE | STATIC_CALL_BAKED);
	b = baked_module(0, 10);
	add(b);
	assert_int_equal(__static_call_update(&keys[0], (func_t)func_b), 0);
	remove_sites(b);
	memcpy(b->text, b->linked, b->n * STRIDE);
	for (uint32_t i = 0; i < b->n; i++) {
		b->sites[i].next = 0;
		b->mods[0].first = b->mods[0].nr_sites = 0;
	}
	b->sites_of->nr_mods = 1;
	fake.begin =
		(struct fake_fault){.at = fake.begins + 1, .onwards = true, .error = -SHUNT_EPERM};
	assert_int_equal(add_to(b, &report), -SHUNT_EPERM);
	for (enum target to = NOTHING; to < NR_TARGETS; to++) {
		assert_int_equal(__static_call_update(&keys[0], target_func(to)), -SHUNT_EPERM);
		assert_ptr_equal(__static_call_query(&keys[0]), (void *)func_b);
		assert_memory_equal(b->text, b->linked, b->n * STRIDE);
	}
	/* The first target is what they do call: there is nothing to write. */
	assert_int_equal(__static_call_update(&keys[0], func_a), 0);
	assert_memory_equal(b->text, b->linked, b->n * STRIDE);
	fake.begin = (struct fake_fault){0};
	assert_int_equal(__static_call_update(&keys[0], (func_t)func_b), 0);
	expect_sites(b);
	remove_and_free(b);
}

/* A module that could not bind one of its keys: the others work. */
static void module_with_a_key_missing(void **state)
{
	struct module *m;

	(void)state;
	for (uint32_t missing = 0; missing < 3; missing++) {
		uint32_t other = missing == 1 ? 2 : 1;

		fake_reset();
		keys_new(3, FUNC_A, 0);
		m = module_new(0, 10, 3);
		m->mods[missing].key = NULL; /* it has no sites */
		memset(m->text, 0x90, 10 * STRIDE);
		for (uint32_t i = 0; i < 10; i++)
			site_new(m, i, i, any_kind(i), other);
		memcpy(m->linked, m->text, 10 * STRIDE);
		add(m);
		assert_null(keys[missing].mods);
		assert_int_equal(__static_call_update(&keys[other], (func_t)func_b), 0);
		expect_sites(m);
		remove_and_free(m);
		assert_null(keys[other].mods);
	}
}

/* Sites whose key is not known stay as linked, until it is: then they follow it. */
static void key_known_later(void **state)
{
	struct shunt_report report;
	struct module *m;

	(void)state;
	for (unsigned fails = 0; fails < 2; fails++) {
		fake_reset();
		keys_new(2, FUNC_A, 0);
		m = module_new(0, 20, 2);
		m->mods[1].key = NULL;
		memset(m->text, 0x90, 20 * STRIDE);
		for (uint32_t i = 0; i < 20; i++)
			site_new(m, i, i, any_kind(i), i % 2);
		memcpy(m->linked, m->text, 20 * STRIDE);
		add(m);
		assert_null(keys[1].mods);
		assert_int_equal(__static_call_update(&keys[0], (func_t)func_b), 0);
		assert_int_equal(__static_call_update(&keys[1], (func_t)func_b), 0);
		for (uint32_t i = 0; i < 20; i++) {
			bool as_linked =
				!memcmp(m->text + m->sites[i].off, m->linked + m->sites[i].off,
					kind_len(m->sites[i].kind & 0xf));

			assert_int_equal(as_linked, i % 2);
			assert_int_equal(m->sites[i].why, i % 2 ? SHUNT_WHY_UNBOUND : SHUNT_INLINE);
			assert_true(shunt_site_overlaps((uintptr_t)m->text + m->sites[i].off, 1));
		}
		m->mods[1].key = &keys[1];
		if (fails)
			fake.begin =
				(struct fake_fault){.at = fake.begins + 1, .error = -SHUNT_EPERM};
		assert_int_equal(shunt_port_lock(), 0);
		assert_int_equal(shunt_sites_bind(m->sites_of, &report), fails ? -SHUNT_EPERM : 0);
		shunt_port_unlock();
		assert_ptr_equal(keys[1].mods, &m->mods[1]);
		for (uint32_t i = 0; i < 20; i++)
			assert_int_equal(m->sites[i].why,
					 i % 2 && fails ? SHUNT_WHY_WRITE : SHUNT_INLINE);
		if (!fails)
			expect_sites(m);
		assert_int_equal(__static_call_update(&keys[1], (func_t)func_a), 0);
		if (!fails)
			expect_sites(m);
		remove_and_free(m);
		assert_null(keys[0].mods);
		assert_null(keys[1].mods);
	}
}

/* A key goes away before the module that calls it: nothing leads to it any more. */
static void key_removed(void **state)
{
	struct module *a, *b;
	uint8_t *copy = malloc(20 * STRIDE);

	(void)state;
	assert_non_null(copy);
	fake_reset();
	keys_new(2, FUNC_A, 0);
	a = mixed_module(0, 20, 2);
	b = mixed_module(1, 20, 2);
	add(a);
	add(b);
	memcpy(copy, a->text, 20 * STRIDE);
	assert_int_equal(shunt_port_lock(), 0);
	shunt_key_remove(&shunt_static_call_kind, &keys[0]);
	shunt_port_unlock();
	assert_null(keys[0].mods);
	memset(&keys[0], 0xa5, sizeof(keys[0])); /* as good as unmapped */
	for (uint32_t i = 0; i < 20; i++) {
		uintptr_t addr = (uintptr_t)a->text + a->sites[i].off;
		struct shunt_regs regs = {.ip = addr + 1};
		struct shunt_insn insn;
		bool gone = a->sites[i].owner == 0;

		assert_int_equal(!shunt_site_find(addr, &insn), gone);
		assert_int_equal(shunt_trap(&regs), gone ? SHUNT_TRAP_FOREIGN : SHUNT_TRAP_LATE);
	}
	assert_int_equal(__static_call_update(&keys[1], (func_t)func_b), 0);
	for (uint32_t i = 0; i < 20; i++) {
		if (a->sites[i].owner == 1)
			expect_site(a, i, (func_t)func_b);
		else
			assert_memory_equal(a->text + a->sites[i].off, copy + a->sites[i].off,
					    kind_len(a->sites[i].kind & 0xf));
	}
	remove_and_free(a);
	remove_and_free(b);
	assert_null(keys[1].mods);
	free(copy);
}

static void module_without_sites(void **state)
{
	struct module *m;

	(void)state;
	fake_reset();
	keys_new(2, FUNC_A, 0);
	m = module_new(0, 0, 2);
	add(m);
	assert_int_equal(fake.nr_events, 0);
	assert_int_equal(__static_call_update(&keys[1], (func_t)func_b), 0);
	assert_int_equal(fake.nr_events, 0);
	assert_ptr_equal(keys[1].func, (func_t)func_b);
	remove_and_free(m);
}

static uint32_t lcg(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return *seed >> 8;
}

/* Any order in, sorted out: each key's chain has all of its sites, ascending. */
static void large_unsorted_module(void **state)
{
	const uint32_t n = MAX_SITES, nr_keys = MAX_KEYS;
	uint32_t *order = malloc(n * sizeof(*order)), seed = 1;
	struct module *m;

	(void)state;
	assert_non_null(order);
	fake_reset();
	fake.quiet = true;
	keys_new(nr_keys, FUNC_A, 0);
	m = module_new(0, n, nr_keys);
	memset(m->text, 0x90, n * STRIDE);
	for (uint32_t i = 0; i < n; i++)
		order[i] = i;
	for (uint32_t i = n; i-- > 1;) {
		uint32_t j = lcg(&seed) % (i + 1), t = order[i];

		order[i] = order[j];
		order[j] = t;
	}
	for (uint32_t i = 0; i < n; i++)
		site_new(m, i, order[i], any_kind(i), i % nr_keys);
	add(m);
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(m->sites[i].off, i * STRIDE + i % 3);
	expect_sites(m);
	for (uint32_t k = 0; k < nr_keys; k++) {
		uint32_t count = 0, last = 0;

		for (uint32_t i = m->mods[k].first; i; i = m->sites[i - 1].next) {
			assert_int_equal(m->sites[i - 1].owner, k);
			assert_true(i > last);
			last = i;
			count++;
		}
		assert_int_equal(count, m->mods[k].nr_sites);
		assert_int_equal(count, n / nr_keys + (k < n % nr_keys));
	}
	for (uint32_t k = 0; k < nr_keys; k += 7)
		assert_int_equal(__static_call_update(&keys[k], (func_t)func_b), 0);
	expect_sites(m);
	remove_and_free(m);
	free(order);
}

/* ------------------------------------------------------------ updates that fail */

static void expect_report(int error, const char *key, const char *what)
{
	assert_int_equal(fake.reports, 1);
	assert_int_equal(fake.report.error, error);
	if (key)
		assert_string_equal(fake.report.key, key);
	else
		assert_null(fake.report.key);
	if (what)
		assert_non_null(strstr(fake.report.what, what));
	expect_clean_port();
}

static void bad_arguments(void **state)
{
	struct module *m;

	(void)state;
	fake_reset();
	keys_new(1, FUNC_A, 0);
	m = mixed_module(0, 10, 1);
	add(m);
	fake_restart();
	assert_int_equal(__static_call_update(NULL, func_a), -SHUNT_EINVAL);
	expect_report(-SHUNT_EINVAL, NULL, "no key");
	fake_restart();
	assert_int_equal(__static_call_update(&keys[0], NULL), -SHUNT_EINVAL);
	expect_report(-SHUNT_EINVAL, "k00", "NULL");
	assert_ptr_equal(__static_call_query(&keys[0]), (void *)func_a);
	assert_int_equal(fake.nr_events, 0);
	expect_sites(m);
	remove_and_free(m);
}

static int inner_result;

static void update_from_a_handler(void)
{
	const char *violation = fake.violation;

	inner_result = __static_call_update(&keys[1], (func_t)func_b);
	/* To the fake port, a report within an update is a breach; here it is the point. */
	fake.violation = violation;
}

static void update_within_an_update(void **state)
{
	struct module *m;

	(void)state;
	fake_reset();
	keys_new(2, FUNC_A, 0);
	m = mixed_module(0, 20, 2);
	add(m);
	fake_restart();
	fake.on_sync = update_from_a_handler;
	assert_int_equal(__static_call_update(&keys[0], (func_t)func_b), 0);
	fake.on_sync = NULL;
	assert_int_equal(inner_result, -SHUNT_EDEADLK);
	assert_int_equal(fake.reports, 3); /* at each sync */
	assert_int_equal(fake.report.error, -SHUNT_EDEADLK);
	assert_string_equal(fake.report.key, "k01");
	assert_ptr_equal(keys[0].func, (func_t)func_b);
	assert_ptr_equal(keys[1].func, func_a);
	expect_sites(m);

	remove_and_free(m);
}

/* Each fault at each place: nothing has changed, and the report says where. */
static size_t update_fails_at(struct fake_fault *fault, int error, uint32_t n, enum target to)
{
	size_t failures = 0;

	for (size_t k = 1;; k++) {
		struct module *m;
		uint8_t *before;
		int ret;

		fake_reset();
		keys_new(1, FUNC_A, 0);
		m = mixed_module(0, n, 1);
		add(m);
		before = malloc(n * STRIDE);
		assert_non_null(before);
		memcpy(before, m->text, n * STRIDE);
		watch(m);
		fake_restart();
		fake.on_sync = fake.on_write = check_traps;
		*fault = (struct fake_fault){.at = k, .error = error};
		ret = __static_call_update(&keys[0], target_func(to));
		*fault = (struct fake_fault){0};
		if (ret) {
			failures++;
			assert_int_equal(ret, error);
			expect_report(error, "k00", NULL);
			assert_ptr_equal(__static_call_query(&keys[0]), (void *)func_a);
			assert_memory_equal(m->text, before, n * STRIDE);
			expect_sites(m);
			assert_int_equal(__static_call_update(&keys[0], target_func(to)), 0);
		}
		expect_sites(m);
		fake_watch(NULL, 0, NULL, 0);
		free(before);
		remove_and_free(m);
		if (!ret)
			return failures;
	}
}

static void update_fails(void **state)
{
	(void)state;
	trap_wrong = NULL;
	for (uint32_t n = 1; n <= 37; n += 12) {
		assert_int_equal(update_fails_at(&fake.begin, -SHUNT_EPERM, n, FUNC_B), 1);
		assert_int_equal(update_fails_at(&fake.sync, -SHUNT_EPERM, n, FUNC_B), 3);
		assert_int_equal(update_fails_at(&fake.write_call, -SHUNT_EIO, n, FUNC_B), 3);
		assert_int_equal(update_fails_at(&fake.write, -SHUNT_EIO, n, FUNC_B), 3 * n);
		/* Back to the trampoline: that it is so, and why, is not said too early. */
		assert_int_equal(update_fails_at(&fake.sync, -SHUNT_EPERM, n, FAR), 3);
		/* Small batches need no memory. */
		assert_int_equal(update_fails_at(&fake.alloc, -SHUNT_ENOMEM, n, FAR), n > 16);
	}
	assert_null(trap_wrong);
}

/* For good: what is left on int3 does what query() says, and the next update mends it. */
static void update_cannot_be_undone(void **state)
{
	size_t kept = 0, changed = 0;

	(void)state;
	for (size_t k = 1; k <= 60; k++) {
		struct module *m;
		int ret;

		fake_reset();
		keys_new(1, FUNC_A, 0);
		m = mixed_module(0, 20, 1);
		add(m);
		fake_restart();
		fake.write = (struct fake_fault){.at = k, .onwards = true, .error = -SHUNT_EIO};
		ret = __static_call_update(&keys[0], (func_t)func_b);
		fake.write = (struct fake_fault){0};
		expect_report(-SHUNT_EIO, "k00", NULL);
		assert_ptr_equal(__static_call_query(&keys[0]),
				 ret ? (void *)func_a : (void *)func_b);
		*(ret ? &kept : &changed) += 1;
		trap_wrong = NULL;
		check_traps();
		assert_null(trap_wrong);
		assert_int_equal(__static_call_update(&keys[0], ret ? (func_t)func_b : func_a), 0);
		expect_sites(m);
		remove_and_free(m);
	}
	assert_true(kept && changed);
}

/*
 * The same, between two targets whose bytes do not differ: both are out of reach, and the
 * sites go to the trampoline. Those on an int3 are mended.
 */
static void left_on_int3_with_equal_bytes(void **state)
{
	size_t left = 0;

	(void)state;
	for (size_t k = 1; k <= 60; k++) {
		struct module *m;

		fake_reset();
		keys_new(1, FUNC_A, 0);
		m = mixed_module(0, 20, 1);
		add(m);
		fake_restart();
		fake.write = (struct fake_fault){.at = k, .onwards = true, .error = -SHUNT_EIO};
		(void)!__static_call_update(&keys[0], target_func(FAR));
		fake.write = (struct fake_fault){0};
		for (uint32_t i = 0; i < m->n && keys[0].func == target_func(FAR); i++)
			left += m->sites[i].poked;
		assert_int_equal(__static_call_update(&keys[0], target_func(FARTHER)), 0);
		expect_sites(m);
		remove_and_free(m);
	}
	assert_true(left > 0);
}

/* Bytes that became foreign after the start: no update, and the message shows them. */
static void foreign_bytes_at_an_update(void **state)
{
	struct module *m;

	(void)state;
	fake_reset();
	keys_new(1, FUNC_A, 0);
	m = mixed_module(0, 20, 1);
	add(m);
	for (uint32_t i = 0; i < 20; i++) {
		uint8_t *at = m->text + m->sites[i].off, expected[6];
		unsigned len = kind_len(m->sites[i].kind & 0xf);

		memcpy(expected, at, len);
		at[0] = 0xcc; /* a debugger's breakpoint */
		fake_restart();
		assert_int_equal(__static_call_update(&keys[0], (func_t)func_b), -SHUNT_EBUSY);
		expect_report(-SHUNT_EBUSY, "k00", "foreign");
		assert_ptr_equal(fake.report.site, at);
		assert_int_equal(fake.report.nbytes, len);
		assert_memory_equal(fake.report.found, at, len);
		assert_memory_equal(fake.report.expected, expected, len);
		assert_int_equal(fake.nr_events, 0);
		assert_ptr_equal(keys[0].func, func_a);
		at[0] = expected[0];
		expect_sites(m);
	}
	assert_int_equal(__static_call_update(&keys[0], (func_t)func_b), 0);
	expect_sites(m);
	remove_and_free(m);
}

/* --------------------------------------------------------------- many modules */

static void two_modules_share_a_key(void **state)
{
	struct module *a, *b;
	uint8_t *copy = malloc(30 * STRIDE);

	(void)state;
	assert_non_null(copy);
	fake_reset();
	keys_new(3, FUNC_A, 0);
	a = mixed_module(0, 25, 2);
	b = mixed_module(1, 30, 3);
	add(a);
	add(b);
	fake_restart();
	assert_int_equal(__static_call_update(&keys[0], (func_t)func_b), 0);
	assert_int_equal(fake.syncs, 3);
	expect_sites(a);
	expect_sites(b);

	/* One goes: its text is not touched any more, nor are its records read. */
	memcpy(copy, a->text, 25 * STRIDE);
	remove_sites(a);
	memset(a->sites, 0xa5, a->n * sizeof(*a->sites));
	memset(a->mods, 0xa5, sizeof(a->mods));
	assert_int_equal(__static_call_update(&keys[0], func_a), 0);
	assert_int_equal(__static_call_update(&keys[1], (func_t)func_b), 0);
	assert_memory_equal(a->text, copy, 25 * STRIDE);
	expect_sites(b);
	module_free(a);

	/* It comes back, and gets what the keys are now. */
	a = mixed_module(0, 25, 2);
	add(a);
	expect_sites(a);
	assert_int_equal(__static_call_update(&keys[1], func_a), 0);
	expect_sites(a);
	expect_sites(b);

	/* Both go, in the other order: no site is left to write to. */
	remove_and_free(b);
	assert_int_equal(__static_call_update(&keys[1], (func_t)func_b), 0);
	expect_sites(a);
	remove_and_free(a);
	for (size_t k = 0; k < 3; k++)
		assert_null(keys[k].mods);
	fake_restart();
	assert_int_equal(__static_call_update(&keys[2], (func_t)func_b), 0);
	assert_int_equal(fake.nr_events, 0);
	assert_ptr_equal(keys[2].func, (func_t)func_b);
	free(copy);
}

/*
 * A record is used again by a module that has no sites, which is never added; when
 * that one goes, nothing of the first may be read: its keys are unmapped by then.
 */
static void removed_twice(void **state)
{
	struct module *m;

	(void)state;
	fake_reset();
	keys_new(2, FUNC_A, 0);
	m = mixed_module(0, 10, 2);
	add(m);
	remove_sites(m);
	memset(m->mods, 0xa5, sizeof(m->mods)); /* as good as unmapped */
	remove_sites(m);
	module_free(m);
}

/* ---------------------------------------------------------- negative control */

/* Calls and tail calls of 5 bytes, which have an off form. */
static struct module *calls_and_tails(uint32_t n)
{
	struct module *m = module_new(0, n, 1);

	memset(m->text, 0x90, n * STRIDE);
	for (uint32_t i = 0; i < n; i++)
		site_new(m, i, i, i % 2 ? SHUNT_SITE_JMP : SHUNT_SITE_CALL, 0);
	memcpy(m->linked, m->text, n * STRIDE);
	return m;
}

/* What stands at each site, by hand: @first at a call, @tail at a tail call, to @target. */
static void expect_all(const struct module *m, uint8_t call, uint8_t tail, const void *target)
{
	for (uint32_t i = 0; i < m->n; i++) {
		const uint8_t *addr = m->text + m->sites[i].off;
		uint8_t bytes[5] = {i % 2 ? tail : call};

		put_rel32(bytes + 1, (uintptr_t)addr + 1, target);
		assert_memory_equal(addr, bytes, 5);
	}
}

static void expect_way(int way, size_t bytes)
{
	assert_int_equal(fake.way_now, way);
	if (way == SHUNT_WAY_FLIP)
		assert_int_equal(fake.bytes, bytes);
	assert_int_equal(fake.syncs, way == SHUNT_WAY_FLIP ? 1 : 3);
}

/*
 * A call that is switched off keeps the displacement that it had, first of all that of the
 * trampoline: so on and off are a flip as long as the target stays.
 */
static void keeps_what_it_called(void **state)
{
	struct shunt_report report;
	struct module *m;

	(void)state;
	fake_reset();
	fake.flips = true;
	keys_new(1, NOTHING, STATIC_CALL_NULLABLE);
	m = calls_and_tails(12);
	watch(m);
	assert_int_equal(add_to(m, &report), 0);
	expect_way(SHUNT_WAY_FLIP, m->n);
	expect_all(m, 0xa9, 0xc3, m->tramps[0]);
	for (unsigned turn = 0; turn < 4; turn++) {
		func_t func = target_func(turn % 2 ? FUNC_B : FUNC_A);

		fake_restart();
		assert_int_equal(__static_call_update(&keys[0], func), 0);
		expect_way(SHUNT_WAY_INT3, 0); /* to another than it has called */
		expect_all(m, 0xe8, 0xe9, (void *)func);
		for (unsigned i = 0; i < 3; i++) {
			fake_restart();
			assert_int_equal(__static_call_update(&keys[0], NULL), 0);
			expect_way(SHUNT_WAY_FLIP, m->n);
			expect_all(m, 0xa9, 0xc3, (void *)func);
			assert_null(__static_call_query(&keys[0]));
			fake_restart();
			assert_int_equal(__static_call_update(&keys[0], func), 0);
			expect_way(SHUNT_WAY_FLIP, m->n);
			expect_all(m, 0xe8, 0xe9, (void *)func);
		}
		assert_int_equal(__static_call_update(&keys[0], NULL), 0);
	}
	assert_null(fake.violation);
	fake_watch(NULL, 0, NULL, 0);
	remove_and_free(m);
}

/* What the sites of an update that fails keep is still what they call. */
static void keeps_it_where_the_update_fails(void **state)
{
	struct shunt_report report;
	struct module *m;

	(void)state;
	fake_reset();
	fake.flips = true;
	keys_new(1, FUNC_A, STATIC_CALL_NULLABLE);
	m = calls_and_tails(4);
	assert_int_equal(add_to(m, &report), 0);
	for (unsigned sync = 0; sync < 2; sync++) {
		struct fake_fault *fault = sync ? &fake.sync : &fake.begin;

		fake_restart();
		*fault = (struct fake_fault){.at = 1, .error = -SHUNT_EIO};
		assert_int_equal(__static_call_update(&keys[0], NULL), -SHUNT_EIO);
		*fault = (struct fake_fault){0};
		expect_all(m, 0xe8, 0xe9, (void *)func_a);
		assert_ptr_equal(__static_call_query(&keys[0]), func_a);
		assert_int_equal(__static_call_update(&keys[0], (func_t)func_b), 0);
		assert_int_equal(__static_call_update(&keys[0], NULL), 0);
		expect_all(m, 0xa9, 0xc3, (void *)func_b);
		assert_int_equal(__static_call_update(&keys[0], func_a), 0);
	}
	remove_and_free(m);
}

static void wrong_bytes_are_seen(void **state)
{
	struct module *m;

	(void)state;
	fake_reset();
	keys_new(1, FUNC_A, 0);
	m = mixed_module(0, 5, 1);
	add(m);
	for (uint32_t i = 0; i < m->n; i++) {
		bool jcc = m->sites[i].kind == SHUNT_SITE_JCC; /* of "o": not taken */
		uint8_t bytes[6];

		assert_true(direct_bytes(m->text + m->sites[i].off, m->sites[i].kind,
					 (func_t)func_b, bytes));
		assert_memory_not_equal(m->text + m->sites[i].off, bytes,
					kind_len(m->sites[i].kind & 0xf));
		m->sites[i].poked = 1;
		m->text[m->sites[i].off] = 0xcc;
		assert_true(has_effect(m, i, func_a));
		assert_int_equal(has_effect(m, i, __static_call_nop), jcc);
		assert_int_equal(has_effect(m, i, (func_t)func_b), jcc);
		m->sites[i].poked = 0;
		assert_false(has_effect(m, i, func_a));
	}
	remove_and_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_kind_from_every_target_to_every_other),
		cmocka_unit_test(the_same_with_veneers),
		cmocka_unit_test(the_same_with_bad_veneers),
		cmocka_unit_test(veneers_run_out),
		cmocka_unit_test(edges_of_reach),
		cmocka_unit_test(near_and_far_sites_of_one_key),
		cmocka_unit_test(same_function_again_writes_nothing),
		cmocka_unit_test(one_batch_for_all_sites),
		cmocka_unit_test(foreign_sites_are_left_alone),
		cmocka_unit_test(promotion_fails),
		cmocka_unit_test(promotion_cannot_be_undone),
		cmocka_unit_test(baked_sites),
		cmocka_unit_test(baked_key_known_elsewhere_first),
		cmocka_unit_test(key_is_going),
		cmocka_unit_test(sites_found_when_wanted),
		cmocka_unit_test(baked_sites_cannot_be_promoted),
		cmocka_unit_test(baked_sites_stay_unwritable),
		cmocka_unit_test(module_with_a_key_missing),
		cmocka_unit_test(key_known_later),
		cmocka_unit_test(key_removed),
		cmocka_unit_test(module_without_sites),
		cmocka_unit_test(large_unsorted_module),
		cmocka_unit_test(bad_arguments),
		cmocka_unit_test(update_within_an_update),
		cmocka_unit_test(update_fails),
		cmocka_unit_test(update_cannot_be_undone),
		cmocka_unit_test(left_on_int3_with_equal_bytes),
		cmocka_unit_test(foreign_bytes_at_an_update),
		cmocka_unit_test(two_modules_share_a_key),
		cmocka_unit_test(removed_twice),
		cmocka_unit_test(keeps_what_it_called),
		cmocka_unit_test(keeps_it_where_the_update_fails),
		cmocka_unit_test(wrong_bytes_are_seen),
	};

	return cmocka_run_group_tests(tests, NULL, fake_teardown);
}
