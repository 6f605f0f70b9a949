/* SPDX-License-Identifier: MIT */
/*
 * What one mremap() of a remap replaces (remap.c): how its copy is made (page_copy.c), and how it
 * is compared with the text that it is a copy of (page_compare.c). Update lock held.
 */
#ifndef SHUNT_LINUX_PAGE_RUN_H
#define SHUNT_LINUX_PAGE_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <shunt/port.h>

#include "arch/process.h"
#include "linux/text/mapping.h"

#define SHUNT_PAGE SHUNT_PAGE_SIZE

/* From here on a copy is filled by the page fault and memcpy() rather than by a write; bytes. */
#define SHUNT_BIG_RUN (16 * SHUNT_PAGE)

/* Writes that lie @stride bytes apart. */
struct shunt_writes {
	const char *first;
	size_t n, stride;
};

static inline const struct shunt_write *shunt_nth_write(struct shunt_writes w, size_t i)
{
	return (const struct shunt_write *)(w.first + i * w.stride);
}

/* Pages next to each other that are replaced by one mremap(). */
struct shunt_page_run {
	uintptr_t start;
	size_t len;
	void *copy;
	struct shunt_writes w; /* what changes in them */
	uint64_t sites;        /* what stood there before, shunt_sum_of_sites() */
	bool anonymous;        /* they are of no file */
	int prot_cpu;          /* SHUNT_PROT_CPU, or 0 */
};

/* Of what mmap() and shunt_copy_pages() return: whether it is an error. */
static inline bool shunt_is_map_error(const void *p)
{
	return (uintptr_t)p > -4096ul;
}

/*
 * page_copy.c: a new mapping of the pages of @run, which lie in @mapping, with a copy of them that
 * has the changes in it, and their protection; or an error as a pointer.
 */
void *shunt_copy_pages(const struct shunt_mapping *mapping, const struct shunt_page_run *run);

/*
 * page_compare.c: of the bytes at the sites: one that changes, changes it, for each step can be
 * undone.
 */
uint64_t shunt_sum_of_sites(struct shunt_writes w);

/* page_compare.c: whether the copy is the text as it stands now, but for the sites. */
bool shunt_is_true_copy(const struct shunt_page_run *run);

/* page_compare.c: whether two texts, or copies of it, differ. */
bool shunt_texts_differ(const uint8_t *a, const uint8_t *b, size_t len);

#endif
