/* SPDX-License-Identifier: MIT */
/* Modules with sites of static calls (call_sites.h). */
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

#include "call_sites.h"

uint8_t near_text[2][MAX_SITES * STRIDE];
static uint8_t near_tramps[2][MAX_KEYS][16];
static void *near_slots[2][MAX_KEYS];

/* Tables are for good: one for each module, ever. */
static struct shunt_sites tables[2];
struct module modules[2];
struct static_call_key keys[MAX_KEYS];

void func_a(void)
{
}

long func_b(void)
{
	return 1;
}

func_t target_func(enum target target)
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

unsigned kind_len(unsigned kind)
{
	return kind == SHUNT_KIND_CALL || kind == SHUNT_KIND_JMP ? 5 : 6;
}

void put_rel32(uint8_t *at, uintptr_t field, const void *target)
{
	uint32_t rel = (uint32_t)((uintptr_t)target - field - 4);

	memcpy(at, &rel, 4);
}

bool reaches(const uint8_t *next, func_t func)
{
	intptr_t distance = (intptr_t)func - (intptr_t)next;

	return distance == (int32_t)distance;
}

/* The stubs that the fake port has near the program's text, by target; 0: no more. */
uint8_t stubs[MAX_STUBS][16];
uintptr_t stub_targets[MAX_STUBS];
size_t nr_stubs;

uintptr_t stub(uintptr_t target)
{
	for (size_t i = 0; i < nr_stubs; i++)
		if (stub_targets[i] == target)
			return (uintptr_t)stubs[i];
	return 0;
}

uintptr_t near_stub(uintptr_t near, uintptr_t target)
{
	(void)near;
	if (!stub(target) && nr_stubs < MAX_STUBS)
		stub_targets[nr_stubs++] = target;
	return stub(target);
}

uintptr_t far_stub(uintptr_t near, uintptr_t target)
{
	(void)target;
	return near + ((uintptr_t)1 << 40);
}

/* @kind includes the condition. */
static void linked_bytes(const struct module *m, uint32_t owner, const uint8_t *addr, uint8_t kind,
			 uint8_t bytes[6])
{
	static const uint8_t opcode[][2] = {
		[SHUNT_KIND_CALL] = {0xe8},      [SHUNT_KIND_CALL_GOT] = {0xff, 0x15},
		[SHUNT_KIND_JMP] = {0xe9},       [SHUNT_KIND_JMP_GOT] = {0xff, 0x25},
		[SHUNT_KIND_JCC] = {0x0f, 0x80},
	};
	unsigned k = kind & 0xf, n = kind_len(k) - 4;
	bool got = k == SHUNT_KIND_CALL_GOT || k == SHUNT_KIND_JMP_GOT;

	memcpy(bytes, opcode[k], 2);
	if (k == SHUNT_KIND_JCC)
		bytes[1] |= (uint8_t)(kind >> 4);
	put_rel32(bytes + n, (uintptr_t)addr + n,
		  got ? (void *)&m->slots[owner] : (void *)m->tramps[owner]);
}

