/* SPDX-License-Identifier: MIT */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "linux/elf/elf.h"

#include "elf_images.h"

const char *fixture_dir;

/* ---- images ---- */

struct image image_new(const void *bytes, size_t size)
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

void image_free(struct image *image)
{
	munmap(image->map, image->map_size);
}

struct image image_read(const char *path)
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

/* Call @fn for each line of the manifest. */
void for_each_fixture(void (*fn)(const struct fixture *fixture, struct image *image))
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

enum shunt_elf_lack expected_lack(const struct fixture *fixture)
{
	if (strcmp(fixture->lack, "symbols") == 0) {
		return SHUNT_ELF_LACKS_SYMBOLS;
	}
	if (strcmp(fixture->lack, "relocations") == 0) {
		return SHUNT_ELF_LACKS_RELOCATIONS;
	}
	return SHUNT_ELF_LACKS_NOTHING;
}

/* ---- made images ---- */

static Elf64_Shdr made_section(const struct made *made, uint32_t type, const void *start,
			       size_t size, size_t entry)
{
	return (Elf64_Shdr){.sh_type = type,
			    .sh_offset = (Elf64_Off)((const uint8_t *)start - made->bytes),
			    .sh_size = size,
			    .sh_entsize = entry};
}

struct made made_new(size_t nsymbols, size_t nrelas, size_t text)
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

void made_symbol(struct made *made, size_t i, const char *name, uint64_t value, uint64_t size)
{
	snprintf(made->strings + i * MADE_NAME, MADE_NAME, "%s", name);
	made->symbols[i] = (Elf64_Sym){.st_name = (Elf64_Word)(i * MADE_NAME),
				       .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC),
				       .st_shndx = MADE_TEXT,
				       .st_value = value,
				       .st_size = size};
}

void made_rela(struct made *made, size_t i, size_t symbol, uint64_t at)
{
	made->relas[i] = (Elf64_Rela){.r_offset = MADE_BASE + at,
				      .r_info = ELF64_R_INFO(symbol, R_X86_64_PLT32),
				      .r_addend = -4};
}

struct made made_small(void)
{
	struct made made = made_new(3, 4, 64);

	made_symbol(&made, 1, "__SCT__a", MADE_BASE, 8);
	made_symbol(&made, 2, "printf", MADE_BASE + 8, 8);
	for (size_t i = 0; i < 4; i++) {
		made_rela(&made, i, 1 + i % 2, 16 + 8 * i);
	}
	return made;
}

/* ---- what tests share ---- */

static uint64_t random_state = 0x9e3779b97f4a7c15;

uint64_t random_below(uint64_t limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state % limit;
}

int stop_at_third(void *arg, const struct shunt_elf_ref *ref, const struct shunt_elf_sym *sym)
{
	int *count = arg;

	(void)ref;
	(void)sym;
	return ++*count == 3 ? 42 : 0;
}

int count_only(void *arg, const struct shunt_elf_ref *ref, const struct shunt_elf_sym *sym)
{
	size_t *count = arg;

	(void)ref;
	(void)sym;
	++*count;
	return 0;
}
