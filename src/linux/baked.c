/* SPDX-License-Identifier: MIT */
/*
 * Baked files (baked.h): the sites are in a table, and most of them hold the direct
 * call already, so that nothing is scanned and no text is touched at start-up. Only
 * the keys are looked up then; the sites are read when the first update is made.
 */
#include <errno.h>
#include <string.h>

#include "linux/baked.h"
#include "linux/scan.h"

/* The sections of the table, checked against the size of the file's. */
struct parts {
	struct shunt_baked_header head;
	const uint8_t *mods, *sites;
	const char *strings;
	size_t strings_size;
};

static int split(const uint8_t *data, size_t size, struct parts *p)
{
	uint64_t mods_size, sites_size;

	if (size < sizeof(p->head))
		return -EINVAL;
	memcpy(&p->head, data, sizeof(p->head));
	mods_size = (uint64_t)p->head.nr_mods * sizeof(struct shunt_baked_mod);
	sites_size = (uint64_t)p->head.nr_sites * sizeof(struct shunt_baked_site);
	if (memcmp(p->head.magic, SHUNT_BAKED_MAGIC, sizeof(p->head.magic)) != 0 ||
	    p->head.strings_off > size ||
	    p->head.strings_off != sizeof(p->head) + mods_size + sites_size)
		return -EINVAL;
	p->mods = data + sizeof(p->head);
	p->sites = p->mods + mods_size;
	p->strings = (const char *)data + p->head.strings_off;
	p->strings_size = size - p->head.strings_off;
	if (p->strings_size && p->strings[p->strings_size - 1])
		return -EINVAL;
	return 0;
}

static uintptr_t loaded_at(const struct shunt_scan *s, uint64_t address)
{
	return address ? s->image->bias + address : 0;
}

/* What the file says of a key, held against memory. A key that is not there is NULL. */
static int add_mod(struct shunt_scan *s, const struct parts *p, const struct shunt_baked_mod *in)
{
	struct shunt_mod *mod = shunt_vector_add(&s->mods, sizeof(*mod));
	uintptr_t tramp;

	if (!mod)
		return -ENOMEM;
	if (in->name >= p->strings_size)
		return -EINVAL;
	mod->tramp = loaded_at(s, in->tramp);
	mod->slot = loaded_at(s, in->slot);
	if (in->key) {
		struct static_call_key *key = (struct static_call_key *)loaded_at(s, in->key);

		mod->key = shunt_is_own_key(s->module, key) ? key : NULL;
		return mod->key ? 0 : -EINVAL;
	}
	tramp = shunt_imported(s->image, p->strings + in->name);
	mod->key = tramp ? shunt_tramp_key(tramp) : NULL;
	return 0;
}

int shunt_baked_open(struct shunt_scan *s, struct shunt_baked_table *table)
{
	const uint8_t *data;
	struct parts p = {0};
	size_t size;
	int ret = shunt_elf_section(s->elf, SHUNT_BAKED_SECTION, &data, &size);

	if (ret)
		return ret == -ENOENT ? -ENODATA : ret;
	ret = split(data, size, &p);
	for (uint32_t i = 0; i < p.head.nr_mods && !ret; i++) {
		struct shunt_baked_mod mod;

		memcpy(&mod, p.mods + i * sizeof(mod), sizeof(mod));
		ret = add_mod(s, &p, &mod);
	}
	if (ret) {
		shunt_scan_free(s);
		return ret;
	}
	table->sites = p.sites;
	table->nr_sites = p.head.nr_sites;
	table->base = s->image->bias + p.head.base;
	return 0;
}

/* One site of the table; false where it belongs to a key that is not there. */
static bool load_site(const struct shunt_baked_table *table, uint32_t i,
		      const struct shunt_mod *mods, uint32_t nr_mods, struct shunt_site *out)
{
	struct shunt_baked_site in;
	uint32_t mod;

	memcpy(&in, (const uint8_t *)table->sites + i * sizeof(in), sizeof(in));
	mod = in.what >> SHUNT_BAKED_MOD_SHIFT;
	if (mod >= nr_mods || !mods[mod].key || (in.what & 0xf) > SHUNT_SITE_JCC ||
	    !shunt_in_range(table->text, table->base + in.off, SHUNT_SITE_MAX))
		return false;
	out->off = in.off;
	out->kind = in.what & SHUNT_BAKED_KIND;
	out->baked = !!(in.what & SHUNT_BAKED_DIRECT);
	out->owner = mod;
	out->next = mod;
	return true;
}

uint32_t shunt_baked_load(const struct shunt_baked_table *table, const struct shunt_mod *mods,
			  uint32_t nr_mods, struct shunt_site *array)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < table->nr_sites; i++)
		n += load_site(table, i, mods, nr_mods, &array[n]);
	return n;
}
