/* SPDX-License-Identifier: MIT */
/*
 * Tests of the ELF reader: against the files that elf_fixtures.sh has built (in
 * the directory named by the first argument or by $SHUNT_ELF_FIXTURES), against
 * images made here, and against damaged copies of both, each of which ends at a
 * page that cannot be read. SHUNT_ELF_MUTATIONS sets how many copies of each
 * file are damaged, SHUNT_ELF_VERBOSE=1 shows each reference.
 */

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/site.h"
#include "linux/elf/elf.h"

#define PREFIX "__SCT__"

/* ---- images ---- */

/* Bytes that end where a page begins that cannot be read. */
struct image {
	uint8_t *bytes;
	size_t size;
	uint8_t *map;
	size_t map_size;
};

static struct image image_new(const void *bytes, size_t size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t room = (size + page - 1) / page * page;
	struct image image = {.size = size, .map_size = room + page};

	image.map = mmap(NULL, image.map_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	assert_ptr_not_equal(image.map, MAP_FAILED);
	assert_int_equal(mprotect(image.map + room, page, PROT_NONE), 0);
	image.bytes = image.map + room - size;
	if (size != 0) {
		memcpy(image.bytes, bytes, size);
	}
	return image;
}

static void image_free(struct image *image)
{
	munmap(image->map, image->map_size);
}

static struct image image_read(const char *path)
{
	struct image image;
	struct stat st;
	uint8_t *bytes;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) != 0) {
		fail_msg("%s: %s", path, strerror(errno));
	}
	bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	assert_ptr_not_equal(bytes, MAP_FAILED);
	image = image_new(bytes, (size_t)st.st_size);
	munmap(bytes, (size_t)st.st_size);
	close(fd);
	return image;
}

/* ---- fixtures ---- */

struct fixture {
	char name[64];
	char lack[16];
	char form[16];
	char trampolines[16];
	int references;
	char build_id[64];
};

static const char *fixture_dir;

/* Call @fn for each line of the manifest. */
static void for_each_fixture(void (*fn)(const struct fixture *fixture, struct image *image))
{
	struct fixture fixture;
	char path[512];
	FILE *manifest;
	int count = 0;

	if (fixture_dir == NULL) {
		skip();
	}
	snprintf(path, sizeof(path), "%s/manifest", fixture_dir);
	manifest = fopen(path, "re");
	if (manifest == NULL) {
		fail_msg("%s: %s", path, strerror(errno));
	}
	while (fscanf(manifest, "%63s %15s %15s %15s %d %63s", fixture.name, fixture.lack,
		      fixture.form, fixture.trampolines, &fixture.references,
		      fixture.build_id) == 6) {
		struct image image;

		snprintf(path, sizeof(path), "%s/%s", fixture_dir, fixture.name);
		image = image_read(path);
		fn(&fixture, &image);
		image_free(&image);
		count++;
	}
	fclose(manifest);
	assert_true(count > 0);
}

static enum shunt_elf_lack expected_lack(const struct fixture *fixture)
{
	if (strcmp(fixture->lack, "symbols") == 0) {
		return SHUNT_ELF_LACKS_SYMBOLS;
	}
	if (strcmp(fixture->lack, "relocations") == 0) {
		return SHUNT_ELF_LACKS_RELOCATIONS;
	}
	return SHUNT_ELF_LACKS_NOTHING;
}

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
		[FORM_CALL] = SHUNT_SITE_CALL,       [FORM_JMP] = SHUNT_SITE_JMP,
		[FORM_JCC] = SHUNT_SITE_JCC,         [FORM_CALL_ADDR32] = SHUNT_SITE_CALL,
		[FORM_JMP_NOP] = SHUNT_SITE_JMP,     [FORM_CALL_GOT] = SHUNT_SITE_CALL_GOT,
		[FORM_JMP_GOT] = SHUNT_SITE_JMP_GOT,
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

