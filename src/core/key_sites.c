/* SPDX-License-Identifier: MIT */
/*
 * The sites of modules that come and go (key.h): linked to their keys, and brought up to
 * the keys' values.
 */
#include "core/error.h"
#include "core/site_batch.h"
#include "core/sort.h"

static uintptr_t offset(const void *site)
{
	return ((const struct shunt_site *)site)->off;
}

/* Chain each key's sites, in ascending order. */
static void link_sites(struct shunt_sites *s, struct shunt_site *sites, uint32_t n)
{
	for (uint32_t i = n; i-- > 0;) {
		struct shunt_mod *mod = &s->mods[sites[i].next];

		if (mod->key)
			sites[i].why = sites[i].baked ? SHUNT_INLINE : SHUNT_WHY_NEW;
		else
			sites[i].why = SHUNT_WHY_UNBOUND;
		sites[i].next = mod->first;
		mod->first = i + 1;
		mod->nr_sites++;
		mod->has_baked |= sites[i].baked;
	}
}

/*
 * What the sites of @mod are off with, should the first that is done to them be that they are
 * switched off: what they are found as. (A site that was baked as off has kept what the linker left
 * there.)
 */
static uintptr_t first_target(const struct shunt_sites *s, const struct shunt_mod *mod)
{
	uintptr_t initial = shunt_key_initial(s->kind, mod->key);

	if (!mod->has_baked)
		return mod->tramp;
	if (s->kind->is_plain && s->kind->is_plain(initial))
		return initial;
	return mod->baked_bare ? 0 : mod->tramp;
}

/* Enter those mods in their keys that have one and are not in it. */
static void link_mods(struct shunt_sites *s)
{
	for (uint32_t i = 0; i < s->nr_mods; i++) {
		struct shunt_mod *mod = &s->mods[i];
		struct shunt_mod **head;

		if (!mod->key || mod->sites)
			continue;
		head = shunt_key_mods(s->kind, mod->key);
		mod->sites = s;
		mod->last = first_target(s, mod);
		mod->next = *head;
		*head = mod;
	}
}

/* The change of a module's first poke: every site gets what its key says already. */
static void no_change(struct shunt_change *change)
{
	(void)change;
}

/* Whether the site is what its record says, for a key of @value. */
static bool is_as_found(const struct shunt_sites *s, const struct shunt_site *site, uintptr_t value)
{
	const uint8_t *addr = shunt_site_addr(&s->table, site);
	unsigned len = shunt_site_len(shunt_site_kind(site));
	uint8_t bytes[SHUNT_SITE_MAX] = {0};

	shunt_site_bytes(s, site, value, bytes);
	for (unsigned i = 0; i < len; i++)
		if (addr[i] != bytes[i])
			return false;
	return true;
}

/*
 * Sites that could not be brought up, and have no trampoline that would follow the key: the
 * key's next update tries again, even one to the value that it has.
 */
static void find_stale(const struct shunt_sites *s, struct shunt_report *report)
{
	for (uint32_t i = 0; i < s->table.nr_sites; i++) {
		const struct shunt_site *site = &s->table.sites[i];
		void *key = s->kind->key(s, site);

		if (shunt_site_is_direct(site) || !key)
			continue;
		shunt_key_set_stale(s->kind, key, true);
		if (report->error)
			continue;
		report->error = -SHUNT_EBUSY;
		report->what = "foreign bytes stand at a static branch of a new module";
		report->key = shunt_key_name(s->kind, key);
		report->site = shunt_site_addr(&s->table, site);
	}
}

/* Whether the site has a key by now; with @all false, has got one since it was added. */
static bool is_new(const struct shunt_site *site, bool all)
{
	return all ? site->why != SHUNT_WHY_UNBOUND : site->why == SHUNT_WHY_NEW;
}

