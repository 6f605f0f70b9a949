/* SPDX-License-Identifier: MIT */
/*
 * Keys and their sites (sites.h): from the change of some values to one batch of
 * pokes. Linux pokes a static call's sites one at a time and batches only jump
 * labels and ftrace; here everything that changes together is one batch.
 *
 * A key's value is what all follows: the trampoline jumps through it, a trap
 * emulates what it says, and storing it is the commit. Hence nothing is published
 * for the trap handler, and an int3 that is left standing does the right thing.
 */
#include "core/key.h"
#include "core/error.h"
#include "core/poke.h"
#include "core/sort.h"

/* ---------------------------------------------------- the bytes of one site */

/* call or jmp rel32 at a site of 5 bytes; false where @target is out of reach. */
static bool encode5(uint8_t opcode, uintptr_t target, const uint8_t *addr,
		    uint8_t bytes[SHUNT_SITE_MAX])
{
	uintptr_t rel = target - ((uintptr_t)addr + 5);

	if (rel + 0x80000000u > 0xffffffffu)
		return false;
	bytes[0] = opcode;
	__builtin_memcpy(bytes + 1, &(uint32_t){(uint32_t)rel}, 4);
	return true;
}

/* Encode @insn into the @len bytes of a site; what a jmp leaves over becomes nops. */
static int encode(const struct shunt_insn *insn, const uint8_t *addr, unsigned len,
		  uint8_t bytes[SHUNT_SITE_MAX])
{
	uint8_t buf[SHUNT_INSN_MAX];
	int ret = shunt_insn_encode(insn, (uintptr_t)addr, buf);

	if (ret < 0)
		return ret;
	for (unsigned i = 0; i < len && i < SHUNT_SITE_MAX; i++)
		bytes[i] = i < insn->len ? buf[i] : 0x90;
	return 0;
}

static void linked_bytes(const struct shunt_sites *s, const struct shunt_site *site,
			 uint8_t bytes[SHUNT_SITE_MAX])
{
	struct shunt_insn insn;

	s->kind->linked(s, site, &insn);
	(void)encode(&insn, shunt_site_addr(&s->table, site), shunt_site_len(shunt_site_kind(site)),
		     bytes); /* it stood there, so it reaches */
}

/*
 * The bytes of a site for @value: the direct form; through a veneer where the
 * target is out of reach; or what the linker left, where no veneer is to be had.
 * Returns which.
 */
static enum shunt_why bytes_for(const struct shunt_sites *s, const struct shunt_site *site,
				uintptr_t value, uint8_t bytes[SHUNT_SITE_MAX])
{
	const uint8_t *addr = shunt_site_addr(&s->table, site);
	unsigned len = shunt_site_len(shunt_site_kind(site));
	struct shunt_insn insn;

	s->kind->direct(s, site, value, &insn);
	if (!encode(&insn, addr, len, bytes))
		return SHUNT_INLINE;
	insn.target = shunt_port_veneer((uintptr_t)addr, insn.target);
	if (insn.target && !encode(&insn, addr, len, bytes))
		return SHUNT_WHY_FAR;
	linked_bytes(s, site, bytes);
	return SHUNT_WHY_TOO_FAR;
}

/* Whether the site's bytes follow from the key's value. */
static bool is_direct(const struct shunt_site *site)
{
	return site->why == SHUNT_INLINE || site->why == SHUNT_WHY_FAR;
}

/* A baked site that could not be brought up to its key: it does what the first value was. */
static bool is_stale(const struct shunt_site *site)
{
	return site->baked && site->why == SHUNT_WHY_WRITE;
}

/* The bytes that stand at the site while the value is @value, if nobody else was there. */
static void current_bytes(const struct shunt_sites *s, const struct shunt_site *site,
			  uintptr_t value, uint8_t bytes[SHUNT_SITE_MAX])
{
	if (is_direct(site))
		(void)bytes_for(s, site, value, bytes);
	else if (is_stale(site))
		(void)bytes_for(s, site, s->kind->initial(s->kind->key(s, site)), bytes);
	else
		linked_bytes(s, site, bytes);
}

