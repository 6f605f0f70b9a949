/* SPDX-License-Identifier: MIT */
/*
 * The GOT slots of a module's calls, one file of the port alone: which are whose by the module's
 * file, which may be damaged and name slots that are no words of the module; what a PLT
 * entry at the very end of the text jumps through; and the names that are kept.
 *
 * Controls (SHUNT_CONTROL): versions belong to names; slots are not sorted; every address is a word
 * of the module; text has no end.
 */
#include <elf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "control.h"
#include "linux/module/find_sites.h"
#include "linux/module/got_slots.h"
#include "linux/text/area.h"

#define PAGE 4096

/* ------------------------------------------------------- what got_slots.c asks for */

static unsigned long words[8]; /* the module has these */

static struct {
	uint64_t addr;
	const char *name;
} in_file[] = {
	{5, "__SCT__e"}, {1, "__SCT__ab@@V2"}, {4, "__SCT__d"},
	{2, "__SCT__b"}, {0, "__SCT__a"},      {100, "__SCT__astray"},
};

/* Unsorted, as linkers write them; by the index of the word. */
int shunt_elf_for_each_slot(const struct shunt_elf *elf, const char *prefix, shunt_elf_slot_fn fn,
			    void *arg)
{
	int ret = 0;

	(void)elf;
	(void)prefix;
	for (size_t i = 0; i < sizeof(in_file) / sizeof(in_file[0]) && !ret; i++) {
		const struct shunt_elf_sym sym = {.name = in_file[i].name};

		ret = fn(arg, (uintptr_t)words + in_file[i].addr * sizeof(words[0]), &sym);
	}
	return ret;
}

size_t shunt_elf_name_len(const char *name)
{
	return strcspn(name, is_control("names") ? "" : "@");
}

static uintptr_t text_end;

bool shunt_segment_has(const struct shunt_segments *segments, uint32_t flags, uintptr_t addr,
		       size_t len)
{
	(void)segments;
	if (flags & PF_X)
		return is_control("text") || addr + len <= text_end;
	return is_control("segment") || (addr - (uintptr_t)words < sizeof(words) &&
					 len <= sizeof(words) - (addr - (uintptr_t)words));
}

static bool is_unreadable; /* the program has made its text execute-only */

bool shunt_area_are_readable(uintptr_t addr, size_t len)
{
	(void)addr;
	(void)len;
	return !is_unreadable;
}

static size_t code_len;

bool shunt_elf_plt_slot(const uint8_t *code, size_t len, uint64_t vaddr, uint64_t *slot)
{
	code_len = len;
	*slot = vaddr + (len ? code[0] : 0);
	return len > 0;
}

/* How many stubs are still to be met; and have been. */
static int stubs, stubs_met;

bool shunt_elf_stub_target(const uint8_t *code, size_t len, uint64_t vaddr, uint64_t *target)
{
	*target = vaddr + (len ? code[0] : 0);
	if (!stubs || is_control("stubs"))
		return false;
	stubs--;
	stubs_met++;
	return true;
}

static int vectors; /* in use */

void *shunt_vector_add(struct shunt_vector *v, size_t size)
{
	vectors += !v->data;
	v->data = realloc(v->data, (v->n + 1) * size);
	assert_non_null(v->data);
	return memset((char *)v->data + v->n++ * size, 0, size);
}

void shunt_vector_free(struct shunt_vector *v, size_t size)
{
	(void)size;
	vectors -= v->data != NULL;
	free(v->data);
	*v = (struct shunt_vector){0};
}

void __real_shunt_sort(void *base, size_t n, size_t size, uintptr_t (*key)(const void *element));
void __wrap_shunt_sort(void *base, size_t n, size_t size, uintptr_t (*key)(const void *element));

void __wrap_shunt_sort(void *base, size_t n, size_t size, uintptr_t (*key)(const void *element))
{
	if (!is_control("sorted"))
		__real_shunt_sort(base, n, size, key);
}

/* ------------------------------------------------------------------- the tests */

static const struct shunt_image image;

static int is_slot_of(struct shunt_site_search *s, size_t word, const char *name)
{
	return shunt_is_slot_of(s, (uintptr_t)words + word * sizeof(words[0]), name);
}

static void each_is_its_own(void **state)
{
	struct shunt_site_search s = {.image = &image};

	(void)state;
	assert_int_equal(is_slot_of(&s, 0, "__SCT__a"), 1);
	assert_int_equal(is_slot_of(&s, 1, "__SCT__ab"), 1);
	assert_int_equal(is_slot_of(&s, 2, "__SCT__b"), 1);
	assert_int_equal(is_slot_of(&s, 4, "__SCT__d"), 1);
	assert_int_equal(is_slot_of(&s, 5, "__SCT__e"), 1);
	assert_int_equal(is_slot_of(&s, 1, "__SCT__a"), 0);
	assert_int_equal(is_slot_of(&s, 0, "__SCT__ab"), 0);
	assert_int_equal(is_slot_of(&s, 0, "__SCT__b"), 0);
	assert_int_equal(is_slot_of(&s, 3, "__SCT__d"), 0);
	assert_int_equal(is_slot_of(&s, 6, "__SCT__e"), 0);
	/* Of a damaged file: nothing is there. */
	assert_int_equal(is_slot_of(&s, 100, "__SCT__astray"), 0);
	shunt_slots_free(&s);
	assert_int_equal(vectors, 0);
}

