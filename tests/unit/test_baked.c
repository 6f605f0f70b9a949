/* SPDX-License-Identifier: MIT */
/*
 * The reader of baked tables, two files of the port alone. The table ends where memory does: one
 * that says that it has more than that is refused, and nothing is read outside of it. Controls:
 * the table as it is, which is accepted; mutants baked-* (tests/mutation).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "../../src/linux/elf/elf_baked.c" /* NOLINT(bugprone-suspicious-include) */
#include "../../src/linux/module/baked.c"  /* NOLINT(bugprone-suspicious-include) */

#define PAGE 4096ul
#define BIAS 0x10000000ul

/* ----------------------------------------------------- what baked.c asks for */

static Elf64_Phdr load_header = {.p_type = PT_LOAD};
static struct shunt_elf file;
static Elf64_Shdr section;
static struct shunt_mod mods[8];
static size_t names_read; /* bytes */

int shunt_elf_section_header(const struct shunt_elf *elf, const char *name, Elf64_Shdr *header)
{
	(void)elf;
	(void)name;
	*header = section;
	return 0;
}

uint64_t shunt_elf_first_load(const struct shunt_elf *elf)
{
	(void)elf;
	return load_header.p_vaddr;
}

bool shunt_segment_has(const struct shunt_segments *segments, uint32_t flags, uintptr_t addr,
		       size_t len)
{
	return flags == PF_X && addr - segments->bias < 0x1000 &&
	       addr - segments->bias + len <= 0x1000;
}

bool shunt_is_own_key(const struct shunt_module *module, const struct static_call_key *key)
{
	(void)module;
	(void)key;
	return false;
}

struct static_call_key *shunt_own_tramp_key(const struct shunt_site_search *s, uintptr_t tramp)
{
	(void)s;
	(void)tramp;
	return NULL;
}

bool shunt_slot_holds(const struct shunt_site_search *s, uintptr_t slot, uintptr_t value)
{
	(void)s;
	(void)slot;
	(void)value;
	return false;
}

uintptr_t shunt_plt_slot(const struct shunt_segments *segments, uintptr_t plt)
{
	(void)segments;
	return plt + 8;
}

uintptr_t shunt_behind_stubs(const struct shunt_segments *segments, uintptr_t addr)
{
	(void)segments;
	return addr;
}

int shunt_is_slot_of(struct shunt_site_search *s, uintptr_t slot, const char *name)
{
	(void)s;
	(void)slot;
	names_read += strlen(name);
	return 1;
}

int shunt_add_mod(struct shunt_site_search *s, const struct shunt_mod *mod, const char *name)
{
	(void)name;
	s->mods.data = mods;
	mods[s->mods.n++] = *mod;
	return 0;
}

void shunt_site_search_free(struct shunt_site_search *s)
{
	s->mods.n = 0;
}

/* ------------------------------------------------------------------- the tests */

/* One key of another module, three sites, and its name. */
struct table {
	struct shunt_baked_header head;
	struct shunt_baked_mod mod;
	struct shunt_baked_site sites[3];
	char strings[16];
};

_Static_assert(sizeof(struct table) == 104, "no gaps");

static const struct table good = {
	.head = {.nr_mods = 1, .nr_sites = 3, .strings_off = offsetof(struct table, strings)},
	.mod = {.tramp = 0x1000, .slot = 0x2000, .name = 1},
	.sites = {{.off = 16},
		  {.off = 21, .what = SHUNT_KIND_JCC | 0x50},
		  {.off = 27, .what = SHUNT_KIND_JMP_GOT | SHUNT_BAKED_DIRECT}},
	.strings = "\0" SHUNT_TRAMP_PREFIX "symbol",
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
	file = (struct shunt_elf){.image = (const uint8_t *)table, .size = sizeof(*table)};
	section = (Elf64_Shdr){.sh_type = SHT_PROGBITS, .sh_size = sizeof(*table)};
	return table;
}

static struct shunt_baked_table opened;

static int read_table(void)
{
	static struct shunt_image image = {.bias = BIAS, .range = {BIAS, BIAS + PAGE}};
	struct shunt_site_search scan = {.image = &image, .elf = &file};

	names_read = 0;
	return shunt_baked_open(&scan, &opened);
}

/* How many sites of the opened table are taken up. */
static uint32_t load_sites(void)
{
	static const struct shunt_segments segments = {.bias = BIAS};
	struct shunt_binding of_mod[2] = {{0}};
	const struct shunt_bindings bindings = {.of_mod = {.data = of_mod, .n = 2}};
	struct shunt_site array[3];

	return shunt_baked_load(&opened, &segments, mods, &bindings, array);
}

static void as_it_is(void **state)
{
	(void)state;
	(void)last_of_page();
	assert_int_equal(read_table(), 0);
	/* Of direct calls, and of indirect ones. */
	assert_int_equal(names_read, 2 * strlen(SHUNT_TRAMP_PREFIX "symbol"));
	assert_int_equal(load_sites(), 3);
}

