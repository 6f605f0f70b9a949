/* SPDX-License-Identifier: MIT */
/* Static keys in a buffer (branch_sites.h). */
#include <stdlib.h>
#include <string.h>

#include "branch_sites.h"
#include "fake_port.h"

struct shunt_static_key branch_keys[MAX_BRANCH_KEYS];
struct static_key branch_handles[BRANCH_MODULES][MAX_BRANCH_KEYS];
struct branches branches[BRANCH_MODULES];
unsigned long branch_traps;

/* A jump of two bytes goes up to 128 bytes either way; nothing is ever executed. */
#define MARGIN 256

static uint8_t text[BRANCH_MODULES][MAX_BRANCHES * BRANCH_STRIDE + 2 * MARGIN];
static struct static_jump_entry entries[BRANCH_MODULES][MAX_BRANCHES];
static struct shunt_site sites[BRANCH_MODULES][MAX_BRANCHES];
static struct shunt_mod mods[BRANCH_MODULES][MAX_BRANCH_KEYS];
/* Tables are for good: one for each module, ever. */
static struct shunt_sites records[BRANCH_MODULES];

void branch_keys_new(uint32_t n, unsigned initial)
{
	static char names[MAX_BRANCH_KEYS][8];

	memset(branch_keys, 0, sizeof(branch_keys));
	for (uint32_t i = 0; i < n; i++) {
		unsigned char on = (initial == EVERY_OTHER ? i & 1 : initial) != 0;

		names[i][0] = 's';
		for (uint32_t d = 4, rest = i; d > 0; d--, rest /= 10)
			names[i][d] = (char)('0' + rest % 10);
		branch_keys[i] = (struct shunt_static_key){
			.name = names[i], .count = on, .on = on, .initial = on};
	}
	for (size_t m = 0; m < BRANCH_MODULES; m++)
		for (uint32_t i = 0; i < n; i++)
			branch_handles[m][i] = (struct static_key){branch_keys, branch_handles[m]};
}

/* All four kinds for each key: by turns, whatever the number of keys. */
static unsigned turn(const struct branches *b, uint32_t i)
{
	return i / b->nr_keys + i % b->nr_keys;
}

static bool jumps_while_off(const struct branches *b, uint32_t i)
{
	return turn(b, i) >> 1 & 1;
}

unsigned branch_len(const struct branches *b, uint32_t i)
{
	return (turn(b, i) & 1) ? 2 : 5;
}

uint8_t *branch_addr(const struct branches *b, uint32_t i)
{
	return b->text + i * BRANCH_STRIDE + i % 3;
}

uint8_t *branch_target(const struct branches *b, uint32_t i)
{
	if (branch_len(b, i) == 5)
		return b->text + 0x123456 * (i % 7 + 1);
	/* The farthest that there is, either way. */
	return branch_addr(b, i) + 2 + (turn(b, i) % 3 ? 127 : -128);
}

struct shunt_static_key *branch_key(const struct branches *b, uint32_t i)
{
	return &branch_keys[i % b->nr_keys];
}

unsigned branch_tests;

static bool is_test(uint32_t i)
{
	return branch_tests == EVERY_OTHER ? i & 1 : branch_tests;
}

static void bytes_for(const struct branches *b, uint32_t i, bool on, uint8_t bytes[5])
{
	bool jump = on != jumps_while_off(b, i);
	uintptr_t rel =
		(uintptr_t)branch_target(b, i) - (uintptr_t)branch_addr(b, i) - branch_len(b, i);

	if (branch_len(b, i) == 2) {
		bytes[0] = jump ? 0xeb : is_test(i) ? 0xa8 : 0x66;
		bytes[1] = jump || is_test(i) ? (uint8_t)rel : 0x90;
		return;
	}
	memcpy(bytes, "\x0f\x1f\x44\x00\x00", 5);
	if (!jump && !is_test(i))
		return;
	bytes[0] = jump ? 0xe9 : 0xa9;
	for (unsigned k = 0; k < 4; k++)
		bytes[1 + k] = (uint8_t)(rel >> 8 * k);
}

bool branch_is(const struct branches *b, uint32_t i, bool on)
{
	uint8_t bytes[5];

	bytes_for(b, i, on, bytes);
	return !memcmp(branch_addr(b, i), bytes, branch_len(b, i));
}

static int32_t offset_of(const void *to, const int32_t *field)
{
	intptr_t distance = (intptr_t)to - (intptr_t)field;

	if (distance != (int32_t)distance)
		abort();
	return (int32_t)distance;
}

struct branches *branches_new(size_t index, uint32_t n, uint32_t nr_keys)
{
	struct branches *b = &branches[index];