static int stop_at_third(void *arg, const struct shunt_elf_ref *ref,
			 const struct shunt_elf_sym *sym)
{
	int *count = arg;

	(void)ref;
	(void)sym;
	return ++*count == 3 ? 42 : 0;
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

static int count_only(void *arg, const struct shunt_elf_ref *ref, const struct shunt_elf_sym *sym)
{
	size_t *count = arg;

	(void)ref;
	(void)sym;
	++*count;
	return 0;
}

/* ---- made images ---- */

/* A file of a header, text, symbols, strings and relocations of the text. */
struct made {
	Elf64_Ehdr *eh;
	Elf64_Shdr *sections;
	Elf64_Sym *symbols;
	char *strings;
	Elf64_Rela *relas;
	uint8_t *bytes;
	size_t size;
	size_t nsymbols;
	size_t nrelas;
};

enum { MADE_TEXT = 1, MADE_SYMTAB, MADE_STRTAB, MADE_RELA, MADE_SECTIONS };

#define MADE_NAME 16 /* bytes of strings for each symbol */
#define MADE_BASE 0x1000

static Elf64_Shdr made_section(const struct made *made, uint32_t type, const void *start,
			       size_t size, size_t entry)
{
	return (Elf64_Shdr){.sh_type = type,
			    .sh_offset = (Elf64_Off)((const uint8_t *)start - made->bytes),
			    .sh_size = size,
			    .sh_entsize = entry};
}

static struct made made_new(size_t nsymbols, size_t nrelas, size_t text)
{
	struct made made = {.nsymbols = nsymbols, .nrelas = nrelas};

	text = (text + 7) & ~(size_t)7;
	made.size = sizeof(Elf64_Ehdr) + MADE_SECTIONS * sizeof(Elf64_Shdr) +
		    nsymbols * (sizeof(Elf64_Sym) + MADE_NAME) + nrelas * sizeof(Elf64_Rela) + text;
	made.bytes = calloc(1, made.size);
	assert_non_null(made.bytes);
	made.eh = (Elf64_Ehdr *)(void *)made.bytes;
	made.sections = (Elf64_Shdr *)(made.eh + 1);
	made.symbols = (Elf64_Sym *)(made.sections + MADE_SECTIONS);
	made.relas = (Elf64_Rela *)(made.symbols + nsymbols);
	made.strings = (char *)(made.relas + nrelas);
	memcpy(made.eh->e_ident, "\177ELF\2\1\1", 7);
	made.eh->e_type = ET_DYN;
	made.eh->e_machine = EM_X86_64;
	made.eh->e_shoff = sizeof(Elf64_Ehdr);
	made.eh->e_shentsize = sizeof(Elf64_Shdr);
	made.eh->e_shnum = MADE_SECTIONS;
	made.sections[MADE_TEXT] =
		made_section(&made, SHT_PROGBITS, made.strings + nsymbols * MADE_NAME, text, 0);
	made.sections[MADE_TEXT].sh_addr = MADE_BASE;
	made.sections[MADE_TEXT].sh_flags = SHF_ALLOC | SHF_EXECINSTR;
	made.sections[MADE_SYMTAB] = made_section(&made, SHT_SYMTAB, made.symbols,
						  nsymbols * sizeof(Elf64_Sym), sizeof(Elf64_Sym));
	made.sections[MADE_SYMTAB].sh_link = MADE_STRTAB;
	made.sections[MADE_STRTAB] =
		made_section(&made, SHT_STRTAB, made.strings, nsymbols * MADE_NAME, 0);
	made.sections[MADE_RELA] = made_section(&made, SHT_RELA, made.relas,
						nrelas * sizeof(Elf64_Rela), sizeof(Elf64_Rela));
	made.sections[MADE_RELA].sh_link = MADE_SYMTAB;
	made.sections[MADE_RELA].sh_info = MADE_TEXT;
	return made;
}

static void made_symbol(struct made *made, size_t i, const char *name, uint64_t value,
			uint64_t size)
{
	snprintf(made->strings + i * MADE_NAME, MADE_NAME, "%s", name);
	made->symbols[i] = (Elf64_Sym){.st_name = (Elf64_Word)(i * MADE_NAME),
				       .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC),
				       .st_shndx = MADE_TEXT,
				       .st_value = value,
				       .st_size = size};
}

static void made_rela(struct made *made, size_t i, size_t symbol, uint64_t at)
{
	made->relas[i] = (Elf64_Rela){.r_offset = MADE_BASE + at,
				      .r_info = ELF64_R_INFO(symbol, R_X86_64_PLT32),
				      .r_addend = -4};
}

