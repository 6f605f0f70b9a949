/* SPDX-License-Identifier: MIT */
/*
 * Tests of the ELF reader: against the files that elf_fixtures.sh has built (in the directory
 * named by the first argument or by $SHUNT_ELF_FIXTURES; SHUNT_ELF_VERBOSE=1 shows each
 * reference), against images made here (test_elf_made.c), and against damaged copies of both
 * (test_elf_damage.c).
 */

#include <elf.h>
#include <errno.h>
#include <link.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/site.h"
#include "linux/elf/elf.h"

#include "elf_images.h"
#include "test_elf.h"

/* ---- references ---- */

/* What a reference from text turns out to be. */
enum form {
	FORM_CALL,        /* e8 */
	FORM_JMP,         /* e9 */
	FORM_JCC,         /* 0f 8x */
	FORM_CALL_ADDR32, /* 67 e8: a relaxed ff 15 */
	FORM_JMP_NOP,     /* e9 ... 90: a relaxed ff 25 */
	FORM_CALL_GOT,    /* ff 15 */
	FORM_JMP_GOT,     /* ff 25 */
	FORM_ADDRESS,     /* lea or mov */
	FORM_COUNT
};

static const char *const form_names[FORM_COUNT] = {"call",     "jmp",    "jcc",   "addr32 call",
						   "jmp; nop", "call *", "jmp *", "address"};

static bool is_got_type(uint32_t type)
{
	return type == R_X86_64_GOTPCREL || type == R_X86_64_GOTPCRELX ||
	       type == R_X86_64_REX_GOTPCRELX;
}

/*
 * Decode what stands at @ref; *@disp becomes the offset of the displacement from
 * the field. ld.bfd changes the relocation of what it relaxes into PC32, which
 * leaves e8 with or without a 67 before it.
 */
static enum form form_of(const struct shunt_elf_ref *ref, int *disp)
{
	const uint8_t *at = ref->bytes;
	uint8_t last[4] = {0}; /* last[1] is the byte before the field */

	/* A section may begin with the very instruction. */
	for (uint64_t i = 1; i <= 3 && i <= ref->before; i++) {
		last[i] = *(at - i);
	}
	*disp = 0;
	assert_true(ref->after >= 4);
	if (is_got_type(ref->type)) {
		if (last[2] == 0xff && last[1] == 0x15) {
			return FORM_CALL_GOT;
		}
		if (last[2] == 0xff && last[1] == 0x25) {
			return FORM_JMP_GOT;
		}
		if (last[2] == 0x67 && last[1] == 0xe8) {
			return FORM_CALL_ADDR32;
		}
		if (last[2] == 0xe9 && at[3] == 0x90) {
			*disp = -1;
			return FORM_JMP_NOP;
		}
	} else if (last[1] == 0xe8) {
		return last[2] == 0x67 ? FORM_CALL_ADDR32 : FORM_CALL;
	} else if (last[1] == 0xe9) {
		return ref->after > 4 && at[4] == 0x90 ? FORM_JMP_NOP : FORM_JMP;
	} else if (last[2] == 0x0f && (last[1] & 0xf0) == 0x80) {
		return FORM_JCC;
	}
	if ((last[3] & 0xf0) == 0x40 && (last[2] == 0x8d || last[2] == 0x8b) &&
	    (last[1] & 0xc7) == 0x05) {
		return FORM_ADDRESS;
	}
	fail_msg("unknown form %02x %02x %02x | %02x, type %u", last[3], last[2], last[1], at[0],
		 ref->type);
	return FORM_COUNT;
}

struct tally {
	const struct fixture *fixture;
	const struct shunt_elf *elf;
	struct shunt_elf_func_index index;
	int total;
	int forms[FORM_COUNT];
	int foo, bar, baz;
};

static bool is_named(const struct shunt_elf_sym *sym, const char *name)
{
	return shunt_elf_name_len(sym->name) == strlen(name) &&
	       memcmp(sym->name, name, strlen(name)) == 0;
}

/* One of the slots that a symbol may have: lld and gold give it one for calls and one for loads. */
struct slot_match {
	uint64_t wanted;
	int slots;
	int matches;
};

static int match_slot(void *arg, uint64_t slot, const struct shunt_elf_sym *sym)
{
	struct slot_match *match = arg;

	(void)sym;
	match->slots++;
	match->matches += slot == match->wanted;
	return 0;
}

