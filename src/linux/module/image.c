/* SPDX-License-Identifier: MIT */
/*
 * What the dynamic linker knows of a module: where it is, and of which file.
 *
 * Asked of _dl_find_object() where the C library has it (glibc 2.35): it takes no lock,
 * and programs that have a dl_iterate_phdr() of their own, which may answer from a list
 * that is out of date, do not have one of it. Locks of the dynamic linker's are not for updates:
 * it holds them while constructors run, which may wait for the thread that updates.
 */
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "linux/base/base.h"
#include "linux/base/dl_list.h"
#include "linux/base/format.h"
#include "linux/base/libc.h"
#include "linux/base/registry.h"
#include "linux/elf/elf.h"
#include "linux/module/image.h"

#define PROGRAM "/proc/self/exe"

static bool has_address(const ElfW(Phdr) * headers, size_t n, uintptr_t bias, uintptr_t addr)
{
	for (size_t i = 0; i < n; i++)
		if (headers[i].p_type == PT_LOAD &&
		    addr - bias - headers[i].p_vaddr < headers[i].p_memsz)
			return true;
	return false;
}

static struct shunt_range range_of(const ElfW(Phdr) * headers, size_t n, uintptr_t bias)
{
	struct shunt_range range = {UINTPTR_MAX, 0};

	for (size_t i = 0; i < n; i++) {
		uintptr_t start = bias + headers[i].p_vaddr;

		if (headers[i].p_type != PT_LOAD)
			continue;
		if (start < range.start)
			range.start = start;
		if (start + headers[i].p_memsz > range.end)
			range.end = start + headers[i].p_memsz;
	}
	return range;
}

/* The name, from the root: the program may be somewhere else when it is used. */
bool shunt_absolute_path(char *to, size_t size, const char *name)
{
	const char *below = !strncmp(name, "./", 2) ? name + 2 : name;
	size_t len = 0;

	if (name[0] != '/' && getcwd(to, size) && strlen(to) + 1 + strlen(below) < size) {
		len = strlen(to);
		to[len++] = '/';
		name = below;
	}
	shunt_format(to + len, size - len, "%s", name);
	return to[0] == '/';
}

static void fill(struct shunt_image *image, const char *name, uintptr_t bias,
		 const ElfW(Phdr) * headers, size_t n)
{
	bool named = name && *name;

	image->bias = bias;
	image->range = range_of(headers, n, bias);
	image->headers = headers;
	image->nr_headers = n;
	image->is_program = !named;
	if (named && image->as_linked)
		shunt_format(image->path, sizeof(image->path), "%s", name);
	else
		(void)shunt_absolute_path(image->path, sizeof(image->path), named ? name : PROGRAM);
}

static int match(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct shunt_image *image = arg;

	(void)size;
	if (!has_address(info->dlpi_phdr, info->dlpi_phnum, info->dlpi_addr, image->inside))
		return 0;
	fill(image, info->dlpi_name, info->dlpi_addr, info->dlpi_phdr, info->dlpi_phnum);
	return 1;
}

#ifdef DLFO_STRUCT_HAS_EH_DBASE

/* Whether the program headers are in the first page, behind the ELF header, as linkers put them. */
static bool are_in_first_page(const ElfW(Ehdr) * elf)
{
	return !memcmp(elf->e_ident, ELFMAG, SELFMAG) && elf->e_phentsize == sizeof(ElfW(Phdr)) &&
	       !(elf->e_phoff % sizeof(elf->e_phoff)) && elf->e_phoff <= 4096 &&
	       elf->e_phoff + elf->e_phnum * sizeof(ElfW(Phdr)) <= 4096;
}

/* Those of the module that is mapped from @start on, if they are there, and for that place. */
static const ElfW(Phdr) * headers_at(uintptr_t start, uintptr_t bias, size_t *n)
{
	const ElfW(Ehdr) *elf = (const ElfW(Ehdr) *)start;
	const ElfW(Phdr) * headers;

	if (!are_in_first_page(elf))
		return NULL;
	headers = (const ElfW(Phdr) *)(start + elf->e_phoff);
	*n = elf->e_phnum;
	return (range_of(headers, *n, bias).start & -(uintptr_t)4096) == start ? headers : NULL;
}

