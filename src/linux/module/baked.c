/* SPDX-License-Identifier: MIT */
/*
 * Baked files (baked.h): the sites are in a table, and most of them hold the direct
 * call already, so that nothing is scanned and no text is touched at start-up. Only
 * the keys are looked up then; the sites are read when the first update is made, and what
 * the dynamic linker has bound, too.
 */
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "core/key.h"
#include "core/site.h"
#include "linux/base/base.h"
#include "linux/base/registry.h"
#include "linux/elf/baked.h"
#include "linux/elf/elf.h"
#include "linux/module/baked_read.h"
#include "linux/module/find_sites.h"
#include "linux/module/got_slots.h"
#include "linux/module/site_search.h"
#include "linux/module/tramp.h"

static uintptr_t loaded_at(const struct shunt_site_search *s, uint64_t address)
{
	return address ? s->image->bias + address : 0;
}

/* A key of the module's own, as the file says, held against memory. */
static int add_own(struct shunt_site_search *s, const struct shunt_baked_mod *in, bool bare)
{
	struct shunt_mod mod = {
		.key = (void *)loaded_at(s, in->key),
		.tramp = loaded_at(s, in->tramp),
		.slot = loaded_at(s, in->slot),
		.baked_bare = bare,
	};
	struct shunt_segments segments = shunt_image_segments(s->image);
	uintptr_t tramp = mod.tramp;

	if (!shunt_is_own_key(s->module, mod.key))
		return -EINVAL;
	if (shunt_own_tramp_key(s, tramp) != mod.key)
		tramp = shunt_behind_stubs(&segments, tramp);
	if (shunt_own_tramp_key(s, tramp) != mod.key)
		return -EINVAL;
	/* Its calls hold the direct form: they must not be lost, nor another key's. */
	if (mod.slot && !shunt_slot_holds(s, mod.slot, tramp))
		return -EINVAL;
	return shunt_add_mod(s, &mod, NULL);
}

/* A key that the dynamic linker binds, by @mod's slot. What is not so has no slot. */
static int add_bound(struct shunt_site_search *s, const struct shunt_mod *mod, const char *name)
{
	int ret = mod->slot ? shunt_is_slot_of(s, mod->slot, name) : 0;

	if (ret < 0)
		return ret;
	return shunt_add_mod(s, ret ? mod : &(struct shunt_mod){0}, ret ? name : NULL);
}

/* What direct calls go through. */
static int add_direct(struct shunt_site_search *s, const struct shunt_baked *in_file, uint32_t i)
{
	struct shunt_baked_mod in;
	struct shunt_mod mod = {0};
	struct shunt_segments segments = shunt_image_segments(s->image);
	const char *name;
	int ret = shunt_baked_read_mod(in_file, i, &in, &name);

	if (ret)
		return ret;
	if (in.key)
		return add_own(s, &in, in_file->bare);
	mod.tramp = loaded_at(s, in.tramp);
	mod.slot = mod.tramp ? shunt_plt_slot(&segments, shunt_behind_stubs(&segments, mod.tramp))
			     : loaded_at(s, in.slot);
	return add_bound(s, &mod, name);
}

/* What indirect calls go through, if it is not the slot of element @i's direct ones. */
static int add_indirect(struct shunt_site_search *s, const struct shunt_baked *in_file, uint32_t i)
{
	struct shunt_baked_mod in;
	struct shunt_mod mod = {0};
	const char *name;
	int ret = shunt_baked_read_mod(in_file, i, &in, &name);

	if (ret)
		return ret;
	mod.slot = in.key ? 0 : loaded_at(s, in.slot);
	if (mod.slot == ((struct shunt_mod *)s->mods.data)[i].slot)
		mod.slot = 0;
	return add_bound(s, &mod, name);
}

int shunt_baked_open(struct shunt_site_search *s, struct shunt_baked_table *table)
{
	struct shunt_baked in_file;
	int ret = shunt_baked_find(s->elf, &in_file);

	if (ret)
		return ret;
	if (s->image->bias + in_file.base != s->image->range.start)
		return -EINVAL;
	for (uint32_t i = 0; i < in_file.nr_mods && !ret; i++)
		ret = add_direct(s, &in_file, i);
	for (uint32_t i = 0; i < in_file.nr_mods && !ret; i++)
		ret = add_indirect(s, &in_file, i);
	if (ret) {
		shunt_site_search_free(s);
		return ret;
	}
	table->sites = in_file.sites;
	table->nr_sites = in_file.nr_sites;
	table->nr_mods = in_file.nr_mods;
	table->base = s->image->bias + in_file.base;
	return 0;
}

/* The mod of a site of @kind of the table's element @i; NULL: it has none that is good. */
static const struct shunt_mod *mod_of_site(const struct shunt_baked_table *table,
					   const struct shunt_mod *mods, uint32_t i, unsigned kind)
{
	bool indirect = kind == SHUNT_KIND_CALL_GOT || kind == SHUNT_KIND_JMP_GOT;

	if (i >= table->nr_mods)
		return NULL;
	if (!indirect)
		return mods[i].tramp ? &mods[i] : NULL;
	if (mods[table->nr_mods + i].slot)
		i += table->nr_mods;
	return mods[i].slot ? &mods[i] : NULL;
}

/* Read element @i; false where no table says so of a site, if it is not damaged. */
static bool read_site(const struct shunt_baked_table *table, const struct shunt_segments *segments,
		      uint32_t i, struct shunt_baked_site *in)
{
	const struct shunt_baked in_file = {.cpu = &shunt_elf_native,
					    .sites = table->sites,
					    .nr_sites = table->nr_sites,
					    .nr_mods = table->nr_mods};

	return !shunt_baked_read_site(&in_file, i, in) &&
	       shunt_segment_has(segments, PF_X, table->base + in->off,
				 shunt_site_len(in->what & 0xf));
}

/* One site of the table; false where what it calls is not bound as the table says. */
static bool load_site(const struct shunt_baked_table *table, const struct shunt_baked_site *in,
		      const struct shunt_mod *mods, const struct shunt_binding *bindings,
		      struct shunt_site *out)
{
	const struct shunt_mod *mod =
		mod_of_site(table, mods, in->what >> SHUNT_BAKED_MOD_SHIFT, in->what & 0xf);

	if (!mod)
		return false;
	out->off = in->off;
	out->kind = in->what & SHUNT_BAKED_KIND;
	out->owner = (uint32_t)(mod - mods);
	out->next = out->owner;
	out->baked = (in->what & SHUNT_BAKED_DIRECT) && !bindings[out->owner].by_linker;
	return true;
}

uint32_t shunt_baked_load(const struct shunt_baked_table *table,
			  const struct shunt_segments *segments, const struct shunt_mod *mods,
			  const struct shunt_bindings *bindings, struct shunt_site *array)
{
	struct shunt_baked_site in;
	uint32_t n = 0;

	/*
	 * All or none: a site that is not known goes on doing what its key said first. Where none
	 * is, the keys that were baked are not updated. (What holds a direct call is the file's own
	 * key's, which has what its calls go through.)
	 */
	for (uint32_t i = 0; i < table->nr_sites; i++)
		if (!read_site(table, segments, i, &in))
			return 0;
	for (uint32_t i = 0; i < table->nr_sites; i++) {
		bool is_known = read_site(table, segments, i, &in) &&
				load_site(table, &in, mods, bindings->of_mod.data, &array[n]);

		if (!is_known && in.what & SHUNT_BAKED_DIRECT)
			return 0;
		n += is_known;
	}
	return n;
}