static void what_a_slot_holds(void **state)
{
	struct shunt_site_search s = {.image = &image};

	(void)state;
	words[3] = 0x1234;
	assert_true(shunt_slot_holds(&s, (uintptr_t)&words[3], 0x1234));
	assert_false(shunt_slot_holds(&s, (uintptr_t)&words[3], 0x1235));
	assert_false(shunt_slot_holds(&s, (uintptr_t)&words[3] + 4, 0x1234));
	assert_false(shunt_slot_holds(&s, (uintptr_t)&words[8], 0x1234));
	assert_false(shunt_slot_holds(&s, 8, 0x1234));
}

static void plt_at_the_end(void **state)
{
	struct shunt_segments segments = {0};
	uint8_t *p =
		mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_ptr_not_equal(p, MAP_FAILED);
	assert_int_equal(mprotect(p + PAGE, PAGE, PROT_NONE), 0);
	text_end = (uintptr_t)p + PAGE;
	for (size_t left = 0; left < 2 * SHUNT_ELF_PLT_MAX; left++) {
		uintptr_t plt = text_end - left;

		if (left)
			*(uint8_t *)(p + PAGE - left) = 7;
		assert_int_equal(shunt_plt_slot(&segments, plt), left ? plt + 7 : 0);
		assert_int_equal(code_len, left < SHUNT_ELF_PLT_MAX ? left : SHUNT_ELF_PLT_MAX);
	}
	is_unreadable = true;
	assert_int_equal(shunt_plt_slot(&segments, (uintptr_t)p + PAGE), 0);
	assert_int_equal(shunt_plt_slot(&segments, (uintptr_t)p), 0);
	is_unreadable = false;
	assert_int_not_equal(shunt_plt_slot(&segments, (uintptr_t)p), 0);
	(void)munmap(p, 2 * PAGE);
}

/* Stubs in front of stubs are followed, up to a limit; and not where nothing can be read. */
static void behind_stubs(void **state)
{
	struct shunt_segments segments = {0};
	uint8_t *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uintptr_t addr = (uintptr_t)p;

	(void)state;
	assert_ptr_not_equal(p, MAP_FAILED);
	memset(p, 1, PAGE);
	text_end = addr + PAGE;
	for (int i = 0; i <= SHUNT_ELF_STUBS; i++) {
		stubs = i;
		assert_int_equal(shunt_behind_stubs(&segments, addr), addr + (uintptr_t)i);
	}
	memset(p, 0, PAGE); /* each leads to itself */
	stubs = 1000;
	stubs_met = 0;
	assert_int_equal(shunt_behind_stubs(&segments, addr), addr);
	assert_true(stubs_met <= SHUNT_ELF_STUBS);
	stubs = 1;
	is_unreadable = true;
	assert_int_equal(shunt_behind_stubs(&segments, addr), addr);
	is_unreadable = false;
	assert_int_equal(shunt_behind_stubs(&segments, text_end), text_end);
	stubs = 0;
	(void)munmap(p, PAGE);
}

static void names_are_kept(void **state)
{
	static const struct shunt_mod mod;
	struct shunt_site_search s = {.image = &image};
	const struct shunt_binding *of_mod;
	const char *names;

	(void)state;
	assert_int_equal(shunt_add_mod(&s, &mod, "__SCT__a"), 0);
	assert_int_equal(shunt_add_mod(&s, &mod, NULL), 0);
	assert_int_equal(shunt_add_mod(&s, &mod, "__SCT__ab@@V2"), 0);
	of_mod = s.bindings.of_mod.data;
	names = s.bindings.names.data;
	assert_string_equal(names + of_mod[0].name, "__SCT__a");
	assert_string_equal(names + of_mod[2].name, "__SCT__ab");
	assert_true(of_mod[0].is_open && !of_mod[1].is_open && of_mod[2].is_open);
	assert_int_equal(s.bindings.nr_open, 2);
	shunt_bindings_free(&s.bindings);
	shunt_vector_free(&s.mods, sizeof(mod));
	assert_int_equal(vectors, 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_is_its_own), cmocka_unit_test(what_a_slot_holds),
		cmocka_unit_test(plt_at_the_end),  cmocka_unit_test(behind_stubs),
		cmocka_unit_test(names_are_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
