/* SPDX-License-Identifier: MIT */
/*
 * An update (key.h): from the change of some values to one batch of
 * pokes. Linux pokes a static call's sites one at a time and batches only jump
 * labels and ftrace; here everything that changes together is one batch.
 *
 * A key's value is what all follows: the trampoline jumps through it, a trap
 * emulates what it says, and storing it is the commit. Hence nothing is published
 * for the trap handler, and an int3 that is left standing does the right thing.
 */
#include "core/site_batch.h"
#include "core/site_flips.h"

struct update {
	struct shunt_change change;
	struct shunt_key_change *keys;
	size_t n;
};

static void commit(struct shunt_change *change)
{
	struct update *u = (struct update *)change;

	for (size_t i = 0; i < u->n; i++)
		shunt_key_store(u->keys[i].kind, u->keys[i].key, u->keys[i].to);
}

static void revert(struct shunt_change *change)
{
	struct update *u = (struct update *)change;

	for (size_t i = 0; i < u->n; i++)
		shunt_key_store(u->keys[i].kind, u->keys[i].key, u->keys[i].from);
}

/* An update to what each key says already is to look at its sites from here on. */
static void mixed(struct shunt_change *change)
{
	struct update *u = (struct update *)change;

	for (size_t i = 0; i < u->n; i++)
		shunt_key_set_stale(u->keys[i].kind, u->keys[i].key, true);
}

/* A site that is left as it is for good. (One that is left on an int3 is not.) */
static bool is_left_alone(const struct shunt_kind *kind, const struct shunt_site *site)
{
	return kind->falls_back && !atomic_load_explicit(&site->poked, memory_order_relaxed) &&
	       !shunt_site_is_stale(site) &&
	       (site->why == SHUNT_WHY_FOREIGN || site->why == SHUNT_WHY_WRITE);
}

/* Whether a site of the key does not do what its value says. */
static bool has_stale_sites(const struct shunt_key_change *c)
{
	return shunt_key_flags(c->kind, c->key) & c->kind->stale;
}

/* Whether there is anything to do for the key. */
static bool is_wanted(const struct shunt_key_change *c)
{
	return c->from != c->to || has_stale_sites(c);
}

static size_t count_sites(const struct shunt_key_change *c)
{
	size_t n = 0;

	for (const struct shunt_mod *mod = *shunt_key_mods(c->kind, c->key); mod; mod = mod->next)
		n += mod->nr_sites;
	return n;
}

static void collect(const struct shunt_key_change *c)
{
	bool plain = c->kind->is_plain && c->kind->is_plain(c->from) && c->kind->is_plain(c->to);
	bool is_stale = has_stale_sites(c);

	for (const struct shunt_mod *mod = *shunt_key_mods(c->kind, c->key); mod; mod = mod->next) {
		struct shunt_site *sites = mod->sites->table.sites;

		for (uint32_t i = mod->first; i; i = sites[i - 1].next) {
			struct shunt_site *site = &sites[i - 1];

			if (plain ? shunt_site_batch_add_plain(mod->sites, site, c->from, c->to)
				  : c->from != c->to &&
					    shunt_site_batch_add_flip(mod->sites, site, c->to))
				continue;
			if (!is_left_alone(c->kind, site))
				shunt_site_batch_add(mod->sites, site, c->from, c->to, is_stale);
		}
	}
}

static bool has_site(const struct shunt_mod *mod, const struct shunt_site *site)
{
	const struct shunt_site *sites = mod->sites->table.sites;

	for (uint32_t i = mod->first; i; i = sites[i - 1].next)
		if (&sites[i - 1] == site)
			return true;
	return false;
}

/* Whose site failed, for the message. */
static void name_key(const struct update *u, struct shunt_report *report)
{
	struct shunt_insn insn;
	struct shunt_site *site = shunt_site_find((uintptr_t)report->site, &insn);

	report->key = u->n ? shunt_key_name(u->keys[0].kind, u->keys[0].key) : NULL;
	for (size_t i = 0; site && i < u->n; i++) {
		const struct shunt_key_change *c = &u->keys[i];

		for (const struct shunt_mod *mod = *shunt_key_mods(c->kind, c->key); mod;
		     mod = mod->next)
			if (has_site(mod, site))
				report->key = shunt_key_name(c->kind, c->key);
	}
}

