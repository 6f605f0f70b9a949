/* SPDX-License-Identifier: MIT */
/* The sites of static calls in an inventory, by the table that `shunt bake` has left. */
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

int inventory_read_table(struct inventory *inv, const struct shunt_baked *table)
{
	struct calls *mods = calloc((size_t)table->nr_mods + 1, sizeof(*mods));
	int ret = mods ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < table->nr_mods && !ret; i++)
		ret = add_baked_key(inv, table, i, &mods[i]);
	if (!ret)
		ret = add_baked_sites(inv, table, mods);
	free(mods);
	return ret;
}