static struct made made_small(void)
{
	struct made made = made_new(3, 4, 64);

	made_symbol(&made, 1, "__SCT__a", MADE_BASE, 8);
	made_symbol(&made, 2, "printf", MADE_BASE + 8, 8);
	for (size_t i = 0; i < 4; i++) {
		made_rela(&made, i, 1 + i % 2, 16 + 8 * i);
	}
	return made;
}

static int made_scan(const struct made *made, int *count)
{
	struct shunt_elf elf;
	int ret = shunt_elf_open(&elf, made->bytes, made->size);

	*count = -100;
	return ret != 0 ? ret : shunt_elf_for_each_ref(&elf, PREFIX, stop_at_third, count);
}

static void test_made_image(void **state)
{
	struct made made = made_small();
	int count;

	(void)state;
	assert_int_equal(made_scan(&made, &count), 0);
	assert_int_equal(count, -98);

	/* The last field that fits, and the first that does not. */
	made_rela(&made, 3, 1, 60);
	assert_int_equal(made_scan(&made, &count), 0);
	made_rela(&made, 3, 1, 61);
	assert_int_equal(made_scan(&made, &count), -EINVAL);
	made_rela(&made, 3, 1, (uint64_t)-1);
	assert_int_equal(made_scan(&made, &count), -EINVAL);
	/* One beyond the symbols that collides with a trampoline in the filter. */
	made_rela(&made, 3, 65536 + 1, 0);
	assert_int_equal(made_scan(&made, &count), -EINVAL);
	made_rela(&made, 3, 2, 60);

	/* Static relocations of data and dynamic ones of text are not ours. */
	made.sections[MADE_TEXT].sh_flags = SHF_ALLOC | SHF_WRITE;
	assert_int_equal(made_scan(&made, &count), -ENODATA);
	made.sections[MADE_TEXT].sh_flags = SHF_ALLOC | SHF_EXECINSTR;
	made.sections[MADE_RELA].sh_flags = SHF_ALLOC;
	assert_int_equal(made_scan(&made, &count), -ENODATA);
	made.sections[MADE_RELA].sh_flags = SHF_INFO_LINK;
	assert_int_equal(made_scan(&made, &count), 0);
	made.sections[MADE_TEXT].sh_type = SHT_NOBITS;
	made.sections[MADE_TEXT].sh_offset = UINT64_MAX;
	assert_int_equal(made_scan(&made, &count), 0);
	made.sections[MADE_STRTAB].sh_size -= 16 - 9;
	assert_int_equal(made_scan(&made, &count), 0);
	made.strings[made.sections[MADE_STRTAB].sh_size - 1] = 'x';
	assert_int_equal(made_scan(&made, &count), -EINVAL);
	free(made.bytes);
}