static bool find_object(struct shunt_image *image)
{
	struct dl_find_object found;
	const ElfW(Phdr) * headers;
	const struct link_map *map;
	size_t n;

	if (!_dl_find_object || _dl_find_object((void *)image->inside, &found) ||
	    !(map = found.dlfo_link_map))
		return false;
	headers = headers_at((uintptr_t)found.dlfo_map_start, map->l_addr, &n);
	if (!headers || !has_address(headers, n, map->l_addr, image->inside))
		return false;
	fill(image, map->l_name, map->l_addr, headers, n);
	return true;
}

#define HEADERS 24 /* at most, of a module that is copied */

/* @image as _dl_find_object() has it, its headers in @headers; no lock, and no fault. */
static bool copy_object(struct shunt_image *image, ElfW(Phdr) * headers)
{
	struct dl_find_object found, still;
	struct link_map map = {0};
	ElfW(Ehdr) elf = {0};
	char name[4096] = "";

	if (!_dl_find_object || _dl_find_object((void *)image->inside, &found) ||
	    !found.dlfo_link_map || !shunt_peek(&map, found.dlfo_link_map, sizeof(map)) ||
	    (map.l_name && !shunt_peek_string(name, sizeof(name), map.l_name)) ||
	    !shunt_peek(&elf, found.dlfo_map_start, sizeof(elf)) || !are_in_first_page(&elf) ||
	    elf.e_phnum > HEADERS ||
	    !shunt_peek(headers, (const char *)found.dlfo_map_start + elf.e_phoff,
			elf.e_phnum * sizeof(*headers)))
		return false;
	if (_dl_find_object((void *)image->inside, &still) ||
	    still.dlfo_link_map != found.dlfo_link_map ||
	    still.dlfo_map_start != found.dlfo_map_start)
		return false;
	if (!has_address(headers, elf.e_phnum, map.l_addr, image->inside))
		return false;
	fill(image, name, map.l_addr, headers, elf.e_phnum);
	return (image->range.start & -(uintptr_t)4096) == (uintptr_t)found.dlfo_map_start;
}

/* Whether the module that was looked at is still the one that is there. */
static bool is_still_there(const struct shunt_image *image)
{
	struct dl_find_object found;
	struct link_map map = {0};

	return !_dl_find_object((void *)image->inside, &found) && found.dlfo_link_map &&
	       (uintptr_t)found.dlfo_map_start == (image->range.start & -(uintptr_t)4096) &&
	       shunt_peek(&map, found.dlfo_link_map, sizeof(map)) && map.l_addr == image->bias;
}
#else
#define HEADERS 1

static bool find_object(struct shunt_image *image)
{
	(void)image;
	return false;
}

static bool copy_object(struct shunt_image *image, ElfW(Phdr) * headers)
{
	(void)image;
	(void)headers;
	return false;
}

static bool is_still_there(const struct shunt_image *image)
{
	(void)image;
	return false;
}
#endif

bool shunt_image_find(struct shunt_image *image)
{
	return find_object(image) || shunt_dl_iterate(match, image);
}

struct hold {
	struct shunt_image *image;
	void (*look)(const struct shunt_image *image, void *arg);
	void *arg;
	bool called, found;
};

static void look_at(struct hold *h)
{
	h->found = true;
	if (h->look)
		h->look(h->image, h->arg);
}

/* The first call asks for the module itself: the list may be out of date, the lock is not. */
static int while_held(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct hold *h = arg;
	bool first = !h->called;

	h->called = true;
	if (!(first && find_object(h->image)) && !match(info, size, h->image))
		return 0;
	look_at(h);
	return 1;
}

