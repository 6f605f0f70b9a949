/* SPDX-License-Identifier: MIT */
/*
 * The records of a module's branches, one file of the port alone: all of them are found from any
 * one, none beyond the segment that they are in, and only those that lead to text are sites.
 */
#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include <shunt/static_key.h>

#include "linux/module/find_sites.h"
#include "linux/module/jumps.h"

#define PAGE 4096

/* ------------------------------------------------------- what jumps.c asks for */

static struct shunt_range segment;
static uintptr_t text;          /* PAGE bytes of it */
static struct shunt_range data; /* its handles */

bool shunt_image_segment(const struct shunt_image *image, uintptr_t addr, struct shunt_range *s)
{
	(void)image;
	*s = segment;
	return addr - segment.start < segment.end - segment.start;
}

bool shunt_segment_has(const struct shunt_segments *segments, uint32_t flags, uintptr_t addr,
		       size_t len)
{
	(void)segments;
	if (flags != PF_X)
		return addr >= data.start && addr + len <= data.end;
	return addr >= text && addr + len <= text + PAGE;
}

uintptr_t shunt_jump_code(const struct static_jump_entry *entry)
{
	return (uintptr_t)&entry->code + (uintptr_t)(intptr_t)entry->code;
}

struct shunt_static_key *shunt_jump_key(const struct static_jump_entry *entry)
{
	(void)entry;
	return NULL;
}

/* ------------------------------------------------------------------- the tests */

#define RECORDS (PAGE / sizeof(struct static_jump_entry))