static void test_bad_headers(void **state)
{
	struct made made = made_small();
	struct shunt_elf elf;

	(void)state;
	assert_int_equal(shunt_elf_open(&elf, made.bytes, 0), -ENOEXEC);
	assert_int_equal(shunt_elf_open(&elf, made.bytes, sizeof(Elf64_Ehdr) - 1), -ENOEXEC);
	assert_int_equal(shunt_elf_open(&elf, made.bytes, sizeof(Elf64_Ehdr)), -EINVAL);
	made.eh->e_type = ET_REL;
	assert_int_equal(shunt_elf_open(&elf, made.bytes, made.size), -ENOEXEC);
	made.eh->e_type = ET_DYN;
	made.eh->e_machine = EM_AARCH64;
	assert_int_equal(shunt_elf_open(&elf, made.bytes, made.size), -ENOEXEC);
	made.eh->e_machine = EM_X86_64;
	made.eh->e_shoff = UINT64_MAX - 8;
	assert_int_equal(shunt_elf_open(&elf, made.bytes, made.size), -EINVAL);
	made.eh->e_shoff = sizeof(Elf64_Ehdr);
	made.eh->e_shnum = 0; /* the count stands in the first section header */
	made.sections[0].sh_size = MADE_SECTIONS;
	assert_int_equal(shunt_elf_open(&elf, made.bytes, made.size), 0);
	assert_int_equal(elf.sections.count, MADE_SECTIONS);
	made.sections[0].sh_size = UINT64_MAX / 64 + 2;
	assert_int_equal(shunt_elf_open(&elf, made.bytes, made.size), -EINVAL);
	made.sections[0].sh_size = 0;
	assert_int_equal(shunt_elf_open(&elf, made.bytes, made.size), 0);
	assert_int_equal(shunt_elf_lack(&elf), SHUNT_ELF_LACKS_SECTIONS);
	made.eh->e_phnum = 1;
	made.eh->e_phentsize = sizeof(Elf64_Phdr);
	made.eh->e_phoff = made.size - sizeof(Elf64_Phdr) + 1;
	assert_int_equal(shunt_elf_open(&elf, made.bytes, made.size), -EINVAL);
	made.eh->e_phoff--;
	assert_int_equal(shunt_elf_open(&elf, made.bytes, made.size), 0);
	/* Headers of another size than ours would be read askew. */
	for (unsigned size = 0; size < 2 * sizeof(Elf64_Phdr); size += 8) {
		made.eh->e_phentsize = (Elf64_Half)size;
		assert_int_equal(shunt_elf_open(&elf, made.bytes, made.size),
				 size == sizeof(Elf64_Phdr) ? 0 : -EINVAL);
	}
	made.eh->e_phentsize = sizeof(Elf64_Phdr);
	made.eh->e_shoff = sizeof(Elf64_Ehdr);
	made.eh->e_shentsize = sizeof(Elf64_Shdr) + 8;
	assert_int_equal(shunt_elf_open(&elf, made.bytes, made.size), -EINVAL);
	free(made.bytes);
}

/* Sections that all name the same relocations must not be walked one by one. */
static void test_overlapping_sections(void **state)
{
	enum { EXTRA = 20000 };
	struct made made = made_new(3, 8 * EXTRA, 64);
	size_t table = (MADE_SECTIONS + EXTRA) * sizeof(Elf64_Shdr);
	uint8_t *bytes = calloc(1, made.size + table);
	Elf64_Ehdr eh = *made.eh;
	Elf64_Shdr *sections;
	struct shunt_elf elf;
	size_t count = 0;

	(void)state;
	assert_non_null(bytes);
	made_symbol(&made, 1, "__SCT__a", MADE_BASE, 8);
	for (size_t i = 0; i < made.nrelas; i++) {
		made_rela(&made, i, 1, 16);
	}
	memcpy(bytes, made.bytes, made.size);
	sections = (Elf64_Shdr *)(void *)(bytes + made.size);
	memcpy(sections, made.sections, MADE_SECTIONS * sizeof(*sections));
	for (size_t i = MADE_SECTIONS; i < MADE_SECTIONS + EXTRA; i++) {
		sections[i] = sections[MADE_RELA];
	}
	eh.e_shoff = made.size;
	eh.e_shnum = MADE_SECTIONS + EXTRA;
	memcpy(bytes, &eh, sizeof(eh));
	assert_int_equal(shunt_elf_open(&elf, bytes, made.size + table), 0);
	assert_int_equal(shunt_elf_for_each_ref(&elf, PREFIX, count_only, &count), -EINVAL);
	assert_true(count <= (made.size + table) / sizeof(Elf64_Rela));
	free(bytes);
	free(made.bytes);
}

static void test_local_and_versioned_symbols(void **state)
{
	struct made made = made_new(6, 0, 64);
	struct shunt_elf elf;
	uint64_t value;

	(void)state;
	made_symbol(&made, 1, "twice", 1, 1);
	made.symbols[1].st_info = ELF64_ST_INFO(STB_LOCAL, STT_FUNC);
	made_symbol(&made, 2, "twice", 2, 1);
	made_symbol(&made, 3, "old@V1", 3, 1);
	made_symbol(&made, 4, "new@@V2", 4, 1);
	made_symbol(&made, 5, "local", 5, 1);
	made.symbols[5].st_info = ELF64_ST_INFO(STB_LOCAL, STT_FUNC);
	assert_int_equal(shunt_elf_open(&elf, made.bytes, made.size), 0);
	assert_int_equal(shunt_elf_symbol_value(&elf, "twice", &value), 0);
	assert_int_equal(value, 2);
	assert_int_equal(shunt_elf_symbol_value(&elf, "old", &value), -ENOENT);
	assert_int_equal(shunt_elf_symbol_value(&elf, "new", &value), 0);
	assert_int_equal(value, 4);
	assert_int_equal(shunt_elf_symbol_value(&elf, "local", &value), 0);
	assert_int_equal(value, 5);
	assert_int_equal(shunt_elf_name_len("new@@V2"), 3);
	assert_int_equal(shunt_elf_name_len("new"), 3);
	free(made.bytes);
}