bool direct_bytes(const uint8_t *addr, uint8_t kind, func_t func, uint8_t bytes[6])
{
	unsigned k = kind & 0xf;
	bool nothing = !func || func == __static_call_nop;
	bool ret0 = func == (func_t)__static_call_return0;
	func_t to = nothing ? __static_call_nop : func;

	switch (k) {
	case SHUNT_KIND_CALL:
		memcpy(bytes, nothing ? "\x0f\x1f\x44\x00\x00" : "\x2e\x2e\x2e\x31\xc0", 5);
		if (nothing || ret0)
			return true;
		bytes[0] = 0xe8;
		put_rel32(bytes + 1, (uintptr_t)addr + 1, (void *)to);
		return reaches(addr + 5, to);
	case SHUNT_KIND_CALL_GOT:
		memcpy(bytes, nothing ? "\x66\x0f\x1f\x44\x00\x00" : "\x2e\x2e\x2e\x2e\x31\xc0", 6);
		if (nothing || ret0)
			return true;
		bytes[0] = 0x67;
		bytes[1] = 0xe8;
		put_rel32(bytes + 2, (uintptr_t)addr + 2, (void *)to);
		return reaches(addr + 6, to);
	case SHUNT_KIND_JCC:
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

bool off_bytes(const struct module *m, const struct shunt_site *site, uint8_t bytes[6],
	       enum shunt_why *why)
{
	const uint8_t *addr = m->text + site->off;
	unsigned kind = site->kind & 0xf;
	func_t last = (func_t)m->mods[site->owner].last;
	uintptr_t veneer = stub((uintptr_t)last);
	uint8_t on[6];

	if (!last || kind == SHUNT_KIND_CALL_GOT || kind == SHUNT_KIND_JCC)
		return false;
	*why = SHUNT_INLINE;
	if (!direct_bytes(addr, site->kind, last, on)) {
		if (!veneer || !direct_bytes(addr, site->kind, (func_t)veneer, on))
			return false;
		*why = SHUNT_INLINE_OFF;
	}
	memcpy(bytes, on, 6);
	bytes[0] = kind == SHUNT_KIND_CALL ? 0xa9 : 0xc3;
	return true;
}

void expect_site(const struct module *m, uint32_t i, func_t func)
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

void expect_linked(const struct module *m, enum shunt_why why)
{
	assert_memory_equal(m->text, m->linked, m->n * STRIDE);
	for (uint32_t i = 0; i < m->n; i++) {
		assert_int_equal(m->sites[i].why, why);
		assert_int_equal(m->sites[i].poked, 0);
	}
}

/* ------------------------------------------------------------------ to build */

void keys_new(size_t n, enum target target, uint32_t flags)
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

struct module *module_new(size_t index, uint32_t n, uint32_t nr_keys)
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

void site_new(struct module *m, uint32_t i, uint32_t place, uint8_t kind, uint32_t owner)
{
	struct shunt_site *site = &m->sites[place];
	uint8_t bytes[6];

	*site = (struct shunt_site){
		.off = i * STRIDE + i % 3, .owner = owner, .next = owner, .kind = kind};
	linked_bytes(m, owner, m->text + site->off, kind, bytes);
	memcpy(m->text + site->off, bytes, kind_len(kind & 0xf));
}

uint8_t any_kind(uint32_t i)
{
	unsigned kind = i % 5;

	return (uint8_t)(kind == SHUNT_KIND_JCC ? kind | (i / 5 % 16) << 4 : kind);
}

void watch(const struct module *m)
{
	struct fake_site *sites = calloc(m->n + 1, sizeof(*sites));

	assert_non_null(sites);
	for (uint32_t i = 0; i < m->n; i++)
		sites[i] = (struct fake_site){m->text + m->sites[i].off,
					      (uint8_t)kind_len(m->sites[i].kind & 0xf)};
	fake_watch(m->text, m->n * STRIDE, sites, m->n);
	free(sites);
}

struct module *mixed_module(size_t index, uint32_t n, uint32_t nr_keys)
{
	struct module *m = module_new(index, n, nr_keys);

	memset(m->text, 0x90, n * STRIDE);
	for (uint32_t i = 0; i < n; i++)
		site_new(m, i, i, any_kind(i), i % nr_keys);
	memcpy(m->linked, m->text, n * STRIDE);
	return m;
}

int add_to(struct module *m, struct shunt_report *report)
{
	int ret;

	*report = (struct shunt_report){0};
	assert_int_equal(shunt_port_lock(), 0);
	ret = shunt_sites_add(m->sites_of, (uintptr_t)m->text, m->sites, m->n, report);
	shunt_port_unlock();
	return ret;
}

void remove_sites(struct module *m)
{
	assert_int_equal(shunt_port_lock(), 0);
	shunt_sites_remove(m->sites_of);
	shunt_port_unlock();
}

void add(struct module *m)
{
	struct shunt_report report;

	assert_int_equal(add_to(m, &report), 0);
	assert_int_equal(report.error, 0);
}

struct module *fresh_module(uint32_t nr_keys, enum target target, uint32_t flags, uint32_t n)
{
	struct module *m;

	fake_reset();
	keys_new(nr_keys, target, flags);
	m = mixed_module(0, n, nr_keys);
	add(m);
	return m;
}

void expect_clean_port(void)
{
	if (fake.violation)
		fail_msg("%s", fake.violation);
	assert_false(fake.locked);
	assert_int_equal(fake.outstanding, 0);
}

void module_free(struct module *m)
{
	expect_clean_port();
	free(m->sites);
	free(m->linked);
	*m = (struct module){0};
}

void remove_and_free(struct module *m)
{
	remove_sites(m);
	module_free(m);
}

void expect_sites(const struct module *m)
{
	for (uint32_t i = 0; i < m->n; i++)
		expect_site(m, i, keys[m->sites[i].owner].func);
}

/* --------------------------------------------------------------- trap effects */

bool has_effect(const struct module *m, uint32_t i, func_t func)
{
	static uintptr_t stack[8];
	const struct shunt_site *site = &m->sites[i];
	uintptr_t addr = (uintptr_t)m->text + site->off, sp = (uintptr_t)&stack[4];
	unsigned kind = site->kind & 0xf, cc = site->kind >> 4;
	struct shunt_regs regs = {.ip = addr + 1, .sp = sp, .flags = 0x202, .ax = 77};
	uintptr_t next = addr + kind_len(kind);
	bool call = kind == SHUNT_KIND_CALL || kind == SHUNT_KIND_CALL_GOT;

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
	if (kind == SHUNT_KIND_JCC) /* without any flag the negated conditions hold, and ge, g */
		return regs.ip == ((cc & 1) ? (uintptr_t)func : next) && regs.sp == sp;
	if (func == __static_call_nop)
		return regs.ip == 4444 && regs.sp == sp + 8;
	return regs.ip == (uintptr_t)func && regs.sp == sp && regs.ax == 77;
}

size_t traps_checked;
const char *trap_wrong;

void check_traps(void)
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
