/* SPDX-License-Identifier: MIT */
/* Finding the sites of a module (scan.c), for the record of the module (module.c). */
#ifndef SHUNT_LINUX_SCAN_H
#define SHUNT_LINUX_SCAN_H

#include "linux/elf.h"
#include "linux/linux.h"

#define SHUNT_VECTOR_MIN 64

/* An array that grows: its room is SHUNT_VECTOR_MIN, doubled as often as need be. */
struct shunt_vector {
	void *data;
	size_t n, max;
};

/* Room for one more element of @size bytes, zeroed; NULL: no memory. */
void *shunt_vector_add(struct shunt_vector *v, size_t size);
void shunt_vector_free(struct shunt_vector *v, size_t size);

/* A scan, and what it has found. */
struct shunt_scan {
	const struct shunt_image *image;
	const struct shunt_elf *elf;
	const struct shunt_module *module;
	uint32_t *mod_of_sym;      /* by symbol index: index into mods + 1; UINT32_MAX: not a key */
	struct shunt_vector mods;  /* struct shunt_mod */
	struct shunt_vector sites; /* struct shunt_site */
	uintptr_t base;            /* what the sites' offsets count from */
};

/* Whether @elf is the file that @image was mapped from. */
bool shunt_is_mapped_file(const struct shunt_elf *elf, const struct shunt_image *image);

/* The key of the trampoline at @tramp (endbr64; jmp *key(%rip)), or NULL. */
struct static_call_key *shunt_tramp_key(uintptr_t tramp);

/* The trampoline that the dynamic linker gives the module for @name, or 0. */
uintptr_t shunt_imported(const struct shunt_image *image, const char *name);

/* Whether @key is one of the module's own. */
bool shunt_is_own_key(const struct shunt_module *module, const struct static_call_key *key);

/*
 * Find the sites of static calls by the relocations of s->elf, or of static branches
 * by the module's records: fills in mods, sites and base.
 *
 * Returns 0, -ENOMEM, -ENODATA (no relocations) or -EINVAL (a malformed file); after
 * an error there is nothing to free. Update lock not held.
 */
int shunt_scan_calls(struct shunt_scan *s);
int shunt_scan_branches(struct shunt_scan *s);

void shunt_scan_free(struct shunt_scan *s);

/*
 * baked.c: the table that `shunt bake` has put into the file in place of its
 * relocations. Fills in s->mods, and @table; the sites, which are many, stay where
 * they are until shunt_baked_load(). A mod whose key is not there has key NULL.
 *
 * Returns 0, -ENODATA where the file has no table, -EINVAL where it is malformed,
 * -ENOMEM. Update lock not held.
 */
int shunt_baked_open(struct shunt_scan *s, struct shunt_baked_table *table);

/*
 * Read the sites into @array, which has room for table->nr_sites; returns how many
 * are good. The file must still be mapped.
 */
uint32_t shunt_baked_load(const struct shunt_baked_table *table, const struct shunt_mod *mods,
			  uint32_t nr_mods, struct shunt_site *array);

#endif