/* shunt_table.insn: what a trap at the site emulates. */
static bool current_insn(const struct shunt_table *table, const struct shunt_site *site,
			 struct shunt_insn *out)
{
	const struct shunt_sites *s = (const struct shunt_sites *)table;
	const void *key = s->kind->key(s, site);

	if (!key)
		return false;
	s->kind->direct(s, site, s->kind->load(key), out);
	return true;
}

/* ------------------------------------------------------------------ batches */

/* One batch at a time, guarded by the update lock; most have room here. */
static struct {
	struct shunt_poke few[16];
	struct shunt_poke *pokes;
	size_t n, max;
	size_t same; /* sites whose bytes do not change: the last ones of pokes */
} batch;

static int batch_begin(size_t max, struct shunt_report *report)
{
	batch.n = batch.same = 0;
	batch.max = max;
	batch.pokes = batch.few;
	if (max > sizeof(batch.few) / sizeof(batch.few[0]))
		batch.pokes = shunt_port_alloc(max * sizeof(batch.pokes[0]));
	if (batch.pokes)
		return 0;
	report->error = -SHUNT_ENOMEM;
	report->what = "allocate a batch";
	return -SHUNT_ENOMEM;
}

static void batch_end(void)
{
	if (batch.pokes != batch.few)
		shunt_port_free(batch.pokes, batch.max * sizeof(batch.pokes[0]));
}

static bool differ(const struct shunt_poke *p)
{
	for (unsigned i = 0; i < p->len; i++)
		if (p->old[i] != p->new[i])
			return true;
	return false;
}

/*
 * The same as batch_add() for a site that is, and stays, a plain call or jmp of its
 * key's value; false where it is or becomes something else.
 */
static bool batch_add_plain(const struct shunt_sites *s, struct shunt_site *site, uintptr_t from,
			    uintptr_t to)
{
	struct shunt_poke *p = &batch.pokes[batch.n];
	uint8_t *addr = shunt_site_addr(&s->table, site);
	uint8_t opcode = shunt_site_kind(site) == SHUNT_SITE_CALL ? 0xe8 : 0xe9;

	if (site->why != SHUNT_INLINE ||
	    (shunt_site_kind(site) != SHUNT_SITE_CALL && shunt_site_kind(site) != SHUNT_SITE_JMP) ||
	    !encode5(opcode, from, addr, p->old) || !encode5(opcode, to, addr, p->new))
		return false;
	p->addr = addr;
	p->site = site;
	p->len = 5;
	p->tag = SHUNT_INLINE;
	batch.n++;
	return true;
}

/* Add the change of @site from @from to @to, if there is any to its bytes. */
static void batch_add(const struct shunt_sites *s, struct shunt_site *site, uintptr_t from,
		      uintptr_t to)
{
	struct shunt_poke *p = &batch.pokes[batch.n];

	p->addr = shunt_site_addr(&s->table, site);
	p->site = site;
	p->len = (uint8_t)shunt_site_len(shunt_site_kind(site));
	p->tag = (uint8_t)bytes_for(s, site, to, p->new);
	current_bytes(s, site, from, p->old);
	if (differ(p) || atomic_load_explicit(&site->poked, memory_order_relaxed)) {
		batch.n++;
	} else {
		struct shunt_poke *same = &batch.pokes[batch.max - ++batch.same];

		same->tag = p->tag;
		same->site = site;
	}
}

/* shunt_change.done: what is said of the sites is true from here on, not before. */
static void batch_done(struct shunt_change *change)
{
	(void)change;
	for (size_t i = 0; i < batch.n; i++)
		batch.pokes[i].site->why = batch.pokes[i].tag;
	for (size_t i = batch.max - batch.same; i < batch.max; i++)
		batch.pokes[i].site->why = batch.pokes[i].tag;
}

/* ------------------------------------------------------------------- update */

struct update {
	struct shunt_change change;
	struct shunt_key_change *keys;
	size_t n;
};

static void commit(struct shunt_change *change)
{
	struct update *u = (struct update *)change;

	for (size_t i = 0; i < u->n; i++)
		u->keys[i].kind->store(u->keys[i].key, u->keys[i].to);
}

