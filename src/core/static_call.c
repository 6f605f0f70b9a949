/* SPDX-License-Identifier: MIT */
/*
 * Static calls: a key, its sites, and the change of all of them at once. After
 * kernel/static_call_inline.c and arch/x86/kernel/static_call.c of Linux, which
 * poke one site at a time; here a key's sites are one batch.
 *
 * A key's function pointer is what everything follows: the trampoline jumps
 * through it, a trap emulates a call of it, and storing it is the commit of an
 * update. Hence nothing is published for the trap handler, and an int3 that is
 * left standing does the right thing.
 */
#include "core/static_call.h"
#include "core/error.h"
#include "core/poke.h"
#include "core/sort.h"

typedef void (*func_t)(void);

static func_t load_func(const struct static_call_key *key)
{
	/* Pairs with store_func(): who sees the function sees what was set up for it. */
	return __atomic_load_n(&key->func, __ATOMIC_ACQUIRE);
}

static void store_func(struct static_call_key *key, func_t func)
{
	__atomic_store_n(&key->func, func, __ATOMIC_RELEASE);
}

/* ------------------------------------------- what a site is for a function */

static bool is_call(unsigned kind)
{
	return kind == SHUNT_SITE_CALL || kind == SHUNT_SITE_CALL_GOT;
}

/*
 * The instruction for a site of a key whose function is @func. A tail call has no
 * RET0 form: its caller's caller takes the result, so it jumps to the helper. A
 * conditional tail call has no NULL form either.
 */
static void direct(const struct shunt_site *site, func_t func, struct shunt_insn *out)
{
	unsigned kind = shunt_site_kind(site);

	out->len = (uint8_t)shunt_site_len(kind);
	out->cc = 0;
	out->target = (uintptr_t)func;
	if (is_call(kind)) {
		out->op = func == __static_call_nop                       ? SHUNT_OP_NOP
			  : (void *)func == (void *)__static_call_return0 ? SHUNT_OP_RET0
									  : SHUNT_OP_CALL;
	} else if (kind == SHUNT_SITE_JCC) {
		out->op = SHUNT_OP_JCC;
		out->cc = (uint8_t)shunt_site_cc(site);
	} else if (func == __static_call_nop) {
		out->op = SHUNT_OP_RET;
	} else {
		out->op = SHUNT_OP_JMP;
		out->len = 5;
	}
}

void static_call_original(const struct static_call_table *t, const struct shunt_site *site,
			  struct shunt_insn *out)
{
	static const uint8_t op[] = {
		[SHUNT_SITE_CALL] = SHUNT_OP_CALL, [SHUNT_SITE_CALL_GOT] = SHUNT_OP_CALL_MEM,
		[SHUNT_SITE_JMP] = SHUNT_OP_JMP,   [SHUNT_SITE_JMP_GOT] = SHUNT_OP_JMP_MEM,
		[SHUNT_SITE_JCC] = SHUNT_OP_JCC,
	};
	const struct static_call_mod *mod = &t->mods[site->owner];
	unsigned kind = shunt_site_kind(site);

	out->op = op[kind];
	out->len = (uint8_t)shunt_site_len(kind);
	out->cc = (uint8_t)shunt_site_cc(site);
	out->target =
		kind == SHUNT_SITE_CALL_GOT || kind == SHUNT_SITE_JMP_GOT ? mod->slot : mod->tramp;
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

/*
 * The bytes of a site for @func: the direct form, or the original one where the
 * target is out of reach. Returns why it is not inline, or SHUNT_INLINE.
 */
static enum shunt_why bytes_for(const struct static_call_table *t, const struct shunt_site *site,
				func_t func, uint8_t bytes[SHUNT_SITE_MAX])
{
	const uint8_t *addr = shunt_site_addr(&t->table, site);
	unsigned len = shunt_site_len(shunt_site_kind(site));
	struct shunt_insn insn;

	direct(site, func, &insn);
	if (!encode(&insn, addr, len, bytes))
		return SHUNT_INLINE;
	static_call_original(t, site, &insn);
	(void)encode(&insn, addr, len, bytes); /* it stood there, so it reaches */
	return SHUNT_WHY_FAR;
}

/* shunt_table.insn: what a trap at the site emulates. */
static void current_insn(const struct shunt_table *table, const struct shunt_site *site,
			 struct shunt_insn *out)
{
	const struct static_call_table *t = (const struct static_call_table *)table;