/* ---- section names ---- */

/*
 * A file whose section names are its last bytes. The name that is asked for begins as the file
 * ends: what would make it whole lies beyond.
 */
static void test_section_names(void **state)
{
	struct made made = made_new(2, 0, 0);
	struct image image;
	Elf64_Shdr *sections;
	struct shunt_elf elf;
	const uint8_t *data;
	size_t size;
	uint32_t end;

	(void)state;
	made_symbol(&made, 1, "x.shunt", 0, 0);
	made.eh->e_shstrndx = MADE_STRTAB;
	made.sections[MADE_SYMTAB] = (Elf64_Shdr){0};
	made.sections[MADE_STRTAB].sh_size -= MADE_NAME - strlen("x.shunt");
	made.sections[MADE_RELA] = (Elf64_Shdr){0};
	end = (uint32_t)made.sections[MADE_STRTAB].sh_size;
	made.sections[MADE_TEXT].sh_name = end - (uint32_t)strlen(".shunt");
	made.sections[MADE_TEXT].sh_offset = 0;
	made.sections[MADE_TEXT].sh_size = 1;
	image = image_new(made.bytes, made.sections[MADE_STRTAB].sh_offset + end);
	sections = (Elf64_Shdr *)(void *)(image.bytes + sizeof(Elf64_Ehdr));
	assert_int_equal(shunt_elf_open(&elf, image.bytes, image.size), 0);
	assert_int_equal(shunt_elf_section(&elf, ".shunt", &data, &size), -ENOENT);
	assert_int_equal(shunt_elf_section(&elf, ".shunt_sites", &data, &size), -ENOENT);
	for (uint32_t name = end - 1; name; name *= 2) {
		sections[MADE_TEXT].sh_name = name;
		assert_int_equal(shunt_elf_section(&elf, "t", &data, &size), -ENOENT);
	}
	/* Whole, it is found. */
	image.bytes[made.sections[MADE_STRTAB].sh_offset + end - 1] = '\0';
	sections[MADE_TEXT].sh_name = end - (uint32_t)strlen(".shunt");
	assert_int_equal(shunt_elf_section(&elf, ".shun", &data, &size), 0);
	assert_ptr_equal(data, image.bytes);
	image_free(&image);
	free(made.bytes);
}

/* ---- slots ---- */

/* A file that is all one segment, whose dynamic relocations are @relas. */
struct with_slots {
	Elf64_Ehdr eh;
	Elf64_Phdr segments[2];
	Elf64_Dyn dynamic[8];
	Elf64_Sym symbols[3];
	char strings[32];
	Elf64_Rela relas[4], jmprel[2];
};

#define OFFSET(field) offsetof(struct with_slots, field)

