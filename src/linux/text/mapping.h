/* SPDX-License-Identifier: MIT */
/* Mappings of text, as the kernel lists them, and the files that they are of (mapping.c). */
#ifndef SHUNT_LINUX_MAPPING_H
#define SHUNT_LINUX_MAPPING_H

#include "linux/base/base.h"
#include "linux/base/registry.h"

struct shunt_mapping {
	struct shunt_range range;
	uint64_t offset;   /* of range.start in the file, bytes */
	int prot;          /* PROT_* */
	int fd;            /* of the file; -1: none */
	bool is_module;    /* executable text of a module that has registered */
	int64_t fd_offset; /* of the descriptor (descriptor.h) */
	uint64_t ino;      /* of the file, as the kernel lists it; 0: not known */
	unsigned major, minor;
	bool others_write; /* it has been seen writable */
};

/*
 * The private mapping that has all of [addr, addr + len); good until
 * shunt_mappings_done(). Update lock held. Returns 0, or
 *   -EACCES  it is shared, or not readable
 *   -ESTALE  its file has been replaced or removed
 *   -EFAULT  there is none, or it ends before that and what follows cannot be read
 *   -EOPNOTSUPP  it is of no file and no module, others write to it, or it ends before that
 *                and another mapping follows
 *   or what open() and the like gave
 */
int shunt_mapping_find(uintptr_t addr, size_t len, const struct shunt_mapping **mapping);

/*
 * Keep what shunt_mapping_find() is to find of the text in @segments, whose file, @path, has
 * been seen to be the one that is mapped: one descriptor, O_CLOEXEC, for each executable segment
 * of up to 32 modules. No /proc but for the program's name. Update lock held. Where that
 * is not to be had, it is looked for when it is wanted.
 */
void shunt_mappings_open(const struct shunt_segments *segments, const char *path, bool is_program);

/* Nothing that was found is looked at any more. Update lock held. */
void shunt_mappings_done(void);

/*
 * Whether [start, start + len) of @mapping, which shunt_mapping_find() has found, is as it was
 * found, by what the kernel says now, and may be replaced by a copy: private, of no
 * protection key, not writable, of that file; or, in a module, all of no file (*anonymous). All
 * with *prot_cpu, SHUNT_PROT_CPU or 0. A module's text that has been seen writable once is never
 * taken for such again (then shunt_mapping_find() refuses it): somebody else writes to it. Returns
 * 0; or -EACCES where it is shared, else -EOPNOTSUPP, or that it cannot be asked.
 */
int shunt_mapping_check(const struct shunt_mapping *mapping, uintptr_t start, size_t len,
			bool *anonymous, int *prot_cpu);

/* Text of a module was seen writable. */
void shunt_mapping_is_written(uintptr_t addr);
bool shunt_mapping_others_write(uintptr_t addr);

/* Of a kept descriptor: whether it still is the file's. */
bool shunt_mapping_has_file(const struct shunt_mapping *mapping);

/* What is mapped in @range has changed, or is about to. Update lock held. */
void shunt_mappings_forget(struct shunt_range range);

#endif