/* Check where the instruction leads. */
static void check_target(const struct tally *tally, const struct shunt_elf_ref *ref,
			 const struct shunt_elf_sym *sym, enum form form, int disp)
{
	struct slot_match match = {0};
	char name[64];
	int32_t rel;
	int ret;

	memcpy(&rel, ref->bytes + disp, sizeof(rel));
	match.wanted = ref->field + (uint64_t)(int64_t)(disp + 4) + (uint64_t)(int64_t)rel;
	snprintf(name, sizeof(name), "%.*s", (int)shunt_elf_name_len(sym->name), sym->name);
	ret = shunt_elf_for_each_slot(tally->elf, name, match_slot, &match);
	assert_true(ret == 0 || ret == -ENODATA);
	if (form == FORM_CALL_GOT || form == FORM_JMP_GOT) {
		assert_int_equal(match.matches, 1);
	} else if (match.slots == 0) {
		assert_false(sym->undefined);
		assert_int_equal(match.wanted, sym->value);
	}
}

/* The reader's own decoding of what form_of() has found. */
static void check_site(const struct shunt_elf_ref *ref, enum form form, int disp)
{
	static const uint8_t kinds[] = {
		[FORM_CALL] = SHUNT_KIND_CALL,       [FORM_JMP] = SHUNT_KIND_JMP,
		[FORM_JCC] = SHUNT_KIND_JCC,         [FORM_CALL_ADDR32] = SHUNT_KIND_CALL,
		[FORM_JMP_NOP] = SHUNT_KIND_JMP,     [FORM_CALL_GOT] = SHUNT_KIND_CALL_GOT,
		[FORM_JMP_GOT] = SHUNT_KIND_JMP_GOT,
	};
	unsigned opcode = form == FORM_JCC || form == FORM_CALL_GOT || form == FORM_JMP_GOT ? 2 : 1;
	uint64_t displacement = ref->field + (uint64_t)(int64_t)disp;
	struct shunt_elf_site site;
	const char *why = shunt_elf_site_at(ref, ref->bytes, ref->field, &site);
	int32_t rel;

	if (form == FORM_ADDRESS) {
		assert_non_null(why);
		return;
	}
	assert_null(why);
	assert_int_equal(site.kind & 0xf, kinds[form]);
	assert_int_equal(site.kind >> 4, form == FORM_JCC ? ref->bytes[-1] & 0xf : 0);
	assert_int_equal(site.addr, displacement - opcode);
	memcpy(&rel, ref->bytes + disp, sizeof(rel));
	assert_int_equal(site.operand, displacement + 4 + (uint64_t)(int64_t)rel);
}

static int count_reference(void *arg, const struct shunt_elf_ref *ref,
			   const struct shunt_elf_sym *sym)
{
	struct tally *tally = arg;
	const char *function;
	uint64_t start = 0;
	uint64_t start2 = 0;
	enum form form;
	int disp;

	assert_ptr_equal(ref->bytes, shunt_elf_at(tally->elf, ref->field, 4));
	assert_int_equal(ref->addend, -4);
	assert_int_equal(ref->sym, sym->index);
	assert_true(ref->sym < tally->elf->symtab.symbols.count);
	assert_int_equal(sym->undefined, strcmp(tally->fixture->trampolines, "undefined") == 0);
	form = form_of(ref, &disp);
	check_target(tally, ref, sym, form, disp);
	check_site(ref, form, disp);
	function = shunt_elf_function_at(tally->elf, ref->field, &start);
	assert_ptr_equal(function, shunt_elf_func_index_at(&tally->index, ref->field, &start2));
	assert_int_equal(start, start2);
	/* strip --strip-unneeded leaves the names of what is referred to. */
	if (function == NULL) {
		assert_non_null(strstr(tally->fixture->name, "-unneeded"));
		function = "?";
	} else {
		assert_int_equal(strncmp(function, "elf_", 4), 0);
	}
	if (getenv("SHUNT_ELF_VERBOSE") != NULL) {
		print_message("%-28s %-24s %-20s type %2u %02x %02x | %s\n", tally->fixture->name,
			      function, sym->name, ref->type, ref->before > 1 ? ref->bytes[-2] : 0,
			      ref->bytes[-1], form_names[form]);
	}
	tally->total++;
	tally->forms[form]++;
	tally->foo += is_named(sym, "__SCT__foo");
	tally->bar += is_named(sym, "__SCT__bar");
	tally->baz += is_named(sym, "__SCT__baz");
	return 0;
}

