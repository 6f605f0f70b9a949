/* SPDX-License-Identifier: MIT */
/* What the dynamic linker knows of a module: where it is, and of which file. */
#include <link.h>
#include <string.h>

#include "linux/linux.h"

static bool has_address(const struct dl_phdr_info *info, uintptr_t addr)
{
	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];

		if (ph->p_type == PT_LOAD && addr - info->dlpi_addr - ph->p_vaddr < ph->p_memsz)
			return true;
	}
	return false;
}

static struct shunt_range range_of(const struct dl_phdr_info *info)
{
	struct shunt_range range = {UINTPTR_MAX, 0};

	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
		uintptr_t start = info->dlpi_addr + ph->p_vaddr;

		if (ph->p_type != PT_LOAD)
			continue;
		if (start < range.start)
			range.start = start;
		if (start + ph->p_memsz > range.end)
			range.end = start + ph->p_memsz;
	}
	return range;
}

static int match(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct shunt_image *image = arg;
	bool named = info->dlpi_name && *info->dlpi_name;
	const char *path = named ? info->dlpi_name : "/proc/self/exe";

	(void)size;
	if (!has_address(info, image->inside) || strlen(path) >= sizeof(image->path))
		return 0;
	image->bias = info->dlpi_addr;
	image->range = range_of(info);
	image->headers = info->dlpi_phdr;
	image->nr_headers = info->dlpi_phnum;
	image->is_program = !named;
	strcpy(image->path, path);
	return 1;
}

bool shunt_image_find(struct shunt_image *image)
{
	return dl_iterate_phdr(match, image);
}

bool shunt_segment_has(const struct shunt_segments *segments, uint32_t flags, uintptr_t addr,
		       size_t len)
{
	const ElfW(Phdr) *headers = segments->headers;

	for (size_t i = 0; i < segments->n; i++) {
		uintptr_t off = addr - segments->bias - headers[i].p_vaddr;

		if (headers[i].p_type == PT_LOAD && (headers[i].p_flags & flags) == flags &&
		    off < headers[i].p_memsz && len <= headers[i].p_memsz - off)
			return true;
	}
	return false;
}

bool shunt_image_has_text(const struct shunt_image *image, uintptr_t addr, size_t len)
{
	const struct shunt_segments segments = {image->headers, image->nr_headers, image->bias};

	return shunt_segment_has(&segments, PF_X, addr, len);
}