	*b = (struct branches){.text = text[index] + MARGIN,
			       .n = n,
			       .nr_keys = nr_keys,
			       .entries = entries[index],
			       .sites = sites[index],
			       .record = &records[index]};
	memset(text[index], 0x90, sizeof(text[index]));
	memset(mods[index], 0, sizeof(mods[index]));
	memset(sites[index], 0, sizeof(sites[index]));
	for (uint32_t k = 0; k < nr_keys; k++)
		mods[index][k].key = &branch_keys[k];
	for (uint32_t i = 0; i < n; i++) {
		struct static_jump_entry *e = &b->entries[i];
		uint8_t bytes[5];

		e->magic = is_test(i) ? STATIC_JUMP_MAGIC_TEST : STATIC_JUMP_MAGIC;
		e->code = offset_of(branch_addr(b, i), &e->code);
		e->target = offset_of(branch_target(b, i), &e->target);
		e->handle = offset_of(&branch_handles[index][i % nr_keys], &e->handle) |
			    jumps_while_off(b, i);
		bytes_for(b, i, branch_key(b, i)->initial, bytes);
		memcpy(branch_addr(b, i), bytes, branch_len(b, i));
		/* Handed over in descending order, to be sorted. */
		b->sites[n - 1 - i] = (struct shunt_site){
			.off = (uint32_t)(branch_addr(b, i) - b->text),
			.owner = i,
			.next = i % nr_keys,
			.kind = branch_len(b, i) == 2 ? SHUNT_KIND_BRANCH2 : SHUNT_KIND_BRANCH};
	}
	b->record->kind = &shunt_static_key_kind;
	b->record->mods = mods[index];
	b->record->nr_mods = nr_keys;
	b->record->module = b->entries;
	return b;
}

int branches_add(struct branches *b, struct shunt_report *report)
{
	int ret;

	*report = (struct shunt_report){0};
	if (shunt_port_lock())
		abort();
	ret = shunt_sites_add(b->record, (uintptr_t)b->text, b->sites, b->n, report);
	shunt_port_unlock();
	return ret;
}

void branches_remove(struct branches *b)
{
	if (shunt_port_lock())
		abort();
	shunt_sites_remove(b->record);
	shunt_port_unlock();
	b->n = 0;
}

/* ------------------------------------------------------------------- checkers */

static const char *wrong_trap(const struct branches *b, uint32_t i)
{
	uintptr_t addr = (uintptr_t)branch_addr(b, i);
	struct shunt_regs regs = {.ip = addr + 1, .sp = 2, .flags = 3, .ax = 4};
	bool jump = (branch_key(b, i)->on != 0) != jumps_while_off(b, i);
	bool poked = *branch_addr(b, i) == SHUNT_INT3;
	enum shunt_trap trap = shunt_trap(&regs);
	uintptr_t ip = jump ? (uintptr_t)branch_target(b, i) : addr + branch_len(b, i);

	branch_traps += poked;
	if (trap != (poked ? SHUNT_TRAP_EMULATED : SHUNT_TRAP_LATE))
		return "a trap is not told for what it is";
	if (regs.ip != (poked ? ip : addr))
		return "a trap does not do what the key says";
	/* What a test does to flags is looked at by test_emulate.c. */
	if (regs.sp != 2 || (regs.flags != 3 && (jump || !is_test(i))) || regs.ax != 4)
		return "a trap changes more than ip";
	return NULL;
}

const char *branches_wrong_traps(const struct branches *b)
{
	const char *why = NULL;

	for (uint32_t i = 0; i < b->n && !why; i++)
		why = wrong_trap(b, i);
	return why;
}

const char *branches_wrong(const struct branches *b)
{
	for (uint32_t i = 0; i < b->n; i++) {
		if (!branch_is(b, i, branch_key(b, i)->on))
			return "text is not what the key says";
		/* Sorted by now. */
		if (b->sites[i].off != branch_addr(b, i) - b->text)
			return "sites are not sorted";
		if (b->sites[i].poked)
			return "a mark is left";
		if (b->sites[i].why != SHUNT_INLINE)
			return "a site is not said to be direct";
	}
	for (uint32_t i = 0; i < b->n; i++)
		for (uint8_t *p = branch_addr(b, i) + branch_len(b, i);
		     p < b->text + b->n * BRANCH_STRIDE &&
		     (i + 1 == b->n || p < branch_addr(b, i + 1));
		     p++)
			if (*p != 0x90)
				return "a byte between the sites has changed";
	for (uint32_t k = 0; k < b->nr_keys; k++)
		if ((branch_keys[k].count > 0) != (branch_keys[k].on != 0))
			return "a key's count is not what its sites do";
	return branches_wrong_traps(b);
}

void branches_watch(const struct branches *b)
{
	struct fake_site *list = calloc(b->n + 1, sizeof(*list));

	if (!list)
		abort();
	for (uint32_t i = 0; i < b->n; i++)
		list[i] = (struct fake_site){branch_addr(b, i), (uint8_t)branch_len(b, i)};
	fake_watch(b->text, b->n * BRANCH_STRIDE, list, b->n);
	free(list);
}