static void check_forms(const struct tally *tally)
{
	const int *forms = tally->forms;
	const char *form = tally->fixture->form;
	int addresses = forms[FORM_ADDRESS];

	/* Without PIC the address is an absolute one, which is no reference. */
	assert_in_range(addresses, 0, 1);
	assert_int_equal(tally->total, 7 + addresses);
	assert_int_equal(tally->foo, 3 + addresses);
	assert_int_equal(tally->bar, 3);
	assert_int_equal(tally->baz, 1);
	if (strcmp(form, "direct") == 0) {
		assert_int_equal(forms[FORM_CALL] + forms[FORM_JMP] + forms[FORM_JCC] +
					 forms[FORM_JMP_NOP],
				 7);
		assert_true(forms[FORM_CALL] >= 4);
	} else if (strcmp(form, "relaxed") == 0) {
		assert_int_equal(forms[FORM_CALL_ADDR32], 4);
		assert_int_equal(forms[FORM_JMP_NOP], 3);
	} else {
		assert_int_equal(forms[FORM_CALL_GOT], 4);
		assert_int_equal(forms[FORM_JMP_GOT], 3);
	}
}

static void check_references(const struct fixture *fixture, struct image *image)
{
	struct tally tally = {.fixture = fixture};
	struct shunt_elf elf;
	int ret;

	assert_int_equal(shunt_elf_open(&elf, image->bytes, image->size), 0);
	assert_int_equal(shunt_elf_lack(&elf), expected_lack(fixture));
	assert_int_equal(shunt_elf_func_index_build(&tally.index, &elf), 0);
	tally.elf = &elf;
	ret = shunt_elf_for_each_ref(&elf, PREFIX, count_reference, &tally);
	if (expected_lack(fixture) != SHUNT_ELF_LACKS_NOTHING) {
		assert_int_equal(ret, -ENODATA);
		assert_int_equal(tally.total, 0);
	} else {
		assert_int_equal(ret, 0);
		assert_int_equal(tally.total, fixture->references);
		check_forms(&tally);
	}
	shunt_elf_func_index_free(&tally.index);
}

static void test_references(void **state)
{
	(void)state;
	for_each_fixture(check_references);
}

static void check_stop(const struct fixture *fixture, struct image *image)
{
	struct shunt_elf elf;
	int count = 0;

	assert_int_equal(shunt_elf_open(&elf, image->bytes, image->size), 0);
	if (expected_lack(fixture) != SHUNT_ELF_LACKS_NOTHING) {
		return;
	}
	assert_int_equal(shunt_elf_for_each_ref(&elf, PREFIX, stop_at_third, &count), 42);
	assert_int_equal(count, 3);
	count = 0;
	assert_int_equal(shunt_elf_for_each_ref(&elf, "__SCT__quux", stop_at_third, &count), 0);
	assert_int_equal(count, 0);
	/* A prefix longer than the eight bytes that are compared at once. */
	assert_int_equal(shunt_elf_for_each_ref(&elf, "__SCT__baz", stop_at_third, &count), 0);
	assert_int_equal(count, 1);
}

static void test_callback_stops_walk(void **state)
{
	(void)state;
	for_each_fixture(check_stop);
}

/* ---- everything else about a file ---- */

static int count_symbol(void *arg, const struct shunt_elf_sym *sym)
{
	int *count = arg;

	assert_int_equal(strncmp(sym->name, PREFIX, strlen(PREFIX)), 0);
	*count += is_named(sym, "__SCT__foo") || is_named(sym, "__SCT__bar") ||
		  is_named(sym, "__SCT__baz");
	return 0;
}

