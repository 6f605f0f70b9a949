/* SPDX-License-Identifier: MIT */
/*
 * Reads an ELF file that our own build has made (image.h); a broken one is not expected.
 */
#include "image.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static bool map(struct image *image, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *base = MAP_FAILED;

	if (fd < 0)
		return false;
	if (!fstat(fd, &st) && st.st_size > (off_t)sizeof(Elf64_Ehdr))
		base = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	(void)close(fd);
	if (base == MAP_FAILED)
		return false;
	image->base = base;
	image->size = (size_t)st.st_size;
	return true;
}

bool image_open(struct image *image, const char *path)
{
	const Elf64_Ehdr *eh;

	memset(image, 0, sizeof(*image));
	if (!map(image, path))
		return false;
	eh = (const void *)image->base;
	if (memcmp(eh->e_ident, ELFMAG, SELFMAG) != 0)
		return false;
	image->sections = (const void *)(image->base + eh->e_shoff);
	image->nr_sections = eh->e_shnum;
	image->section_names = image->base + image->sections[eh->e_shstrndx].sh_offset;
	for (size_t i = 0; i < image->nr_sections; i++) {
		const Elf64_Shdr *sh = &image->sections[i];

		if (sh->sh_type != SHT_SYMTAB)
			continue;
		image->symbols = (const void *)(image->base + sh->sh_offset);
		image->nr_symbols = sh->sh_size / sizeof(Elf64_Sym);
		image->names = image->base + image->sections[sh->sh_link].sh_offset;
	}
	return image->nr_symbols != 0;
}

const char *image_name(const struct image *image, const Elf64_Sym *sym)
{
	return image->names + sym->st_name;
}

static const Elf64_Shdr *section_of(const struct image *image, uint64_t addr)
{
	for (size_t i = 0; i < image->nr_sections; i++) {
		const Elf64_Shdr *sh = &image->sections[i];

		if ((sh->sh_flags & SHF_ALLOC) && !(sh->sh_flags & SHF_TLS) &&
		    addr - sh->sh_addr < sh->sh_size)
			return sh;
	}
	return NULL;
}

const void *image_at(const struct image *image, uint64_t addr, size_t len)
{
	const Elf64_Shdr *sh = section_of(image, addr);

	if (!sh || sh->sh_type == SHT_NOBITS || addr - sh->sh_addr + len > sh->sh_size)
		return NULL;
	return image->base + sh->sh_offset + (addr - sh->sh_addr);
}

const char *image_section(const struct image *image, uint64_t addr)
{
	const Elf64_Shdr *sh = section_of(image, addr);

	return sh ? image->section_names + sh->sh_name : "";
}

const Elf64_Sym *image_symbol(const struct image *image, uint64_t addr, unsigned type)
{
	for (size_t i = 0; i < image->nr_symbols; i++) {
		const Elf64_Sym *sym = &image->symbols[i];

		if (ELF64_ST_TYPE(sym->st_info) == type && sym->st_shndx != SHN_UNDEF &&
		    addr - sym->st_value < sym->st_size)
			return sym;
	}
	return NULL;
}

const Elf64_Sym *image_find(const struct image *image, const char *file, const char *name,
			    const Elf64_Sym *after)
{
	const char *in = "";

	for (size_t i = 0; i < image->nr_symbols; i++) {
		const Elf64_Sym *sym = &image->symbols[i];

		/* Local symbols follow the name of their file. */
		if (ELF64_ST_TYPE(sym->st_info) == STT_FILE)
			in = image_name(image, sym);
		if ((after && sym <= after) || sym->st_shndx == SHN_UNDEF || !sym->st_size)
			continue;
		if (strcmp(image_name(image, sym), name) != 0)
			continue;
		if (!file || (ELF64_ST_BIND(sym->st_info) == STB_LOCAL && strstr(in, file)))
			return sym;
	}
	return NULL;
}

const char *image_import(const struct image *image, uint64_t slot)
{
	for (size_t i = 0; i < image->nr_sections; i++) {
		const Elf64_Shdr *sh = &image->sections[i], *dynsym, *names;
		const Elf64_Rela *rela = (const void *)(image->base + sh->sh_offset);

		if (sh->sh_type != SHT_RELA || !(sh->sh_flags & SHF_ALLOC) || !sh->sh_link)
			continue;
		dynsym = &image->sections[sh->sh_link];
		names = &image->sections[dynsym->sh_link];
		for (size_t k = 0; k < sh->sh_size / sizeof(*rela); k++) {
			const Elf64_Sym *sym = (const void *)(image->base + dynsym->sh_offset);

			if (rela[k].r_offset == slot && ELF64_R_SYM(rela[k].r_info))
				return image->base + names->sh_offset +
				       sym[ELF64_R_SYM(rela[k].r_info)].st_name;
		}
	}
	return NULL;
}