static struct with_slots new_with_slots(void)
{
	struct with_slots file = {
		.eh = {.e_type = ET_DYN,
		       .e_machine = EM_X86_64,
		       .e_phoff = OFFSET(segments),
		       .e_phnum = 2,
		       .e_phentsize = sizeof(Elf64_Phdr)},
		.segments = {{.p_type = PT_LOAD, .p_filesz = sizeof(file), .p_memsz = sizeof(file)},
			     {.p_type = PT_DYNAMIC,
			      .p_offset = OFFSET(dynamic),
			      .p_filesz = sizeof(file.dynamic)}},
		.dynamic = {{DT_SYMTAB, {OFFSET(symbols)}},
			    {DT_STRTAB, {OFFSET(strings)}},
			    {DT_STRSZ, {sizeof(file.strings)}},
			    {DT_RELA, {OFFSET(relas)}},
			    {DT_RELASZ, {sizeof(file.relas)}},
			    {DT_JMPREL, {OFFSET(jmprel)}},
			    {DT_PLTRELSZ, {sizeof(file.jmprel)}}},
		.symbols = {{0}, {.st_name = 1}, {.st_name = 10}},
		.strings = "\0__SCT__a\0other",
		.relas = {{0x100, ELF64_R_INFO(1, R_X86_64_64), 0},
			  {0x200, ELF64_R_INFO(1, R_X86_64_GLOB_DAT), 0},
			  {0x300, ELF64_R_INFO(2, R_X86_64_GLOB_DAT), 0},
			  {0x400, ELF64_R_INFO(1, R_X86_64_COPY), 0}},
		.jmprel = {{0x500, ELF64_R_INFO(1, R_X86_64_JUMP_SLOT), 0},
			   {0x600, ELF64_R_INFO(1, R_X86_64_IRELATIVE), 0}},
	};

	memcpy(file.eh.e_ident, "\177ELF\2\1\1", 7);
	return file;
}

static int add_up(void *arg, uint64_t slot, const struct shunt_elf_sym *sym)
{
	uint64_t *sum = arg;

	assert_string_equal(sym->name, "__SCT__a");
	*sum += slot;
	return 0;
}

/* A pointer to a trampoline in data, or a copy of one, is no slot that calls go through. */
static void test_slot_types(void **state)
{
	struct with_slots file = new_with_slots();
	struct shunt_elf elf;
	uint64_t sum = 0;

	(void)state;
	assert_int_equal(shunt_elf_open(&elf, &file, sizeof(file)), 0);
	assert_int_equal(shunt_elf_for_each_slot(&elf, PREFIX, add_up, &sum), 0);
	assert_int_equal(sum, 0x700);
	/* A relocation that is not ours may name a symbol that is not there. */
	file.relas[0].r_info = ELF64_R_INFO(1000000, R_X86_64_64);
	assert_int_equal(shunt_elf_for_each_slot(&elf, PREFIX, add_up, &sum), 0);
	file.relas[0].r_info = ELF64_R_INFO(1000000, R_X86_64_GLOB_DAT);
	assert_int_equal(shunt_elf_for_each_slot(&elf, PREFIX, add_up, &sum), -EINVAL);
}

/* ---- functions ---- */

static uint64_t random_state = 0x9e3779b97f4a7c15;

static uint64_t random_below(uint64_t limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state % limit;
}

/* The index against the linear search, over functions that nest and overlap. */
static void test_function_index(void **state)
{
	(void)state;
	for (int round = 0; round < 500; round++) {
		size_t n = 1 + random_below(24);
		struct made made = made_new(n, 0, 8);
		struct shunt_elf_func_index index;
		struct shunt_elf elf;

		for (size_t i = 1; i < n; i++) {
			char name[MADE_NAME];

			snprintf(name, sizeof(name), "f%u", (unsigned)i);
			made_symbol(&made, i, name, random_below(60), random_below(30));
		}
		if (n > 2) {
			made.symbols[1].st_size = UINT64_MAX - random_below(2);
			made.symbols[2].st_value = UINT64_MAX - random_below(3);
		}
		assert_int_equal(shunt_elf_open(&elf, made.bytes, made.size), 0);
		assert_int_equal(shunt_elf_func_index_build(&index, &elf), 0);
		for (uint64_t v = UINT64_MAX - 9; v != 100; v++) {
			uint64_t s1 = 0;
			uint64_t s2 = 0;

			assert_ptr_equal(shunt_elf_function_at(&elf, v, &s1),
					 shunt_elf_func_index_at(&index, v, &s2));
			assert_int_equal(s1, s2);
		}
		shunt_elf_func_index_free(&index);
		free(made.bytes);
	}
}

/* ---- damage ---- */

