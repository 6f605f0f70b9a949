/* SPDX-License-Identifier: MIT */
/* Mappings of text, as the kernel lists them, and the files that they are of (mapping.c). */
#ifndef SHUNT_LINUX_MAPPING_H
#define SHUNT_LINUX_MAPPING_H

#include "linux/linux.h"

struct shunt_mapping {
	struct shunt_range range;
	uint64_t offset; /* of range.start in the file, bytes */
	int prot;        /* PROT_* */
	int fd;          /* of the file; -1: none */
};

/*
 * The private mapping that has all of [addr, addr + len); good until
 * shunt_mappings_done(). Update lock held. Returns 0, or
 *   -EACCES  it is shared, or not readable
 *   -ESTALE  its file has been replaced or removed
 *   -EFAULT  there is none, or it ends before that
 *   or what open() and the like gave
 */
int shunt_mapping_find(uintptr_t addr, size_t len, const struct shunt_mapping **mapping);

/*
 * Keep what shunt_mapping_find() is to find of the text of @image, whose file has been seen
 * to be the one that is mapped: one descriptor, O_CLOEXEC, for each executable segment
 * of up to 32 modules. No /proc but for the program's name. Update lock held. Where that
 * is not to be had, it is looked for when it is wanted.
 */
void shunt_mappings_keep(const struct shunt_image *image);

/* Nothing that was found is looked at any more. Update lock held. */
void shunt_mappings_done(void);

/* Whether what is mapped at @addr is shared with others. Update lock held. */
bool shunt_mapping_is_shared(uintptr_t addr);

/*
 * The name of the file that is mapped at @addr, as the kernel lists it: false where there is
 * none, or its list cannot be read. Update lock not held.
 */
bool shunt_mapping_name(uintptr_t addr, char *path, size_t size);

/* What is mapped in @range has changed, or is about to. Update lock held. */
void shunt_mappings_forget(struct shunt_range range);

#endif