bool shunt_image_hold(struct shunt_image *image,
		      void (*look)(const struct shunt_image *image, void *arg), void *arg)
{
	struct hold h = {.image = image, .look = look, .arg = arg};

	image->is_copy = false;
	(void)shunt_dl_iterate(while_held, &h);
	/* A program's own dl_iterate_phdr(), with an empty list. */
	if (!h.called && find_object(image))
		look_at(&h);
	image->headers = NULL;
	image->nr_headers = 0;
	return h.found;
}

bool shunt_image_look(struct shunt_image *image,
		      void (*look)(const struct shunt_image *image, void *arg), void *arg)
{
	ElfW(Phdr) headers[HEADERS];
	bool there;

	if (!copy_object(image, headers))
		return shunt_image_hold(image, look, arg);
	image->is_copy = true;
	if (look)
		look(image, arg);
	there = is_still_there(image);
	image->headers = NULL;
	image->nr_headers = 0;
	return there;
}

bool shunt_image_read(const struct shunt_image *image, void *to, const void *from, size_t len)
{
	if (image->is_copy)
		return shunt_peek(to, from, len);
	shunt_copy_text(to, from, len);
	return true;
}

/* --------------------------------------------------------------------- pinning */

#pragma weak dlopen
#pragma weak dlinfo

/* What the dynamic linker calls a module, and in which namespace. */
struct linked {
	bool is_known;
	Lmid_t namespace;
	char name[4096];
};

static void look_up_name(const struct shunt_image *image, void *arg)
{
	struct linked *linked = arg;
	struct dl_find_object found;
	const char *name;

	if (!_dl_find_object || !dlinfo || _dl_find_object((void *)image->inside, &found) ||
	    !found.dlfo_link_map || dlinfo(found.dlfo_link_map, RTLD_DI_LMID, &linked->namespace))
		return;
	name = found.dlfo_link_map->l_name;
	linked->is_known = strlen(name) < sizeof(linked->name);
	if (linked->is_known)
		strcpy(linked->name, name);
}

/*
 * It cannot tell us that it goes: keep it. In its own namespace, if we know which. This waits for
 * the dynamic linker.
 */
int shunt_image_pin(struct shunt_image *image)
{
	const int flags = RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE;
	struct linked linked = {.is_known = false};
	void *handle = NULL;

	(void)shunt_image_hold(image, look_up_name, &linked);
	if (shunt_dl_may_be_locked())
		handle = NULL;
	else if (linked.is_known && dlmopen)
		handle = dlmopen(linked.namespace, linked.name, flags);
	else if (dlopen)
		handle = dlopen(image->path, flags);
	if (handle)
		return 0;
	shunt_failed_call = "dlopen(RTLD_NODELETE)";
	return -EAGAIN;
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
	const struct shunt_segments segments = shunt_image_segments(image);

	return shunt_segment_has(&segments, PF_X, addr, len);
}

bool shunt_image_segment(const struct shunt_image *image, uintptr_t addr,
			 struct shunt_range *segment)
{
	const ElfW(Phdr) *headers = image->headers;

	for (size_t i = 0; i < image->nr_headers; i++) {
		uintptr_t start = image->bias + headers[i].p_vaddr;

		if (headers[i].p_type != PT_LOAD || !(headers[i].p_flags & PF_R) ||
		    addr - start >= headers[i].p_filesz)
			continue;
		*segment = (struct shunt_range){start, start + headers[i].p_filesz};
		return true;
	}
	return false;
}

/*
 * Whether @elf is the file that is mapped: by build-id, or, where there is none,
 * by its program headers. (Each site is compared with memory besides.)
 */
bool shunt_is_mapped_file(const struct shunt_elf *elf, const struct shunt_image *image)
{
	const uint8_t *file_id, *id;
	size_t file_len, len;
	int in_file = shunt_elf_build_id(elf, &file_id, &file_len);
	int in_memory = shunt_elf_loaded_build_id(image->headers, image->nr_headers, image->bias,
						  &id, &len);

	if (!in_file && !in_memory)
		return len == file_len && !memcmp(id, file_id, len);
	return in_file && in_memory && elf->segments.count == image->nr_headers &&
	       !memcmp(elf->segments.data, image->headers, image->nr_headers * sizeof(ElfW(Phdr)));
}
