/* SPDX-License-Identifier: MIT */
/* A module as the dynamic linker knows it (image.c), and its file (image_file.c). */
#ifndef SHUNT_LINUX_IMAGE_H
#define SHUNT_LINUX_IMAGE_H

#include "linux/base/base.h"
#include "linux/base/registry.h"
#include "linux/elf/elf.h"

/* The module that has address @inside, as the dynamic linker knows it. */
struct shunt_image {
	uintptr_t inside;
	uintptr_t bias;
	struct shunt_range range;
	const void *headers; /* ElfW(Phdr) */
	size_t nr_headers;
	bool is_program;
	bool is_copy; /* the headers are a copy, and the module may be going: shunt_image_read() */
	bool as_linked; /* asked for: the path as the dynamic linker has it, perhaps a relative one
			 */
	char path[4096];
};

/*
 * image.c: fill in @image for its @inside; false where no module has it. For a module that
 * stays while it is looked at: its headers are read in place. Takes no lock where the C library
 * has _dl_find_object().
 */
bool shunt_image_find(struct shunt_image *image);

/*
 * The same for a module that another thread may be unloading, and @look (or NULL) at it: with
 * a lock of the dynamic linker's held, under which nothing is unmapped. @look must take no lock.
 * image->headers is not to be had after that. Not in a signal handler, and with signals blocked
 * where a handler could jump out. Update lock not held.
 */
bool shunt_image_hold(struct shunt_image *image,
		      void (*look)(const struct shunt_image *image, void *arg), void *arg);

/*
 * The same, and no lock is taken, by copies that fail (peek.c): the module may be going away.
 * @look may be called and its result not be good: false then. Where the C library or the system
 * does not have what it takes, as shunt_image_hold().
 */
bool shunt_image_look(struct shunt_image *image,
		      void (*look)(const struct shunt_image *image, void *arg), void *arg);

/*
 * image.c: have the module at @image->inside, of file @image->path, never unmapped. 0 or -EAGAIN.
 * Waits for the dynamic linker. Update lock not held.
 */
int shunt_image_pin(struct shunt_image *image);

/* Copy @len bytes of @image's, which @look is called for; false: they are not there. */
bool shunt_image_read(const struct shunt_image *image, void *to, const void *from, size_t len);

/* The segments of a module that stays while it is looked at. */
static inline struct shunt_segments shunt_image_segments(const struct shunt_image *image)
{
	return (struct shunt_segments){image->headers, image->nr_headers, image->bias};
}

/* Whether [addr, addr + len) is executable text of the module. */
bool shunt_image_has_text(const struct shunt_image *image, uintptr_t addr, size_t len);
/* Whether a segment with all of @flags (PF_R, PF_X) has [addr, addr + len). */
bool shunt_segment_has(const struct shunt_segments *segments, uint32_t flags, uintptr_t addr,
		       size_t len);
/* The loaded segment that @addr is in, readable as far as the file goes; false: none. */
bool shunt_image_segment(const struct shunt_image *image, uintptr_t addr,
			 struct shunt_range *segment);

/* image.c: whether @elf is the file that @image was mapped from. */
bool shunt_is_mapped_file(const struct shunt_elf *elf, const struct shunt_image *image);

/*
 * image.c: a copy of @name that begins at the root; false: there is no such, because the working
 * directory has been removed, is out of reach or too deep, and it is @name itself (as far as @size
 * does).
 */
bool shunt_absolute_path(char *to, size_t size, const char *name);

/*
 * image_file.c: open the file that the module was mapped from, and see to it that it is that one:
 * image->path is its name from then on. Update lock not held. Returns 0 or an error with
 * shunt_failed_call set: -ESTALE where another file has taken its place, -ENOEXEC where that
 * is no ELF file.
 */
struct shunt_elf;
int shunt_image_open(struct shunt_image *image, struct shunt_file *file, struct shunt_elf *elf);

#endif
