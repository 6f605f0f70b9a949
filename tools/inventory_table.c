/* SPDX-License-Identifier: MIT */
/*
 * The sites of static calls in an inventory, and what is none, by the table that `shunt bake` has
 * left.
 */
#include "inventory_parts.h"

/* Whether the table says of a key of this file's what is so. */
static bool is_trampoline_of_own_key(const struct inventory *inv, const struct shunt_baked_mod *mod)
{
	struct pointer pointer = pointers_at(&inv->pointers, mod->slot);
	uint64_t tramp = inventory_behind_stubs(inv, mod->tramp);

	return inventory_trampoline_key(inv, tramp) == inventory_call_at(inv, mod->key) &&
	       (!mod->slot || (pointer.kind == POINTER_ADDRESS && pointer.address == tramp));
}

/* An element of the table: which calls it is of. */
struct calls {
	uint64_t via; /* as in struct file_site */
	uint32_t key;
};

static int add_baked_key(struct inventory *inv, const struct shunt_baked *table, uint32_t i,
			 struct calls *calls)
{
	struct shunt_baked_mod mod;
	struct file_key *key;
	const char *name;
	int ret = shunt_baked_read_mod(table, i, &mod, &name);

	if (ret)
		return ret;
	calls->key = mod.key ? inventory_call_at(inv, mod.key)
			     : inventory_import_key(inv, false, name + PREFIX_LEN,
						    strlen(name) - PREFIX_LEN);
	if (calls->key == UINT32_MAX)
		return mod.key ? -EINVAL : -ENOMEM;
	if (mod.key && !is_trampoline_of_own_key(inv, &mod))
		return -EINVAL;
	key = inventory_key(inv, calls->key);
	if (!key->tramp)
		key->tramp = mod.key ? inventory_behind_stubs(inv, mod.tramp) : mod.tramp;
	if (!key->slot)
		key->slot = mod.slot;
	calls->via = mod.tramp == key->tramp ? 0 : mod.tramp;
	return 0;
}

static int add_baked_sites(struct inventory *inv, const struct shunt_baked *table,
			   const struct calls *mods)
{
	int ret = 0;

	for (uint32_t i = 0; i < table->nr_sites && !ret; i++) {
		struct shunt_baked_site baked;
		struct file_site site;

		ret = shunt_baked_read_site(table, i, &baked);
		if (ret)
			return ret;
		site = (struct file_site){
			.addr = table->base + baked.off,
			.via = mods[baked.what >> SHUNT_BAKED_MOD_SHIFT].via,
			.key = mods[baked.what >> SHUNT_BAKED_MOD_SHIFT].key,
			.kind = baked.what & SHUNT_BAKED_KIND,
			.direct = baked.what & SHUNT_BAKED_DIRECT,
		};
		if (!inventory_has_text(inv, site.addr,
					shunt_elf_site_len(inv->elf.cpu, site.kind)))
			return -EINVAL;
		ret = inventory_add_site(inv, &site);
	}
	return ret;
}

/* The string at @off, of less than @max bytes; NULL: there is none. */
static const char *string_at(const struct shunt_baked *table, uint32_t off, size_t max)
{
	if (off >= table->strings_size)
		return NULL;
	return strnlen(table->strings + off, max) < max ? table->strings + off : NULL;
}

static int add_baked_ref(struct inventory *inv, const struct shunt_baked *table,
			 const struct shunt_baked_ref *in)
{
	const char *name = string_at(table, in->name, SIZE_MAX);
	struct file_ref ref = {.addr = in->addr,
			       .why = string_at(table, in->why, SHUNT_BAKED_MAX_WHY)};

	if (!name || !ref.why || strncmp(name, SHUNT_TRAMP_PREFIX, PREFIX_LEN) != 0)
		return -EINVAL;
	ref.key = in->key ? inventory_call_at(inv, in->key)
			  : inventory_import_key(inv, false, name + PREFIX_LEN,
						 strlen(name) - PREFIX_LEN);
	if (ref.key == UINT32_MAX)
		return in->key ? -EINVAL : -ENOMEM;
	return array_add(&inv->refs, &ref, sizeof(ref)) ? 0 : -ENOMEM;
}

static int add_baked_refs(struct inventory *inv, const struct shunt_baked *table)
{
	struct shunt_baked_refs head;
	int ret = 0;

	inv->refs_unknown = table->strings_size < sizeof(head) ||
			    memcmp(table->strings, SHUNT_BAKED_REFS_MAGIC, sizeof(head.magic)) != 0;
	if (inv->refs_unknown)
		return 0;
	memcpy(&head, table->strings, sizeof(head));
	if (head.nr_refs > (table->strings_size - sizeof(head)) / sizeof(struct shunt_baked_ref))
		return -EINVAL;
	for (uint32_t i = 0; i < head.nr_refs && !ret; i++) {
		struct shunt_baked_ref ref;

		memcpy(&ref, table->strings + sizeof(head) + i * sizeof(ref), sizeof(ref));
		ret = add_baked_ref(inv, table, &ref);
	}
	return ret;
}

int inventory_read_table(struct inventory *inv, const struct shunt_baked *table)
{
	struct calls *mods = calloc((size_t)table->nr_mods + 1, sizeof(*mods));
	int ret = mods ? 0 : -ENOMEM;

	inv->bare = table->bare;
	for (uint32_t i = 0; i < table->nr_mods && !ret; i++)
		ret = add_baked_key(inv, table, i, &mods[i]);
	if (!ret)
		ret = add_baked_sites(inv, table, mods);
	if (!ret)
		ret = add_baked_refs(inv, table);
	free(mods);
	return ret;
}
