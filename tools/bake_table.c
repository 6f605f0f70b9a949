/* SPDX-License-Identifier: MIT */
/*
 * The site table of the image that is baked (src/linux/elf/baked.h). A kernel reads its table in
 * memory: a file that has a loaded section of the table's name, empty so far, gets the table
 * there; else it is a new section, which is not loaded.
 */
#include "bake_parts.h"

#include <stdlib.h>

/* What is being made. */
struct parts {
	struct array mods, sites, strings;
	/* By key: */
	struct {
		uint32_t mod;  /* of what its @tramp and @slot say: index + 1; 0: none */
		uint32_t name; /* in the strings; 0: not yet */
		bool has_sites;
	} * of_key;
};

static bool add_string(struct parts *p, const char *string, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!array_add(&p->strings, &string[i], 1))
			return false;
	return array_add(&p->strings, "", 1);
}

/* Where the strings have the name of @key's trampoline; 0: no memory. */
static uint32_t name_of_key(struct bake *b, struct parts *p, uint32_t i)
{
	const struct file_key *key = inventory_key(&b->inv, i);
	size_t at = p->strings.n;

	if (p->of_key[i].name)
		return p->of_key[i].name;
	for (const char *c = SHUNT_TRAMP_PREFIX; *c; c++)
		if (!array_add(&p->strings, c, 1))
			return 0;
	if (!add_string(p, key->name, (size_t)key->name_len))
		return 0;
	return p->of_key[i].name = (uint32_t)at;
}

/* Add the mod of the calls of key @i that go to @tramp. 0, -EINVAL or -ENOMEM. */
static int add_mod(struct bake *b, struct parts *p, uint32_t i, uint64_t tramp)
{
	const struct file_key *key = inventory_key(&b->inv, i);
	struct shunt_baked_mod mod = {
		.key = key->addr, .tramp = tramp, .slot = key->slot, .name = name_of_key(b, p, i)};

	if (!mod.name || !array_add(&p->mods, &mod, sizeof(mod)))
		return -ENOMEM;
	return p->mods.n > SHUNT_BAKED_MAX_MODS ? bake_refuse(b, "has too many keys") : 0;
}

/* The mod that goes to @via, a stub of one trampoline; 0: none yet. There are few. */
static uint32_t mod_via(const struct parts *p, uint64_t via)
{
	const struct shunt_baked_mod *mods = p->mods.data;

	for (size_t i = p->mods.n; i > 0; i--)
		if (mods[i - 1].tramp == via)
			return (uint32_t)i;
	return 0;
}

/* The mod of @site: *mod is its index. */
static int mod_of_site(struct bake *b, struct parts *p, const struct file_site *site, uint32_t *mod)
{
	const struct file_key *key = inventory_key(&b->inv, site->key);
	uint32_t found = site->via ? mod_via(p, site->via) : p->of_key[site->key].mod;
	int ret = found ? 0 : add_mod(b, p, site->key, site->via ? site->via : key->tramp);

	if (ret)
		return ret;
	if (!found)
		found = (uint32_t)p->mods.n;
	if (!site->via)
		p->of_key[site->key].mod = found;
	b->result->keys += !p->of_key[site->key].has_sites;
	p->of_key[site->key].has_sites = true;
	*mod = found - 1;
	return 0;
}

/*
 * The references that are no sites, at the start of the strings, and what they say behind
 * it. There are few reasons, and most follow one of their own.
 */
static int build_refs(struct bake *b, struct parts *p)
{
	struct shunt_baked_refs head = {.nr_refs = (uint32_t)b->result->refs};
	size_t at = sizeof(head);
	const char *why = NULL;
	uint32_t why_at = 0;

	memcpy(head.magic, SHUNT_BAKED_REFS_MAGIC, sizeof(head.magic));
	for (size_t i = 0; i < sizeof(head) + head.nr_refs * sizeof(struct shunt_baked_ref); i++)
		if (!array_add(&p->strings, "", 1))
			return -ENOMEM;
	memcpy(p->strings.data, &head, sizeof(head));
	for (size_t i = 0; i < b->inv.refs.n; i++) {
		const struct file_ref *in = inventory_ref(&b->inv, i);
		struct shunt_baked_ref ref = {.addr = in->addr,
					      .key = inventory_key(&b->inv, in->key)->addr};

		if (inventory_key(&b->inv, in->key)->is_branch)
			continue;
		ref.name = name_of_key(b, p, in->key);
		if (in->why != why)
			why_at = (uint32_t)p->strings.n;
		if (!ref.name || (in->why != why && !add_string(p, in->why, strlen(in->why))))
			return -ENOMEM;
		ref.why = why_at;
		why = in->why;
		memcpy((char *)p->strings.data + at, &ref, sizeof(ref));
		at += sizeof(ref);
	}
	return 0;
}

static int build_parts(struct bake *b, struct parts *p)
{
	int ret = build_refs(b, p);

	if (ret)
		return ret;
	for (size_t i = 0; i < b->inv.sites.n; i++) {
		const struct file_site *site = inventory_site(&b->inv, i);
		struct shunt_baked_site baked = {.off = (uint32_t)(site->addr - b->inv.base)};
		uint32_t mod;

		if (inventory_key(&b->inv, site->key)->is_branch)
			continue;
		ret = mod_of_site(b, p, site, &mod);
		if (ret)
			return ret;
		baked.what = site->kind | (site->direct ? SHUNT_BAKED_DIRECT : 0) |
			     mod << SHUNT_BAKED_MOD_SHIFT;
		if (!array_add(&p->sites, &baked, sizeof(baked)))
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
static int write_parts(struct bake *b, const struct parts *p, Elf64_Shdr *sh)
{
	struct shunt_baked_header header = {
		.nr_mods = (uint32_t)p->mods.n,
		.nr_sites = (uint32_t)p->sites.n,
		.strings_off = sizeof(header) + p->mods.n * sizeof(struct shunt_baked_mod) +
			       p->sites.n * sizeof(struct shunt_baked_site),
		.base = b->inv.base,
	};
	uint64_t size = header.strings_off + p->strings.n;
	uint8_t *to;

	if (b->has_table_section && size > b->table_section.sh_size)
		return bake_refuse(b, "its loaded section " SHUNT_BAKED_SECTION " is too small");
	to = table_bytes(b, size, sh);
	if (!to)
		return -ENOMEM;
	memcpy(header.magic, SHUNT_BAKED_MAGIC, sizeof(header.magic));
	memcpy(to, &header, sizeof(header));
	to = copy_array(to + sizeof(header), &p->mods, sizeof(struct shunt_baked_mod));
	to = copy_array(to, &p->sites, sizeof(struct shunt_baked_site));
	(void)copy_array(to, &p->strings, 1);
	b->result->sites = p->sites.n;
	return 0;
}

int bake_write_table(struct bake *b, Elf64_Shdr *sh)
{
	struct parts p = {.of_key = calloc(b->inv.keys.n + 1, sizeof(*p.of_key))};
	int ret = p.of_key ? build_parts(b, &p) : -ENOMEM;

	if (!ret)
		ret = write_parts(b, &p, sh);
	array_free(&p.mods);
	array_free(&p.sites);
	array_free(&p.strings);
	free(p.of_key);
	return ret;
}