	direct(site, load_func(t->mods[site->owner].key), out);
}

/* ------------------------------------------------------------------ batches */

/* One batch at a time, guarded by the update lock; most have room here. */
static struct {
	struct shunt_poke few[16];
	struct shunt_poke *pokes;
	size_t n, max;
} batch;

static int batch_begin(size_t max)
{
	batch.n = 0;
	batch.max = max;
	batch.pokes = batch.few;
	if (max > sizeof(batch.few) / sizeof(batch.few[0]))
		batch.pokes = shunt_port_alloc(max * sizeof(batch.pokes[0]));
	return batch.pokes ? 0 : -SHUNT_ENOMEM;
}

static void batch_end(void)
{
	if (batch.pokes != batch.few)
		shunt_port_free(batch.pokes, batch.max * sizeof(batch.pokes[0]));
}

/* The bytes that stand at the site now, if nobody else has been there. */
static void current_bytes(const struct static_call_table *t, const struct shunt_site *site,
			  func_t func, uint8_t bytes[SHUNT_SITE_MAX])
{
	struct shunt_insn insn;

	if (site->why == SHUNT_INLINE) {
		(void)bytes_for(t, site, func, bytes);
		return;
	}
	static_call_original(t, site, &insn);
	(void)encode(&insn, shunt_site_addr(&t->table, site), shunt_site_len(shunt_site_kind(site)),
		     bytes);
}

static bool differ(const struct shunt_poke *p)
{
	for (unsigned i = 0; i < p->len; i++)
		if (p->old[i] != p->new[i])
			return true;
	return false;
}

/* Add the change of @site from @from to @to, if there is any to its bytes. */
static void batch_add(const struct static_call_table *t, struct shunt_site *site, func_t from,
		      func_t to)
{
	struct shunt_poke *p = &batch.pokes[batch.n];

	p->addr = shunt_site_addr(&t->table, site);
	p->site = site;
	p->len = (uint8_t)shunt_site_len(shunt_site_kind(site));
	p->tag = (uint8_t)bytes_for(t, site, to, p->new);
	current_bytes(t, site, from, p->old);
	if (differ(p) || atomic_load_explicit(&site->poked, memory_order_relaxed))
		batch.n++;
	else
		site->why = p->tag; /* the same bytes either way: the trampoline */
}

static void batch_done(void)
{
	for (size_t i = 0; i < batch.n; i++)
		batch.pokes[i].site->why = batch.pokes[i].tag;
}

/* ------------------------------------------------------------------- update */

struct update {
	struct shunt_change change;
	struct static_call_key *key;
	func_t from, to;
};

static void commit(struct shunt_change *change)
{
	struct update *u = (struct update *)change;

	store_func(u->key, u->to);
}

static void revert(struct shunt_change *change)
{
	struct update *u = (struct update *)change;

	store_func(u->key, u->from);
}

/* A site that is left on the trampoline for good. */
static bool is_left_alone(const struct shunt_site *site)
{
	return site->why == SHUNT_WHY_FOREIGN || site->why == SHUNT_WHY_WRITE;
}

static size_t count_sites(const struct static_call_key *key)
{
	size_t n = 0;

	for (const struct static_call_mod *mod = key->mods; mod; mod = mod->next)
		n += mod->nr_sites;
	return n;
}

static void collect(const struct update *u)
{
	for (const struct static_call_mod *mod = u->key->mods; mod; mod = mod->next) {
		struct static_call_table *t = mod->table;
		struct shunt_site *sites = t->table.sites;

		for (uint32_t i = mod->first; i; i = sites[i - 1].next)
			if (!is_left_alone(&sites[i - 1]))
				batch_add(t, &sites[i - 1], u->from, u->to);
	}
}

static int update_locked(struct static_call_key *key, func_t func, struct shunt_report *report)
{
	struct update u = {{commit, revert}, key, load_func(key), func};
	int ret;

	if (u.from == u.to)
		return 0;
	ret = batch_begin(count_sites(key));
	if (ret) {
		report->error = ret;
		report->what = "allocate a batch";
		return ret;
	}
	collect(&u);
	ret = shunt_poke_batch(batch.pokes, batch.n, &u.change, report);
	if (!ret)
		batch_done();
	batch_end();
	return ret;
}

int __static_call_update(struct static_call_key *key, func_t func)
{
	struct shunt_report report = {0};
	int ret = -SHUNT_EINVAL;

	if (!key) {
		report.what = "static_call_update: no key";
	} else if (!func && !(key->flags & STATIC_CALL_NULLABLE)) {
		report.what = "static_call_update: NULL, but the key was not defined as nullable";
	} else {
		ret = shunt_port_lock();
		if (ret) {
			report.what = "static_call_update within an update of the same thread";
		} else {
			ret = update_locked(key, func ? func : __static_call_nop, &report);
			shunt_port_unlock();
		}
	}
	if (ret)
		report.error = ret;
	if (report.error) {
		report.key = key ? key->name : NULL;
		shunt_port_report(&report);
	}
	return ret;
}

void *__static_call_query(const struct static_call_key *key)
{
	func_t func = load_func(key);

	return func == __static_call_nop ? NULL : (void *)func;
}

/* ------------------------------------------------------------------ modules */

static uintptr_t offset(const void *site)
{
	return ((const struct shunt_site *)site)->off;
}

/* Chain each key's sites, in ascending order, and enter the module in the key. */
static void link_sites(struct static_call_table *t, struct shunt_site *sites, uint32_t n)
{
	for (uint32_t i = n; i-- > 0;) {
		struct static_call_mod *mod = &t->mods[sites[i].owner];

		sites[i].why = SHUNT_WHY_NEW;
		sites[i].next = mod->first;
		mod->first = i + 1;
		mod->nr_sites++;
	}
	for (uint32_t i = 0; i < t->nr_mods; i++) {
		struct static_call_mod *mod = &t->mods[i];

		mod->table = t;
		mod->next = mod->key->mods;
		mod->key->mods = mod;
	}
}

/* The change of a promotion: every site gets what it had, without the detour. */
static void nothing(struct shunt_change *change)
{
	(void)change;
}

static bool is_as_linked(const struct static_call_table *t, const struct shunt_site *site)
{
	const uint8_t *addr = shunt_site_addr(&t->table, site);
	unsigned len = shunt_site_len(shunt_site_kind(site));
	uint8_t bytes[SHUNT_SITE_MAX] = {0};

	current_bytes(t, site, NULL, bytes);
	for (unsigned i = 0; i < len; i++)
		if (addr[i] != bytes[i])
			return false;
	return true;
}

static int promote(struct static_call_table *t, struct shunt_report *report)
{
	struct shunt_change change = {nothing, nothing};
	struct shunt_site *sites = t->table.sites;
	uint32_t n = t->table.nr_sites;
	int ret = batch_begin(n);

	if (ret) {
		report->error = ret;
		report->what = "allocate a batch";
	} else {
		for (uint32_t i = 0; i < n; i++) {
			func_t func = load_func(t->mods[sites[i].owner].key);

			if (is_as_linked(t, &sites[i]))
				batch_add(t, &sites[i], func, func);
			else
				sites[i].why = SHUNT_WHY_FOREIGN;
		}
		ret = shunt_poke_batch(batch.pokes, batch.n, &change, report);
		if (!ret)
			batch_done();
		batch_end();
	}
	for (uint32_t i = 0; ret && i < n; i++)
		if (sites[i].why == SHUNT_WHY_NEW)
			sites[i].why = SHUNT_WHY_WRITE;
	return ret;
}

int static_call_add(struct static_call_table *t, uintptr_t base, struct shunt_site *sites,
		    uint32_t nr_sites, struct shunt_report *report)
{
	int ret = shunt_port_lock();

	if (ret) {
		report->error = ret;
		report->what = "module registered within an update of the same thread";
		return ret;
	}
	shunt_sort(sites, nr_sites, sizeof(sites[0]), offset);
	link_sites(t, sites, nr_sites);
	t->table.insn = current_insn;
	shunt_table_publish(&t->table, base, sites, nr_sites);
	ret = promote(t, report);
	shunt_port_unlock();
	return ret;
}

static void unlink_mod(struct static_call_mod *mod)
{
	struct static_call_mod **p = &mod->key->mods;

	while (*p && *p != mod)
		p = &(*p)->next;
	if (*p)
		*p = mod->next;
}

int static_call_remove(struct static_call_table *t)
{
	int ret = shunt_port_lock();

	if (ret)
		return ret;
	shunt_table_withdraw(&t->table);
	for (uint32_t i = 0; i < t->nr_mods; i++)
		unlink_mod(&t->mods[i]);
	/* The keys may be unmapped before the table is used again, or removed again. */
	t->nr_mods = 0;
	shunt_port_unlock();
	return 0;
}