static void strings_without_end(void **state)
{
	struct table *table = last_of_page();

	(void)state;
	memset(table->strings, 'x', sizeof(table->strings));
	assert_int_equal(read_table(), -EINVAL);
	assert_int_equal(names_read, 0);
}

static void name_outside(void **state)
{
	static const uint32_t names[] = {sizeof(good.strings), 0x7fffffff, UINT32_MAX};
	struct table *table = last_of_page();

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		table->mod.name = names[i];
		assert_int_equal(read_table(), -EINVAL);
	}
	table->mod.name = 1;
	assert_int_equal(read_table(), 0);
}

/* Who reads names goes behind the prefix, which is longer than this one. */
static void name_of_no_trampoline(void **state)
{
	struct table *table = last_of_page();

	(void)state;
	table->mod.name = sizeof(table->strings) - 1; /* the last NUL: a name, if an empty one */
	assert_int_equal(read_table(), -EINVAL);
	table->mod.name = 2;
	assert_int_equal(read_table(), -EINVAL);
	table->mod.name = 1;
	assert_int_equal(read_table(), 0);
}

/* A table that begins elsewhere than the file: its sites would be other ones. */
static void other_base(void **state)
{
	struct table *table = last_of_page();

	(void)state;
	table->head.base = PAGE;
	assert_int_equal(read_table(), -EINVAL);
	load_header.p_vaddr = PAGE; /* so it is in the file, but not in memory */
	assert_int_equal(read_table(), -EINVAL);
	load_header.p_vaddr = 0;
	table->head.base = 0;
	assert_int_equal(read_table(), 0);
}

/* A loaded section of eight zero bytes or more waits for its table; what is not loaded, does not.
 */
static void not_there_yet(void **state)
{
	struct table *table = last_of_page();

	(void)state;
	memset(table->head.magic, 0, sizeof(table->head.magic));
	assert_int_equal(read_table(), -EINVAL);
	section.sh_flags = SHF_ALLOC;
	assert_int_equal(read_table(), -ENODATA);
	section.sh_size = sizeof(table->head.magic) - 1;
	assert_int_equal(read_table(), -EINVAL);
	section.sh_size = sizeof(*table) + 1; /* cut off */
	assert_int_equal(read_table(), -EINVAL);
}

/* One that is not so, and none is taken up. */
static void bad_sites(void **state)
{
	static const struct shunt_baked_site bad[] = {
		{.off = 20},                                     /* within the one before it */
		{.off = 16},                                     /* the one before it once more */
		{.off = 10},                                     /* before it: not sorted */
		{.off = 22},                                     /* into the one behind it */
		{.off = 21, .what = SHUNT_KIND_BRANCH},          /* of no call */
		{.off = 21, .what = 0xf},                        /* of no kind */
		{.off = 21, .what = 0x50},                       /* a call with a condition */
		{.off = 21, .what = 1 << SHUNT_BAKED_MOD_SHIFT}, /* of no mod */
	};
	struct table *table = last_of_page();

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		table->sites[1] = bad[i];
		if (i == 3)
			table->sites[1].what = SHUNT_KIND_JCC;
		assert_int_equal(read_table(), 0);
		assert_int_equal(load_sites(), 0);
	}
	table->sites[1] = good.sites[1];
	table->sites[2].off = 0x1000 - 5; /* six bytes, of which the text has five */
	assert_int_equal(load_sites(), 0);
	table->sites[2].off = 0x1000 - 6;
	assert_int_equal(load_sites(), 3);
}

/* It holds a direct call already, which no update would find; one that does not is left alone. */
static void direct_call_of_nothing(void **state)
{
	struct table *table = last_of_page();

	(void)state;
	assert_int_equal(read_table(), 0);
	mods[0].slot = mods[1].slot = 0;
	assert_int_equal(load_sites(), 0);
	table->sites[2].what &= ~SHUNT_BAKED_DIRECT;
	assert_int_equal(load_sites(), 2);
}

static void sizes_that_do_not_fit(void **state)
{
	static const uint32_t numbers[] = {0, 2, 1000, 0x7ffffff, UINT32_MAX};
	struct table *table = last_of_page();

	(void)state;
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		table->head =
			(struct shunt_baked_header){"", numbers[i], 3, good.head.strings_off, 0};
		memcpy(table->head.magic, SHUNT_BAKED_MAGIC, sizeof(table->head.magic));
		assert_int_equal(read_table(), -EINVAL);
		table->head.nr_mods = 1;
		table->head.nr_sites = numbers[i];
		assert_int_equal(read_table(), -EINVAL);
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
		assert_int_equal(read_table(), -EINVAL);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_it_is),          cmocka_unit_test(strings_without_end),
		cmocka_unit_test(name_outside),      cmocka_unit_test(sizes_that_do_not_fit),
		cmocka_unit_test(strings_elsewhere), cmocka_unit_test(name_of_no_trampoline),
		cmocka_unit_test(other_base),        cmocka_unit_test(not_there_yet),
		cmocka_unit_test(bad_sites),         cmocka_unit_test(direct_call_of_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