static void check_symbols(const struct fixture *fixture, struct image *image)
{
	bool undefined = strcmp(fixture->trampolines, "undefined") == 0;
	bool stripped = expected_lack(fixture) == SHUNT_ELF_LACKS_SYMBOLS;
	struct shunt_elf elf;
	uint64_t value = 0;
	int count = 0;

	assert_int_equal(shunt_elf_open(&elf, image->bytes, image->size), 0);
	assert_int_equal(shunt_elf_for_each_sym(&elf, PREFIX, count_symbol, &count),
			 stripped ? -ENODATA : 0);
	assert_int_equal(count, stripped ? 0 : 3);
	if (undefined || stripped) {
		assert_int_equal(shunt_elf_symbol_value(&elf, "__SCT__foo", &value), -ENOENT);
	} else {
		assert_int_equal(shunt_elf_symbol_value(&elf, "__SCT__foo", &value), 0);
		assert_memory_equal(shunt_elf_at(&elf, value, 6), "\xf3\x0f\x1e\xfa\xff\x25", 6);
		assert_string_equal(shunt_elf_function_at(&elf, value + 5, NULL), "__SCT__foo");
	}
	assert_int_equal(shunt_elf_symbol_value(&elf, "__SCT__fo", &value), -ENOENT);
}

static void test_symbols(void **state)
{
	(void)state;
	for_each_fixture(check_symbols);
}

static int count_slot(void *arg, uint64_t slot, const struct shunt_elf_sym *sym)
{
	int *count = arg;

	(void)slot;
	(void)sym;
	++*count;
	return 0;
}

static void check_slots(const struct fixture *fixture, struct image *image)
{
	bool undefined = strcmp(fixture->trampolines, "undefined") == 0;
	struct shunt_elf elf;
	uint64_t slot = 0;
	int count = 0;
	int ret;

	assert_int_equal(shunt_elf_open(&elf, image->bytes, image->size), 0);
	ret = shunt_elf_got_slot(&elf, "__SCT__foo", &slot);
	if (undefined || strstr(fixture->name, "-shared") != NULL) {
		assert_int_equal(ret, 0);
		/* In a file the slot leads back to the PLT, or nowhere yet. */
		assert_non_null(shunt_elf_at(&elf, slot, 8));
		assert_int_equal(shunt_elf_for_each_slot(&elf, PREFIX, count_slot, &count), 0);
		assert_true(count >= 3);
	} else if (strstr(fixture->name, "-static") != NULL) {
		assert_true(ret == -ENODATA || ret == -ENOENT);
	} else {
		assert_int_equal(ret, -ENOENT);
	}
	assert_int_not_equal(shunt_elf_got_slot(&elf, "__SCT__fo", &slot), 0);
	/* The slots are found without section headers. */
	memset(image->bytes + offsetof(Elf64_Ehdr, e_shoff), 0, sizeof(Elf64_Off));
	assert_int_equal(shunt_elf_open(&elf, image->bytes, image->size), 0);
	assert_int_equal(shunt_elf_lack(&elf), SHUNT_ELF_LACKS_SECTIONS);
	assert_int_equal(shunt_elf_got_slot(&elf, "__SCT__foo", &slot), ret);
	assert_int_equal(shunt_elf_for_each_ref(&elf, PREFIX, stop_at_third, &count), -ENODATA);
}

static void test_slots(void **state)
{
	(void)state;
	for_each_fixture(check_slots);
}

static void check_build_id(const struct fixture *fixture, struct image *image)
{
	struct shunt_elf elf;
	const uint8_t *id;
	char text[64];
	size_t len;

	assert_int_equal(shunt_elf_open(&elf, image->bytes, image->size), 0);
	assert_int_equal(shunt_elf_build_id(&elf, &id, &len), 0);
	assert_int_equal(len, 20);
	for (size_t i = 0; i < len; i++) {
		snprintf(text + 2 * i, 3, "%02x", id[i]);
	}
	assert_string_equal(text, fixture->build_id);
}

static void test_build_id(void **state)
{
	(void)state;
	for_each_fixture(check_build_id);
}

static int compare_loaded(struct dl_phdr_info *info, size_t size, void *arg)
{
	const char *path = info->dlpi_name[0] != '\0' ? info->dlpi_name : "/proc/self/exe";
	int *count = arg;
	const uint8_t *in_file;
	const uint8_t *in_memory;
	size_t file_len = 0;
	size_t memory_len = 0;
	struct shunt_elf elf;
	struct image image;
	int ret;

	(void)size;
	if (path[0] != '/') {
		return 0; /* the vDSO */
	}
	image = image_read(path);
	assert_int_equal(shunt_elf_open(&elf, image.bytes, image.size), 0);
	ret = shunt_elf_build_id(&elf, &in_file, &file_len);
	assert_int_equal(shunt_elf_loaded_build_id(info->dlpi_phdr, info->dlpi_phnum,
						   info->dlpi_addr, &in_memory, &memory_len),
			 ret);
	if (ret == 0) {
		assert_int_equal(memory_len, file_len);
		assert_memory_equal(in_memory, in_file, file_len);
		++*count;
	}
	image_free(&image);
	return 0;
}