/* Read all that can be read at what the reader hands out. */
static int touch_reference(void *arg, const struct shunt_elf_ref *ref,
			   const struct shunt_elf_sym *sym)
{
	size_t *sum = arg;

	*sum += strlen(sym->name) + shunt_elf_name_len(sym->name);
	if (ref->bytes != NULL) {
		*sum += ref->bytes[0];
		*sum += ref->bytes[ref->after - 1];
		*sum += *(ref->bytes - ref->before);
	}
	return 0;
}

static int touch_symbol(void *arg, const struct shunt_elf_sym *sym)
{
	size_t *sum = arg;

	*sum += strlen(sym->name);
	return 0;
}

static int touch_slot(void *arg, uint64_t slot, const struct shunt_elf_sym *sym)
{
	size_t *sum = arg;

	*sum += strlen(sym->name) + (size_t)slot;
	return 0;
}

static size_t touch_everything(const uint8_t *bytes, size_t size)
{
	struct shunt_elf_func_index index;
	struct shunt_elf elf;
	const uint8_t *id;
	const char *name;
	uint64_t value;
	size_t sum = 0;
	size_t len;
	int ret = shunt_elf_open(&elf, bytes, size);

	if (ret != 0) {
		assert_true(ret == -ENOEXEC || ret == -EINVAL);
		return 0;
	}
	if (shunt_elf_build_id(&elf, &id, &len) == 0) {
		sum += id[0];
		sum += id[len - 1];
	}
	ret = shunt_elf_for_each_ref(&elf, PREFIX, touch_reference, &sum);
	assert_true(ret == 0 || ret == -EINVAL || ret == -ENODATA);
	assert_true((ret == -ENODATA) == (shunt_elf_lack(&elf) != SHUNT_ELF_LACKS_NOTHING));
	ret = shunt_elf_for_each_sym(&elf, "", touch_symbol, &sum);
	assert_true(ret == 0 || ret == -ENODATA);
	ret = shunt_elf_for_each_slot(&elf, "", touch_slot, &sum);
	assert_true(ret == 0 || ret == -EINVAL || ret == -ENODATA);
	if (shunt_elf_symbol_value(&elf, "elf_plain", &value) == 0) {
		name = shunt_elf_function_at(&elf, value, NULL);
		sum += name != NULL ? strlen(name) : 0;
	}
	if (random_below(8) == 0) {
		assert_int_equal(shunt_elf_func_index_build(&index, &elf), 0);
		for (size_t i = 0; i < index.count; i++) {
			name = shunt_elf_func_index_at(&index, index.spans[i].begin, NULL);
			sum += name != NULL ? strlen(name) : 0;
		}
		shunt_elf_func_index_free(&index);
	}
	return sum;
}

/* The parts of a file that the reader believes something in. */
struct part {
	size_t offset;
	size_t size;
};

#define PARTS 64

static size_t parts_of(const struct image *image, struct part parts[PARTS])
{
	size_t count = 0;
	Elf64_Ehdr eh;

	memcpy(&eh, image->bytes, sizeof(eh));
	parts[count++] = (struct part){0, sizeof(eh)};
	parts[count++] = (struct part){eh.e_phoff, eh.e_phnum * sizeof(Elf64_Phdr)};
	parts[count++] = (struct part){eh.e_shoff, eh.e_shnum * sizeof(Elf64_Shdr)};
	for (size_t i = 0; i < eh.e_shnum && count < PARTS; i++) {
		Elf64_Shdr sh;

		memcpy(&sh, image->bytes + eh.e_shoff + i * sizeof(sh), sizeof(sh));
		if (sh.sh_size != 0 && (sh.sh_type == SHT_SYMTAB || sh.sh_type == SHT_DYNSYM ||
					sh.sh_type == SHT_STRTAB || sh.sh_type == SHT_RELA ||
					sh.sh_type == SHT_DYNAMIC || sh.sh_type == SHT_NOTE)) {
			parts[count++] = (struct part){sh.sh_offset, sh.sh_size};
		}
	}
	return count;
}

/* A value that a reader may trip over. */
static uint64_t nasty(size_t size)
{
	switch (random_below(6)) {
	case 0:
		return 0;
	case 1:
		return UINT64_MAX - random_below(64);
	case 2:
		return size - random_below(64);
	case 3:
		return size + random_below(64);
	case 4:
		return UINT64_C(1) << random_below(64);
	default:
		return random_below(UINT64_MAX);
	}
}