/* Bring the new sites of @s from what they were found as up to their keys' values. */
static int promote(struct shunt_sites *s, bool all, struct shunt_report *report)
{
	/* Not on the stack: as an update's (update.c). */
	static struct shunt_change change = {no_change, no_change, shunt_site_batch_done, NULL};
	struct shunt_site *sites = s->table.sites;
	uint32_t n = s->table.nr_sites;
	int ret = shunt_site_batch_begin(n, report);

	if (!ret) {
		for (uint32_t i = 0; i < n; i++) {
			const void *key = s->kind->key(s, &sites[i]);
			uintptr_t initial;

			if (!is_new(&sites[i], all))
				continue;
			initial = shunt_key_initial(s->kind, key);
			if (is_as_found(s, &sites[i], initial))
				shunt_site_batch_add(s, &sites[i], initial,
						     shunt_key_value(s->kind, key), false);
			else
				sites[i].why = SHUNT_WHY_FOREIGN;
		}
		ret = shunt_site_batch_poke(&change, report);
	}
	for (uint32_t i = 0; ret && i < n; i++)
		if (sites[i].why == SHUNT_WHY_NEW ||
		    (all && sites[i].baked && shunt_site_is_direct(&sites[i])))
			sites[i].why = (uint8_t)shunt_site_why_now(s, &sites[i]);
	if (!s->kind->falls_back)
		find_stale(s, report);
	return ret;
}

/* Set while keys and sites are being linked: a copy of the process finds them half linked. */
static volatile bool linking;

int shunt_sites_repair(void)
{
	if (linking)
		return -SHUNT_EIO;
	shunt_update_repair();
	return 0;
}

/* shunt_table.insn: what a trap at the site emulates. */
static bool current_insn(const struct shunt_table *table, const struct shunt_site *site,
			 struct shunt_insn *out)
{
	const struct shunt_sites *s = (const struct shunt_sites *)table;
	const void *key = s->kind->key(s, site);

	if (!key)
		return false;
	s->kind->direct(s, site, shunt_key_value(s->kind, key), out);
	return true;
}

int shunt_sites_add(struct shunt_sites *s, uintptr_t base, struct shunt_site *array,
		    uint32_t nr_sites, struct shunt_report *report)
{
	shunt_sort(array, nr_sites, sizeof(array[0]), offset);
	linking = true;
	link_sites(s, array, nr_sites);
	link_mods(s);
	s->table.insn = current_insn;
	shunt_table_publish(&s->table, base, array, nr_sites);
	linking = false;
	return promote(s, true, report);
}

int shunt_sites_bind(struct shunt_sites *s, struct shunt_report *report)
{
	struct shunt_site *sites = s->table.sites;

	for (uint32_t i = 0; i < s->nr_mods; i++)
		for (uint32_t k = s->mods[i].key ? s->mods[i].first : 0; k; k = sites[k - 1].next)
			if (sites[k - 1].why == SHUNT_WHY_UNBOUND)
				sites[k - 1].why = SHUNT_WHY_NEW;
	linking = true;
	link_mods(s);
	linking = false;
	return promote(s, false, report);
}

static void unlink_mod(const struct shunt_sites *s, struct shunt_mod *mod)
{
	struct shunt_mod **p = shunt_key_mods(s->kind, mod->key);

	while (*p && *p != mod)
		p = &(*p)->next;
	if (*p)
		*p = mod->next;
	mod->sites = NULL;
}

void shunt_sites_remove(struct shunt_sites *s)
{
	linking = true;
	shunt_table_withdraw(&s->table);
	for (uint32_t i = 0; i < s->nr_mods; i++)
		if (s->mods[i].key)
			unlink_mod(s, &s->mods[i]);
	s->nr_mods = 0;
	linking = false;
}

void shunt_key_remove(const struct shunt_kind *kind, void *key)
{
	struct shunt_mod **head = shunt_key_mods(kind, key);

	linking = true;
	for (struct shunt_mod *mod = *head; mod; mod = mod->next)
		mod->key = NULL;
	*head = NULL;
	linking = false;
}
