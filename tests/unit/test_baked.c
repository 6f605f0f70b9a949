/* SPDX-License-Identifier: MIT */
/*
 * The reader of baked tables, one file of the port alone. The table ends where memory does: one
 * that says that it has more than that is refused, and nothing is read outside of it. Controls:
 * the table as it is, which is accepted; mutants baked-strings-end, baked-table-size,
 * baked-name-range (tests/mutation).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "../../src/linux/module/baked.c" /* NOLINT(bugprone-suspicious-include) */

#define PAGE 4096ul
#define BIAS 0x10000000ul

/* ----------------------------------------------------- what baked.c asks for */

static const uint8_t *section;
static size_t section_size;
static struct shunt_mod mods[8];
static size_t names_read; /* bytes */

int shunt_elf_section(const struct shunt_elf *elf, const char *name, const uint8_t **data,
		      size_t *size)
{
	(void)elf;
	(void)name;
	*data = section;
	*size = section_size;
	return 0;
}

bool shunt_is_own_key(const struct shunt_module *module, const struct static_call_key *key)
{
	(void)module;
	(void)key;
	return false;
}

struct static_call_key *shunt_own_tramp_key(const struct shunt_scan *s, uintptr_t tramp)
{
	(void)s;
	(void)tramp;
	return NULL;
}

bool shunt_slot_holds(const struct shunt_scan *s, uintptr_t slot, uintptr_t value)
{
	(void)s;
	(void)slot;
	(void)value;
	return false;
}

uintptr_t shunt_plt_slot(const struct shunt_scan *s, uintptr_t plt)
{
	(void)s;
	return plt + 8;
}

int shunt_is_slot_of(struct shunt_scan *s, uintptr_t slot, const char *name)
{
	(void)s;
	(void)slot;
	names_read += strlen(name);
	return 1;
}

int shunt_add_mod(struct shunt_scan *s, const struct shunt_mod *mod, const char *name)
{
	(void)name;
	s->mods.data = mods;
	mods[s->mods.n++] = *mod;
	return 0;
}

void shunt_scan_free(struct shunt_scan *s)
{
	s->mods.n = 0;
}

/* ------------------------------------------------------------------- the tests */

/* One key of another module, one site, and its name. */
struct table {
	struct shunt_baked_header head;
	struct shunt_baked_mod mod;
	struct shunt_baked_site site;
	char strings[8];
};

_Static_assert(sizeof(struct table) == 80, "no gaps");

static const struct table good = {
	.head = {.nr_mods = 1, .nr_sites = 1, .strings_off = offsetof(struct table, strings)},
	.mod = {.tramp = 0x1000, .slot = 0x2000, .name = 1},
	.site = {.off = 16},
	.strings = "\0symbol",
};

/* The last bytes of a page that has nothing behind it. */
static struct table *last_of_page(void)
{
	uint8_t *p = mmap(NULL, 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct table *table = (void *)(p + PAGE - sizeof(*table));

	assert_true(p != MAP_FAILED);
	assert_int_equal(mprotect(p, PAGE, PROT_READ | PROT_WRITE), 0);
	*table = good;
	memcpy(table->head.magic, SHUNT_BAKED_MAGIC, sizeof(table->head.magic));
	section = (const uint8_t *)table;
	section_size = sizeof(*table);
	return table;
}

static int open_table(void)
{
	static struct shunt_image image = {.bias = BIAS, .range = {BIAS, BIAS + PAGE}};
	struct shunt_scan scan = {.image = &image};
	struct shunt_baked_table table;

	names_read = 0;
	return shunt_baked_open(&scan, &table);
}

static void as_it_is(void **state)
{
	(void)state;
	(void)last_of_page();
	assert_int_equal(open_table(), 0);
	assert_int_equal(names_read, 2 * strlen("symbol")); /* direct calls, and indirect ones */
}

static void strings_without_end(void **state)
{
	struct table *table = last_of_page();

	(void)state;
	memset(table->strings, 'x', sizeof(table->strings));
	assert_int_equal(open_table(), -EINVAL);
	assert_int_equal(names_read, 0);
}

static void name_outside(void **state)
{
	static const uint32_t names[] = {sizeof(good.strings), 0x7fffffff, UINT32_MAX};
	struct table *table = last_of_page();

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		table->mod.name = names[i];
		assert_int_equal(open_table(), -EINVAL);
	}
	table->mod.name = sizeof(table->strings) - 1; /* the last NUL: a name, if an empty one */
	assert_int_equal(open_table(), 0);
}

static void sizes_that_do_not_fit(void **state)
{
	static const uint32_t numbers[] = {0, 2, 1000, 0x7ffffff, UINT32_MAX};
	struct table *table = last_of_page();

	(void)state;
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		table->head =
			(struct shunt_baked_header){"", numbers[i], 1, good.head.strings_off, 0};
		memcpy(table->head.magic, SHUNT_BAKED_MAGIC, sizeof(table->head.magic));
		assert_int_equal(open_table(), -EINVAL);
		table->head.nr_mods = 1;
		table->head.nr_sites = numbers[i];
		assert_int_equal(open_table(), -EINVAL);
	}
}

static void strings_elsewhere(void **state)
{
	static const uint64_t offsets[] = {0,         32,        sizeof(good) - 1, sizeof(good),
					   1ul << 40, UINT64_MAX};
	struct table *table = last_of_page();

	(void)state;
	for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		table->head.strings_off = offsets[i];
		assert_int_equal(open_table(), -EINVAL);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_it_is),          cmocka_unit_test(strings_without_end),
		cmocka_unit_test(name_outside),      cmocka_unit_test(sizes_that_do_not_fit),
		cmocka_unit_test(strings_elsewhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
