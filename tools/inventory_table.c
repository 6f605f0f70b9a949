/* SPDX-License-Identifier: MIT */
/* The sites of static calls in an inventory, by the table that `shunt bake` has left. */
#include "inventory_parts.h"

/* Whether the table says of a key of this file's what is so. */
static bool is_trampoline_of_own_key(const struct inventory *inv, const struct shunt_baked_mod *mod)
{
	struct pointer pointer = pointers_at(&inv->pointers, mod->slot);

	return inventory_trampoline_key(inv, mod->tramp) == inventory_call_at(inv, mod->key) &&
	       (!mod->slot || (pointer.kind == POINTER_ADDRESS && pointer.address == mod->tramp));
}

static int add_baked_key(struct inventory *inv, const struct shunt_baked *table, uint32_t i,
			 uint32_t *key)
{
	struct shunt_baked_mod mod;
	const char *name;
	int ret = shunt_baked_read_mod(table, i, &mod, &name);

	if (ret)
		return ret;
	*key = mod.key ? inventory_call_at(inv, mod.key)
		       : inventory_import_key(inv, false, name + PREFIX_LEN,
					      strlen(name) - PREFIX_LEN);
	if (*key == UINT32_MAX)
		return mod.key ? -EINVAL : -ENOMEM;
	if (mod.key && !is_trampoline_of_own_key(inv, &mod))
		return -EINVAL;
	inventory_key(inv, *key)->tramp = mod.tramp;
	inventory_key(inv, *key)->slot = mod.slot;
	return 0;
}

static int add_baked_sites(struct inventory *inv, const struct shunt_baked *table,
			   const uint32_t *key_of_mod)
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
			.key = key_of_mod[baked.what >> SHUNT_BAKED_MOD_SHIFT],
			.kind = baked.what & SHUNT_BAKED_KIND,
			.direct = baked.what & SHUNT_BAKED_DIRECT,
		};
		if (!inventory_has_text(inv, site.addr, shunt_site_len(site.kind & 0xf)))
			return -EINVAL;
		ret = inventory_add_site(inv, &site);
	}
	return ret;
}

int inventory_read_table(struct inventory *inv, const struct shunt_baked *table)
{
	uint32_t *key_of_mod = calloc((size_t)table->nr_mods + 1, sizeof(*key_of_mod));
	int ret = key_of_mod ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < table->nr_mods && !ret; i++)
		ret = add_baked_key(inv, table, i, &key_of_mod[i]);
	if (!ret)
		ret = add_baked_sites(inv, table, key_of_mod);
	free(key_of_mod);
	return ret;
}
