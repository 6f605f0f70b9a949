/* SPDX-License-Identifier: MIT */
/* unit/elf: files made here: headers, sections, names, slots, functions. */
#include <elf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "linux/elf/elf.h"

#include "elf_images.h"
#include "test_elf.h"

static int made_scan(const struct made *made, int *count)
{
	struct shunt_elf elf;
	int ret = shunt_elf_open(&elf, made->bytes, made->size);

	*count = -100;
	return ret != 0 ? ret : shunt_elf_for_each_ref(&elf, PREFIX, stop_at_third, count);
}

void test_made_image(void **state)
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

void test_bad_headers(void **state)
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
void test_overlapping_sections(void **state)
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

void test_local_and_versioned_symbols(void **state)
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
void test_section_names(void **state)
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
void test_slot_types(void **state)
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

/* The index against the linear search, over functions that nest and overlap. */
void test_function_index(void **state)
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
