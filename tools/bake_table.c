/* SPDX-License-Identifier: MIT */
/*
 * The site table of the image that is baked (src/linux/elf/baked.h). A kernel reads its table in
 * memory: a file that has a loaded section of the table's name, empty so far, gets the table
 * there; else it is a new section, which is not loaded.
 */
#include "bake_parts.h"

#include <stdlib.h>

/* The mods: keys that sites belong to. *mod_of_key by key: index + 1; 0: no sites. */
static int build_mods(struct bake *b, uint32_t *mod_of_key, struct array *mods,
		      struct array *strings)
{
	for (size_t i = 0; i < b->inv.sites.n; i++) {
		uint32_t k = inventory_site(&b->inv, i)->key;
		const struct file_key *key = inventory_key(&b->inv, k);
		struct shunt_baked_mod mod = {.key = key->addr,
					      .tramp = key->tramp,
					      .slot = key->slot,
					      .name = (uint32_t)strings->n};

		if (key->is_branch || mod_of_key[k])
			continue;
		for (const char *c = "__SCT__"; *c; c++)
			if (!array_add(strings, c, 1))
				return -ENOMEM;
		for (int c = 0; c <= key->name_len; c++)
			if (!array_add(strings, c < key->name_len ? &key->name[c] : "", 1))
				return -ENOMEM;
		if (!array_add(mods, &mod, sizeof(mod)))
			return -ENOMEM;
		if (mods->n > SHUNT_BAKED_MAX_MODS)
			return bake_refuse(b, "has too many keys");
		mod_of_key[k] = (uint32_t)mods->n;
	}
	return 0;
}

static int build_sites(const struct bake *b, const uint32_t *mod_of_key, struct array *sites)
{
	for (size_t i = 0; i < b->inv.sites.n; i++) {
		const struct file_site *site = inventory_site(&b->inv, i);
		struct shunt_baked_site baked = {.off = (uint32_t)(site->addr - b->inv.base)};

		if (inventory_key(&b->inv, site->key)->is_branch)
			continue;
		baked.what = site->kind | (site->direct ? SHUNT_BAKED_DIRECT : 0) |
			     (mod_of_key[site->key] - 1) << SHUNT_BAKED_MOD_SHIFT;
		if (!array_add(sites, &baked, sizeof(baked)))
			return -ENOMEM;
	}
	return 0;
}

/* Where the table of @size bytes goes in the new image; @sh gets the place. NULL: no memory. */
static uint8_t *table_bytes(struct bake *b, uint64_t size, Elf64_Shdr *sh)
{
	uint8_t *to = b->has_table_section ? b->out + b->table_section.sh_offset
					   : bake_append(b, size, 8);

	if (to) {
		sh->sh_offset = (uint64_t)(to - b->out);
		sh->sh_size = size;
	}
	return to;
}

static uint8_t *copy_array(uint8_t *to, const struct array *array, size_t size)
{
	if (array->n)
		memcpy(to, array->data, array->n * size);
	return to + array->n * size;
}

/* Put header, mods, sites and strings into the new image; @sh gets the place. */
static int write_parts(struct bake *b, const struct array *mods, const struct array *sites,
		       const struct array *strings, Elf64_Shdr *sh)
{
	struct shunt_baked_header header = {
		.nr_mods = (uint32_t)mods->n,
		.nr_sites = (uint32_t)sites->n,
		.strings_off = sizeof(header) + mods->n * sizeof(struct shunt_baked_mod) +
			       sites->n * sizeof(struct shunt_baked_site),
		.base = b->inv.base,
	};
	uint64_t size = header.strings_off + strings->n;
	uint8_t *to;

	if (b->has_table_section && size > b->table_section.sh_size)
		return bake_refuse(b, "its loaded section " SHUNT_BAKED_SECTION " is too small");
	to = table_bytes(b, size, sh);
	if (!to)
		return -ENOMEM;
	memcpy(header.magic, SHUNT_BAKED_MAGIC, sizeof(header.magic));
	memcpy(to, &header, sizeof(header));
	to = copy_array(to + sizeof(header), mods, sizeof(struct shunt_baked_mod));
	to = copy_array(to, sites, sizeof(struct shunt_baked_site));
	(void)copy_array(to, strings, 1);
	b->result->keys = mods->n;
	b->result->sites = sites->n;
	return 0;
}

int bake_write_table(struct bake *b, Elf64_Shdr *sh)
{
	uint32_t *mod_of_key = calloc(b->inv.keys.n + 1, sizeof(*mod_of_key));
	struct array mods = {0}, sites = {0}, strings = {0};
	int ret = mod_of_key ? build_mods(b, mod_of_key, &mods, &strings) : -ENOMEM;

	if (!ret)
		ret = build_sites(b, mod_of_key, &sites);
	if (!ret)
		ret = write_parts(b, &mods, &sites, &strings, sh);
	array_free(&mods);
	array_free(&sites);
	array_free(&strings);
	free(mod_of_key);
	return ret;
}