static void revert(struct shunt_change *change)
{
	struct update *u = (struct update *)change;

	for (size_t i = 0; i < u->n; i++)
		u->keys[i].kind->store(u->keys[i].key, u->keys[i].from);
}

/* A site that is left as it is for good. (One that is left on an int3 is not.) */
static bool is_left_alone(const struct shunt_kind *kind, const struct shunt_site *site)
{
	return kind->falls_back && !atomic_load_explicit(&site->poked, memory_order_relaxed) &&
	       !is_stale(site) && (site->why == SHUNT_WHY_FOREIGN || site->why == SHUNT_WHY_WRITE);
}

/* Whether a site of the key does not do what its value says. */
static bool has_stale_sites(const struct shunt_key_change *c)
{
	return c->kind->flags && *c->kind->flags(c->key) & SHUNT_KEY_STALE;
}

/* Whether there is anything to do for the key. */
static bool is_wanted(const struct shunt_key_change *c)
{
	return c->from != c->to || has_stale_sites(c);
}

static size_t count_sites(const struct shunt_key_change *c)
{
	size_t n = 0;

	for (const struct shunt_mod *mod = *c->kind->mods(c->key); mod; mod = mod->next)
		n += mod->nr_sites;
	return n;
}

static void collect(const struct shunt_key_change *c)
{
	bool plain = c->kind->is_plain && c->kind->is_plain(c->from) && c->kind->is_plain(c->to);

	for (const struct shunt_mod *mod = *c->kind->mods(c->key); mod; mod = mod->next) {
		struct shunt_site *sites = mod->sites->table.sites;

		for (uint32_t i = mod->first; i; i = sites[i - 1].next) {
			struct shunt_site *site = &sites[i - 1];

			if (plain && batch_add_plain(mod->sites, site, c->from, c->to))
				continue;
			if (!is_left_alone(c->kind, site))
				batch_add(mod->sites, site, c->from, c->to);
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

	report->key = u->n ? u->keys[0].kind->name(u->keys[0].key) : NULL;
	for (size_t i = 0; site && i < u->n; i++) {
		const struct shunt_key_change *c = &u->keys[i];

		for (const struct shunt_mod *mod = *c->kind->mods(c->key); mod; mod = mod->next)
			if (has_site(mod, site))
				report->key = c->kind->name(c->key);
	}
}

static int run(struct update *u, struct shunt_report *report)
{
	size_t max = 0;
	int ret;

	for (size_t i = 0; i < u->n; i++)
		max += count_sites(&u->keys[i]);
	ret = batch_begin(max, report);
	if (ret)
		return ret;
	for (size_t i = 0; i < u->n; i++)
		if (is_wanted(&u->keys[i]))
			collect(&u->keys[i]);
	ret = shunt_poke_batch(batch.pokes, batch.n, &u->change, report);
	batch_end();
	return ret;
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
		report->key = c->kind->name(c->key);
		return ret;
	}
	return 0;
}

static void end(const struct update *u, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct shunt_key_change *c = &u->keys[i];

		if (c->from != c->to && c->kind->end)
			c->kind->end(c->key, c->kind->load(c->key));
	}
}

/* Fill in where each change starts from; @same: whether there is nothing to do. */
static int look(struct shunt_key_change *changes, size_t n, bool *same, struct shunt_report *report)
{
	*same = true;
	for (size_t i = 0; i < n; i++) {
		struct shunt_key_change *c = &changes[i];
		int ret = c->kind->check ? c->kind->check(c->key, report) : 0;

		if (ret) {
			report->error = ret;
			report->key = c->kind->name(c->key);
			return ret;
		}
		c->from = c->kind->load(c->key);
		*same = *same && !is_wanted(c);
	}
	return 0;
}

static void clear_stale(const struct update *u)
{
	for (size_t i = 0; i < u->n; i++)
		if (has_stale_sites(&u->keys[i]))
			shunt_key_flag(u->keys[i].key, SHUNT_KEY_STALE, false);
}

/*
 * The update that is going on; n is 0 where there is none. Not on the stack, and its key
 * not either where it is one: a copy of the process finds them here, but the stacks of
 * the threads that it does not have may soon be others'.
 */
static struct update going_on = {.change = {commit, revert, batch_done}};