/* A page of records, with pages beside it that cannot be read. */
static struct static_jump_entry *new_records(void)
{
	char *p = mmap(NULL, 3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	assert_int_equal(mprotect(p + PAGE, PAGE, PROT_READ | PROT_WRITE), 0);
	return (struct static_jump_entry *)(void *)(p + PAGE);
}

static void free_records(struct static_jump_entry *records)
{
	(void)munmap((char *)records - PAGE, 3 * PAGE);
}

/* Those of [first, end) are found from each of them, and in both ways. */
static void expect(struct static_jump_entry *records, size_t first, size_t end)
{
	static const struct shunt_image image;

	for (size_t i = first; i < end; i++) {
		struct shunt_module module = {.jumps = records + i};
		struct shunt_jumps jumps;

		for (int known = 0; known < 2; known++) {
			shunt_jumps_find(known ? &image : NULL, &module, &jumps);
			assert_ptr_equal(jumps.first, records + first);
			assert_int_equal(jumps.n, end - first);
		}
	}
}

/* Those of modules' files that were compiled with either header lie side by side. */
static void all_from_any_one(void **state)
{
	struct static_jump_entry *records = new_records();

	(void)state;
	segment = (struct shunt_range){(uintptr_t)records, (uintptr_t)(records + RECORDS)};
	for (size_t i = 10; i < 20; i++)
		records[i].magic = i % 3 ? STATIC_JUMP_MAGIC : STATIC_JUMP_MAGIC_TEST;
	records[9].magic = STATIC_JUMP_MAGIC_TEST + 1;
	records[20].magic = 1;
	expect(records, 10, 20);
	free_records(records);
}

/* To the very ends of what can be read. */
static void up_to_the_ends(void **state)
{
	struct static_jump_entry *records = new_records();

	(void)state;
	segment = (struct shunt_range){(uintptr_t)records, (uintptr_t)(records + RECORDS)};
	for (size_t i = 0; i < RECORDS; i++)
		records[i].magic = STATIC_JUMP_MAGIC;
	expect(records, 0, RECORDS);
	free_records(records);
}

/* What follows in another segment, though it looks like it, is none of the module's. */
static void none_beyond_the_segment(void **state)
{
	static const struct shunt_image image;
	struct static_jump_entry *records = new_records();
	struct shunt_module module = {.jumps = records + 7};
	struct shunt_jumps jumps;

	(void)state;
	for (size_t i = 0; i < RECORDS; i++)
		records[i].magic = STATIC_JUMP_MAGIC;
	segment = (struct shunt_range){(uintptr_t)(records + 5), (uintptr_t)(records + 9)};
	shunt_jumps_find(&image, &module, &jumps);
	assert_ptr_equal(jumps.first, records + 5);
	assert_int_equal(jumps.n, 4);
	/* And one that is in none has no records. */
	module.jumps = records + 9;
	shunt_jumps_find(&image, &module, &jumps);
	assert_int_equal(jumps.n, 0);
	free_records(records);
}

/* Of an array of two keys. */
static struct static_key handles[2];
static char key[8];

static void set_handles(void)
{
	for (int i = 0; i < 2; i++)
		handles[i] =
			(struct static_key){(struct shunt_static_key *)(void *)key, &handles[0]};
	data = (struct shunt_range){(uintptr_t)&handles[0], (uintptr_t)&handles[2]};
}

static struct static_jump_entry entry_for(const struct static_jump_entry *at, uintptr_t code)
{
	return (struct static_jump_entry){
		.code = (int32_t)(code - (uintptr_t)&at->code),
		.handle = (int32_t)((intptr_t)&handles[1] - (intptr_t)&at->handle),
		.magic = STATIC_JUMP_MAGIC};
}

static void what_they_stand_for(void **state)
{
	static const struct shunt_segments segments = {.n = 1}, unknown = {.n = 0};
	static struct static_jump_entry e;
	uintptr_t near = (uintptr_t)&e;

	(void)state;
	text = near + 0x10000;
	set_handles();
	assert_int_equal(shunt_jump_site(&segments, &e), SHUNT_JUMP_NONE);
	e = entry_for(&e, text);
	assert_int_equal(shunt_jump_site(&segments, &e), SHUNT_JUMP_SITE);
	e = entry_for(&e, text + PAGE - 2);
	assert_int_equal(shunt_jump_site(&segments, &e), SHUNT_JUMP_SITE);
	e = entry_for(&e, text + PAGE - 1);
	assert_int_equal(shunt_jump_site(&segments, &e), SHUNT_JUMP_ASTRAY);
	e = entry_for(&e, text - 1);
	assert_int_equal(shunt_jump_site(&segments, &e), SHUNT_JUMP_ASTRAY);
	assert_int_equal(shunt_jump_site(&unknown, &e), SHUNT_JUMP_SITE);
}

/* A handle leads to the first one of its array, and that to itself, and both to one key. */
static void what_is_no_key(void **state)
{
	static const struct shunt_segments segments = {.n = 1}, unknown = {.n = 0};
	static struct static_jump_entry e;
	struct static_key elsewhere;

	(void)state;
	text = (uintptr_t)&e + 0x10000;
	set_handles();
	e = entry_for(&e, text);
	assert_int_equal(shunt_jump_site(&segments, &e), SHUNT_JUMP_SITE);
	handles[0].first = (struct shunt_static_key *)(void *)&handles[0];
	assert_int_equal(shunt_jump_site(&segments, &e), SHUNT_JUMP_KEYLESS);
	set_handles();
	handles[0].self = NULL;
	assert_int_equal(shunt_jump_site(&segments, &e), SHUNT_JUMP_KEYLESS);
	set_handles();
	elsewhere = handles[0];
	for (int i = 0; i < 3; i++) { /* not aligned, not in the module, NULL */
		static const uintptr_t away[] = {4, PAGE, 0};

		handles[1].self = away[i] ? (void *)((char *)&handles[0] + away[i]) : NULL;
		assert_int_equal(shunt_jump_site(&segments, &e), SHUNT_JUMP_KEYLESS);
	}
	handles[1].self = &elsewhere;
	assert_int_equal(shunt_jump_site(&segments, &e), SHUNT_JUMP_KEYLESS);
	set_handles();
	handles[1].first = NULL;
	assert_int_equal(shunt_jump_site(&segments, &e), SHUNT_JUMP_KEYLESS);
	assert_int_equal(shunt_jump_site(&unknown, &e), SHUNT_JUMP_KEYLESS);
	set_handles();
	data.end -= sizeof(handles[1]);
	assert_int_equal(shunt_jump_site(&segments, &e), SHUNT_JUMP_KEYLESS);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_from_any_one),        cmocka_unit_test(up_to_the_ends),
		cmocka_unit_test(none_beyond_the_segment), cmocka_unit_test(what_they_stand_for),
		cmocka_unit_test(what_is_no_key),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
