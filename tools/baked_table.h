/* SPDX-License-Identifier: MIT */
/* The table of src/linux/elf/baked.h in a file, read with every bound checked. */
#ifndef SHUNT_TOOLS_BAKED_TABLE_H
#define SHUNT_TOOLS_BAKED_TABLE_H

#include <errno.h>
#include <string.h>

#include "linux/elf/baked.h"
#include "linux/elf/elf.h"

struct baked_table {
	struct shunt_baked_header header;
	const uint8_t *mods, *sites;
	const char *strings;
	uint64_t strings_size; /* they end in NUL, or it is 0 */
};

/* The table in the @size bytes at @offset of the file. 0 or -EINVAL. */
static inline int baked_open(struct baked_table *t, const struct shunt_elf *elf, uint64_t offset,
			     uint64_t size)
{
	uint64_t mods, sites;

	if (offset > elf->size || size > elf->size - offset || size < sizeof(t->header))
		return -EINVAL;
	memcpy(&t->header, elf->image + offset, sizeof(t->header));
	mods = (uint64_t)t->header.nr_mods * sizeof(struct shunt_baked_mod);
	sites = (uint64_t)t->header.nr_sites * sizeof(struct shunt_baked_site);
	if (memcmp(t->header.magic, SHUNT_BAKED_MAGIC, sizeof(t->header.magic)) != 0 ||
	    t->header.strings_off > size ||
	    sizeof(t->header) + mods + sites > t->header.strings_off)
		return -EINVAL;
	t->mods = elf->image + offset + sizeof(t->header);
	t->sites = t->mods + mods;
	t->strings = (const char *)elf->image + offset + t->header.strings_off;
	t->strings_size = size - t->header.strings_off;
	return t->strings_size && t->strings[t->strings_size - 1] ? -EINVAL : 0;
}

static inline struct shunt_baked_mod baked_mod(const struct baked_table *t, uint32_t i)
{
	struct shunt_baked_mod mod;

	memcpy(&mod, t->mods + (size_t)i * sizeof(mod), sizeof(mod));
	return mod;
}

static inline struct shunt_baked_site baked_site(const struct baked_table *t, uint32_t i)
{
	struct shunt_baked_site site;

	memcpy(&site, t->sites + (size_t)i * sizeof(site), sizeof(site));
	return site;
}

/* The name of the trampoline, or NULL where it lies outside the strings. */
static inline const char *baked_name(const struct baked_table *t, const struct shunt_baked_mod *mod)
{
	return mod->name < t->strings_size ? t->strings + mod->name : NULL;
}

#endif