int shunt_update(struct shunt_key_change *changes, size_t n, struct shunt_report *report)
{
	static struct shunt_key_change one;
	struct update *u = &going_on;
	bool same;
	size_t begun;
	int ret = look(changes, n, &same, report);

	if (ret || same)
		return ret;
	if (n == 1)
		one = changes[0];
	u->keys = n == 1 ? &one : changes;
	atomic_signal_fence(memory_order_release); /* a copy finds it whole, or not at all */
	u->n = n;
	ret = begin(u, &begun, report);
	if (!ret) {
		ret = run(u, report);
		if (!ret)
			clear_stale(u);
		if (report->error)
			name_key(u, report);
	}
	end(u, begun);
	u->n = 0;
	return ret;
}

/* ------------------------------------------------------------------ modules */

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

/* Enter those mods in their keys that have one and are not in it. */
static void link_mods(struct shunt_sites *s)
{
	for (uint32_t i = 0; i < s->nr_mods; i++) {
		struct shunt_mod *mod = &s->mods[i];
		struct shunt_mod **head;

		if (!mod->key || mod->sites)
			continue;
		head = s->kind->mods(mod->key);
		mod->sites = s;
		mod->next = *head;
		*head = mod;
	}
}

/* The change of a module's first poke: every site gets what its key says already. */
static void nothing(struct shunt_change *change)
{
	(void)change;
}

/* Whether the site is what its record says, for a key of @value. */
static bool is_as_found(const struct shunt_sites *s, const struct shunt_site *site, uintptr_t value)
{
	const uint8_t *addr = shunt_site_addr(&s->table, site);
	unsigned len = shunt_site_len(shunt_site_kind(site));
	uint8_t bytes[SHUNT_SITE_MAX] = {0};

	current_bytes(s, site, value, bytes);
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

		if (is_direct(site))
			continue;
		shunt_key_flag(key, SHUNT_KEY_STALE, true);
		if (report->error)
			continue;
		report->error = -SHUNT_EBUSY;
		report->what = "foreign bytes stand at a static branch of a new module";
		report->key = s->kind->name(key);
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
	struct shunt_change change = {nothing, nothing, batch_done};
	struct shunt_site *sites = s->table.sites;
	uint32_t n = s->table.nr_sites;
	int ret = batch_begin(n, report);

	if (!ret) {
		for (uint32_t i = 0; i < n; i++) {
			const void *key = s->kind->key(s, &sites[i]);
			uintptr_t initial;

			if (!is_new(&sites[i], all))
				continue;
			initial = s->kind->initial(key);
			if (is_as_found(s, &sites[i], initial))
				batch_add(s, &sites[i], initial, s->kind->load(key));
			else
				sites[i].why = SHUNT_WHY_FOREIGN;
		}
		ret = shunt_poke_batch(batch.pokes, batch.n, &change, report);
		batch_end();
	}
	for (uint32_t i = 0; ret && i < n; i++)
		if (sites[i].why == SHUNT_WHY_NEW ||
		    (all && sites[i].baked && is_direct(&sites[i])))
			sites[i].why = SHUNT_WHY_WRITE;
	if (s->kind->flags)
		find_stale(s, report);
	return ret;
}

/* Set while keys and sites are being linked: a copy of the process finds them half linked. */
static volatile bool linking;

int shunt_sites_repair(void)
{
	if (linking)
		return -SHUNT_EIO;
	shunt_poke_repair();
	end(&going_on, going_on.n);
	going_on.n = 0;
	return 0;
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

	for (uint32_t i = 0; i < s->table.nr_sites; i++)
		if (sites[i].why == SHUNT_WHY_UNBOUND && s->kind->key(s, &sites[i]))
			sites[i].why = SHUNT_WHY_NEW;
	linking = true;
	link_mods(s);
	linking = false;
	return promote(s, false, report);
}

static void unlink_mod(const struct shunt_sites *s, struct shunt_mod *mod)
{
	struct shunt_mod **p = s->kind->mods(mod->key);

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
	struct shunt_mod **head = kind->mods(key);

	linking = true;
	for (struct shunt_mod *mod = *head; mod; mod = mod->next)
		mod->key = NULL;
	*head = NULL;
	linking = false;
}
