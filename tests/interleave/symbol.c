/* SPDX-License-Identifier: MIT */
/*
 * Reads .symtab of /proc/self/exe (symbol.h).
 */
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "symbol.h"

static int first_module(struct dl_phdr_info *info, size_t size, void *bias)
{
	(void)size;
	*(uintptr_t *)bias = info->dlpi_addr;
	return 1;
}

static const void *find(const char *image, const char *name, size_t size)
{
	const Elf64_Ehdr *eh = (const void *)image;
	const Elf64_Shdr *sh = (const void *)(image + eh->e_shoff), *table = NULL;
	const Elf64_Sym *found = NULL, *sym;
	uintptr_t bias = 0;

	for (size_t i = 0; i < eh->e_shnum; i++)
		if (sh[i].sh_type == SHT_SYMTAB)
			table = &sh[i];
	if (!table)
		return NULL;
	sym = (const void *)(image + table->sh_offset);
	for (size_t i = 0; i < table->sh_size / sizeof(*sym); i++) {
		if (ELF64_ST_TYPE(sym[i].st_info) != STT_OBJECT || sym[i].st_size != size ||
		    strcmp(image + sh[table->sh_link].sh_offset + sym[i].st_name, name) != 0)
			continue;
		if (found)
			return NULL;
		found = &sym[i];
	}
	(void)dl_iterate_phdr(first_module, &bias);
	return found ? (const void *)(bias + found->st_value) : NULL;
}

const void *il_symbol(const char *name, size_t size)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	const void *found = NULL;
	struct stat st;
	void *image;

	if (fd < 0)
		return NULL;
	if (!fstat(fd, &st)) {
		image = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (image != MAP_FAILED) {
			found = find(image, name, size);
			(void)munmap(image, (size_t)st.st_size);
		}
	}
	(void)close(fd);
	return found;
}