/* From how many sites on a list of them has no room but what is allocated. */
#define MANY 17

/* One key with many sites, where they are only switched; else SHUNT_AS_A_LIST. */
static int poke_in_blocks(struct update *u, size_t n, struct shunt_report *report)
{
	static struct shunt_site_flips flips; /* as going_on */

	if (u->n != 1 || n < MANY || has_stale_sites(u->keys))
		return SHUNT_AS_A_LIST;
	shunt_site_flips_of(&flips, u->keys, n);
	return shunt_poke_flips(&flips.flips, &u->change, report);
}

static int poke_sites(struct update *u, struct shunt_report *report)
{
	size_t max = 0;
	int ret;

	for (size_t i = 0; i < u->n; i++)
		max += count_sites(&u->keys[i]);
	ret = poke_in_blocks(u, max, report);
	if (ret != SHUNT_AS_A_LIST)
		return ret;
	ret = shunt_site_batch_begin(max, report);
	if (ret)
		return ret;
	for (size_t i = 0; i < u->n; i++)
		if (is_wanted(&u->keys[i]))
			collect(&u->keys[i]);
	return shunt_site_batch_poke(&u->change, report);
}

/* Whether each kind agrees to the change; those before @n have been asked. */
static int begin(const struct update *u, size_t *n, struct shunt_report *report)
{
	for (*n = 0; *n < u->n; ++*n) {
		const struct shunt_key_change *c = &u->keys[*n];
		int ret;

		if (c->from == c->to || !c->kind->begin)
			continue;
		ret = c->kind->begin(c->key, c->to, report);
		if (!ret)
			continue;
		report->error = ret;
		report->key = shunt_key_name(c->kind, c->key);
		return ret;
	}
	return 0;
}

static void end(const struct update *u, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct shunt_key_change *c = &u->keys[i];

		if (c->from != c->to && c->kind->end)
			c->kind->end(c->key, shunt_key_value(c->kind, c->key));
	}
}

/* Fill in where each change starts from; @same: whether there is nothing to do. */
static int read_values(struct shunt_key_change *changes, size_t n, bool *same,
		       struct shunt_report *report)
{
	*same = true;
	for (size_t i = 0; i < n; i++) {
		struct shunt_key_change *c = &changes[i];
		int ret = c->kind->check ? c->kind->check(c->key, report) : 0;

		if (ret) {
			report->error = ret;
			report->key = shunt_key_name(c->kind, c->key);
			return ret;
		}
		c->from = shunt_key_value(c->kind, c->key);
		*same = *same && !is_wanted(c);
	}
	return 0;
}

static void clear_stale(const struct update *u)
{
	for (size_t i = 0; i < u->n; i++)
		if (has_stale_sites(&u->keys[i]))
			shunt_key_set_stale(u->keys[i].kind, u->keys[i].key, false);
}

/*
 * The update that is going on; n is 0 where there is none. Not on the stack, and its key
 * not either where it is one: a copy of the process finds them here, but the stacks of
 * the threads that it does not have may soon be others'.
 */
static struct update going_on = {.change = {commit, revert, shunt_site_batch_done, mixed}};

int shunt_update(struct shunt_key_change *changes, size_t n, struct shunt_report *report)
{
	static struct shunt_key_change one;
	struct update *u = &going_on;
	bool same;
	size_t begun;
	int ret = read_values(changes, n, &same, report);

	if (ret || same)
		return ret;
	if (n == 1)
		one = changes[0];
	u->keys = n == 1 ? &one : changes;
	atomic_signal_fence(memory_order_release); /* a copy finds it whole, or not at all */
	u->n = n;
	ret = begin(u, &begun, report);
	if (!ret) {
		ret = poke_sites(u, report);
		if (!ret)
			clear_stale(u);
		if (report->error)
			name_key(u, report);
	}
	end(u, begun);
	u->n = 0;
	return ret;
}

void shunt_update_repair(void)
{
	shunt_poke_repair();
	shunt_poke_flips_repair();
	end(&going_on, going_on.n);
	going_on.n = 0;
}