/* (A file ends at a page that is not there: AddressSanitizer sees little more, and takes long.) */
#ifdef __SANITIZE_ADDRESS__
#define MUTATIONS 4000
#else
#define MUTATIONS 20000
#endif

static long mutations(size_t size)
{
	const char *text = getenv("SHUNT_ELF_MUTATIONS");

	if (text != NULL) {
		return atol(text);
	}
	return size > 200000 ? 500 : MUTATIONS;
}

/* Damage up to four fields at once, look, and put them back. */
static void check_mutations(const struct fixture *fixture, struct image *image)
{
	struct part parts[PARTS];
	size_t nparts = parts_of(image, parts);

	(void)fixture;
	for (long i = mutations(image->size); i > 0; i--) {
		size_t nfields = 1 + random_below(4);
		uint8_t saved[4][8];
		size_t at[4];
		size_t len[4];

		for (size_t j = 0; j < nfields; j++) {
			/* Half of all damage goes to the three tables of headers. */
			const struct part *part =
				&parts[random_below(random_below(2) == 0 ? 3 : nparts)];
			uint64_t value = nasty(image->size);

			len[j] = (size_t)1 << random_below(4);
			at[j] = part->offset + random_below(part->size);
			at[j] &= ~(len[j] - 1);
			memcpy(saved[j], image->bytes + at[j], len[j]);
			memcpy(image->bytes + at[j], &value, len[j]);
		}
		touch_everything(image->bytes, image->size);
		for (size_t j = nfields; j-- > 0;) {
			memcpy(image->bytes + at[j], saved[j], len[j]);
		}
	}
}

static void test_mutations(void **state)
{
	(void)state;
	for_each_fixture(check_mutations);
}

static void check_truncations(const struct fixture *fixture, struct image *image)
{
	size_t stride = image->size > 200000 ? 8191 : 37;
	struct image cut = image_new(image->bytes, image->size);

	(void)fixture;
	for (size_t size = 0; size <= image->size; size += stride) {
		uint8_t *start = cut.bytes + cut.size - size;

		memcpy(start, image->bytes, size);
		touch_everything(start, size);
	}
	image_free(&cut);
}

static void test_truncations(void **state)
{
	(void)state;
	for_each_fixture(check_truncations);
}

/* ---- speed ---- */

static double now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

/* 100,000 sites of 1,000 trampolines among 1,000,000 relocations. */
static void scan_large(size_t nsymbols)
{
	struct made made = made_new(nsymbols, 1000000, 8000000);
	struct shunt_elf_func_index index;
	struct shunt_elf elf;
	double best = 1e9;
	double start;

	for (size_t i = 1; i < nsymbols; i++) {
		char name[MADE_NAME];

		snprintf(name, sizeof(name), i % (nsymbols / 1000) == 1 ? "__SCT__%zu" : "fun_%zu",
			 i);
		made_symbol(&made, i, name, MADE_BASE + 8 * i, 8);
	}
	for (size_t i = 0; i < made.nrelas; i++) {
		size_t site = 1 + random_below(1000) * (nsymbols / 1000);
		size_t other = 2 + random_below(1000) * (nsymbols / 1000);

		made_rela(&made, i, i % 10 == 0 ? site : other, 8 * i);
	}
	assert_int_equal(shunt_elf_open(&elf, made.bytes, made.size), 0);
	for (int round = 0; round < 5; round++) {
		size_t count = 0;
		double ms;

		start = now_ms();
		assert_int_equal(shunt_elf_for_each_ref(&elf, PREFIX, count_only, &count), 0);
		ms = now_ms() - start;
		assert_int_equal(count, 100000);
		best = ms < best ? ms : best;
	}
	start = now_ms();
	assert_int_equal(shunt_elf_func_index_build(&index, &elf), 0);
	print_message("1000000 relocations, 100000 references, %zu symbols: %.2f ms; "
		      "function index: %.2f ms\n",
		      nsymbols, best, now_ms() - start);
	shunt_elf_func_index_free(&index);
	free(made.bytes);
}

static void test_speed(void **state)
{
	(void)state;
	scan_large(10000);
	scan_large(200000);
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