static void test_loaded_build_id(void **state)
{
	int count = 0;

	(void)state;
	dl_iterate_phdr(compare_loaded, &count);
	assert_true(count > 0);
}

static void test_note_padding(void **state)
{
	/* A property note of 8-byte padding with a body of 4, then the build-id. */
	static const uint32_t notes[] = {4, 4, 5, 0x554e47, 1,      0, /* "GNU" */
					 4, 4, 3, 0x554e47, 0xabcd, 0};
	const uint8_t *id;
	size_t len;

	(void)state;
	assert_int_equal(shunt_elf_note_build_id(notes, sizeof(notes), 8, &id, &len), 0);
	assert_ptr_equal(id, &notes[10]);
	assert_int_equal(len, 4);
	assert_int_equal(shunt_elf_note_build_id(notes, sizeof(notes), 4, &id, &len), -ENOENT);
	assert_int_equal(shunt_elf_note_build_id(notes, 43, 8, &id, &len), -ENOENT);
	assert_int_equal(shunt_elf_note_build_id(notes, 0, 8, &id, &len), -ENOENT);
}

/* Each linker's PLT entries, cut off at each length, and what is none. */
static void test_plt_entries(void **state)
{
	static const struct {
		uint8_t len, end; /* of the jmp *slot(%rip); 0xff: it is none */
		uint8_t code[SHUNT_ELF_PLT_MAX];
	} cases[] = {
		/* bfd, lld, gold */
		{11, 6, {0xff, 0x25, 1, 2, 3, 0x80, 0x68}},
		/* -z ibtplt, without and with bnd; bnd alone */
		{10, 10, {0xf3, 0x0f, 0x1e, 0xfa, 0xff, 0x25, 1, 2, 3, 0x80}},
		{11, 11, {0xf3, 0x0f, 0x1e, 0xfa, 0xf2, 0xff, 0x25, 1, 2, 3, 0x80}},
		{7, 7, {0xf2, 0xff, 0x25, 1, 2, 3, 0x80}},
		/* mold */
		{16,
		 16,
		 {0xf3, 0x0f, 0x1e, 0xfa, 0x41, 0xbb, 9, 0, 0, 0, 0xff, 0x25, 1, 2, 3, 0x80}},
		/* the other half of -z ibtplt; call *slot; jmp rel32 */
		{9, 0xff, {0xf3, 0x0f, 0x1e, 0xfa, 0x68}},
		{6, 0xff, {0xff, 0x15, 1, 2, 3, 0x80}},
		{5, 0xff, {0xe9, 1, 2, 3, 0x80}},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (size_t len = 0; len <= cases[i].len; len++) {
			uint8_t *code = malloc(len + 1); /* what lies behind must not be read */
			uint64_t slot = 0;
			bool is_one;

			assert_non_null(code);
			memcpy(code, cases[i].code, len);
			is_one = shunt_elf_plt_slot(code, len, 0x100000000, &slot);
			free(code);
			assert_int_equal(is_one, len >= cases[i].end);
			if (is_one)
				assert_true(slot == UINT64_C(0x80030201) + cases[i].end);
		}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_references),
		cmocka_unit_test(test_callback_stops_walk),
		cmocka_unit_test(test_symbols),
		cmocka_unit_test(test_slots),
		cmocka_unit_test(test_plt_entries),
		cmocka_unit_test(test_build_id),
		cmocka_unit_test(test_loaded_build_id),
		cmocka_unit_test(test_note_padding),
		cmocka_unit_test(test_made_image),
		cmocka_unit_test(test_bad_headers),
		cmocka_unit_test(test_overlapping_sections),
		cmocka_unit_test(test_local_and_versioned_symbols),
		cmocka_unit_test(test_section_names),
		cmocka_unit_test(test_slot_types),
		cmocka_unit_test(test_function_index),
		cmocka_unit_test(test_truncations),
		cmocka_unit_test(test_mutations),
		cmocka_unit_test(test_speed),
	};

	fixture_dir = argc > 1 ? argv[1] : getenv("SHUNT_ELF_FIXTURES");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
