/* SPDX-License-Identifier: MIT */
/* What a key's value makes of a site: its bytes, and a poke of them, in a batch of many. */
#include "core/site_batch.h"
#include "core/error.h"

/* ---------------------------------------------------- the bytes of one site */

static inline bool is_plain_op(unsigned op)
{
	return op == SHUNT_OP_CALL || op == SHUNT_OP_JMP || op == SHUNT_OP_TEST;
}

/* As shunt_insn_encode_site(): most are a plain call or jmp. */
static inline int encode(const struct shunt_insn *insn, uintptr_t addr, unsigned len,
			 uint8_t bytes[SHUNT_SITE_MAX])
{
	if (len == SHUNT_PLAIN_LEN && is_plain_op(insn->op))
		return shunt_insn_plain(insn->op, insn->target, addr, bytes) ? 0 : -SHUNT_ERANGE;
	return shunt_insn_encode_site(insn, addr, len, bytes);
}

static void linked_bytes(const struct shunt_sites *s, const struct shunt_site *site,
			 uint8_t bytes[SHUNT_SITE_MAX])
{
	struct shunt_insn insn;

	s->kind->linked(s, site, &insn);
	(void)encode(&insn, (uintptr_t)shunt_site_addr(&s->table, site),
		     shunt_site_len(shunt_site_kind(site)),
		     bytes); /* it stood there, so it reaches */
}

/* Whether the site is switched off by @insn. */
static bool is_off(const struct shunt_insn *insn)
{
	return insn->op == SHUNT_OP_TEST || insn->op == SHUNT_OP_RET;
}

/* The off form that has no displacement: a nop; a ret, and int3 behind it. */
static void bare_bytes(struct shunt_insn *insn, uintptr_t addr, unsigned len, uint8_t *bytes)
{
	if (insn->op == SHUNT_OP_TEST)
		insn->op = SHUNT_OP_NOP;
	insn->target = 0;
	insn->len = (uint8_t)len;
	(void)encode(insn, addr, len, bytes);
}

/* Through a veneer. With @may_be_far false there is none, whatever the port says today. */
static bool far_bytes(struct shunt_insn insn, uintptr_t addr, unsigned len, bool may_be_far,
		      uint8_t *bytes)
{
	insn.target = may_be_far ? shunt_port_veneer(addr, insn.target) : 0;
	return insn.target && !encode(&insn, addr, len, bytes);
}

/*
 * The bytes of @insn at a site: the direct form; through a veneer where the target is out of
 * reach; or where no veneer is to be had, what the linker left. Returns which.
 *
 * What is off keeps the displacement that it had, near or far, so that one byte switches it
 * on again; where there is no veneer it has none. As a veneer may be had later, what an
 * inline site is does not hang on it: hence SHUNT_INLINE_OFF.
 */
static enum shunt_why bytes_of(const struct shunt_sites *s, const struct shunt_site *site,
			       struct shunt_insn *insn, bool may_be_far,
			       uint8_t bytes[SHUNT_SITE_MAX])
{
	uintptr_t addr = (uintptr_t)shunt_site_addr(&s->table, site);
	unsigned len = shunt_site_len(shunt_site_kind(site));

	if (!encode(insn, addr, len, bytes))
		return SHUNT_INLINE;
	if (far_bytes(*insn, addr, len, may_be_far, bytes))
		return is_off(insn) ? SHUNT_INLINE_OFF : SHUNT_WHY_FAR;
	if (is_off(insn)) {
		bare_bytes(insn, addr, len, bytes);
		return SHUNT_INLINE;
	}
	linked_bytes(s, site, bytes);
	return SHUNT_WHY_TOO_FAR;
}

static enum shunt_why bytes_for(const struct shunt_sites *s, const struct shunt_site *site,
				uintptr_t value, uint8_t bytes[SHUNT_SITE_MAX])
{
	struct shunt_insn insn;

	s->kind->direct(s, site, value, &insn);
	return bytes_of(s, site, &insn, true, bytes);
}

/*
 * What `shunt bake` wrote, which no update has changed: what is off leads to the trampoline,
 * wherever the key has led since.
 */
static void baked_bytes(const struct shunt_sites *s, const struct shunt_site *site,
			uint8_t bytes[SHUNT_SITE_MAX])
{
	const struct shunt_mod *mod = &s->mods[site->owner];
	struct shunt_insn insn;

	s->kind->direct(s, site, shunt_key_initial(s->kind, s->kind->key(s, site)), &insn);
	if (is_off(&insn))
		insn.target = mod->baked_bare ? 0 : mod->tramp;
	if (is_off(&insn) && !insn.target)
		bare_bytes(&insn, (uintptr_t)shunt_site_addr(&s->table, site),
			   shunt_site_len(shunt_site_kind(site)), bytes);
	else
		(void)bytes_of(s, site, &insn, true, bytes);
}

void shunt_site_bytes(const struct shunt_sites *s, const struct shunt_site *site, uintptr_t value,
		      uint8_t bytes[SHUNT_SITE_MAX])
{
	struct shunt_insn insn;

	if (shunt_site_is_direct(site)) {
		s->kind->direct(s, site, value, &insn);
		(void)bytes_of(s, site, &insn, site->why != SHUNT_INLINE, bytes);
	} else if (shunt_site_is_stale(site)) {
		baked_bytes(s, site, bytes);
	} else {
		linked_bytes(s, site, bytes);
	}
}

enum shunt_why shunt_site_why_now(const struct shunt_sites *s, const struct shunt_site *site)
{
	uintptr_t value = shunt_key_value(s->kind, s->kind->key(s, site));
	const uint8_t *addr = shunt_site_addr(&s->table, site);
	uint8_t bytes[SHUNT_SITE_MAX] = {0};
	enum shunt_why why = bytes_for(s, site, value, bytes);

	for (unsigned i = 0; i < shunt_site_len(shunt_site_kind(site)); i++)
		if (addr[i] != bytes[i])
			return SHUNT_WHY_WRITE;
	return why;
}

/* ------------------------------------------------------------------ batches */

/* One batch at a time, guarded by the update lock; most have room here. */
static struct {
	struct shunt_poke few[16];
	struct shunt_poke *pokes;
	size_t n, max;
	size_t same; /* sites whose bytes do not change: the last ones of pokes */
} batch;

int shunt_site_batch_begin(size_t max, struct shunt_report *report)
{
	batch.n = batch.same = 0;
	batch.max = max;
	batch.pokes = batch.few;
	if (max > sizeof(batch.few) / sizeof(batch.few[0]))
		batch.pokes = shunt_port_alloc(max * sizeof(batch.pokes[0]));
	if (batch.pokes)
		return 0;
	report->error = shunt_port_no_memory();
	report->what = "allocate a batch";
	return shunt_port_no_memory();
}

int shunt_site_batch_poke(struct shunt_change *change, struct shunt_report *report)
{
	int ret = shunt_poke_batch(batch.pokes, batch.n, change, report);

	if (batch.pokes != batch.few)
		shunt_port_free(batch.pokes, batch.max * sizeof(batch.pokes[0]));
	return ret;
}

static bool differ(const struct shunt_poke *p)
{
	for (unsigned i = 0; i < p->len; i++)
		if (p->old[i] != p->new[i])
			return true;
	return false;
}

bool shunt_site_batch_add_plain(const struct shunt_sites *s, struct shunt_site *site,
				uintptr_t from, uintptr_t to)
{
	struct shunt_poke *p = &batch.pokes[batch.n];
	uint8_t *addr = shunt_site_addr(&s->table, site);
	bool is_call = shunt_site_kind(site) == SHUNT_KIND_CALL;
	unsigned op = is_call ? SHUNT_OP_CALL : SHUNT_OP_JMP;

	if (site->why != SHUNT_INLINE || (!is_call && shunt_site_kind(site) != SHUNT_KIND_JMP) ||
	    !shunt_insn_plain(op, from, (uintptr_t)addr, p->old) ||
	    !shunt_insn_plain(op, to, (uintptr_t)addr, p->new))
		return false;
	p->addr = addr;
	p->site = site;
	p->len = SHUNT_PLAIN_LEN;
	p->tag = SHUNT_INLINE;
	batch.n++;
	return true;
}

bool shunt_site_batch_add_flip(const struct shunt_sites *s, struct shunt_site *site, uintptr_t to)
{
	uint32_t at = (uint32_t)(site - s->table.sites) + 1;
	bool is_flip = s->kind->flips && s->kind->flips(s, &at, to, &batch.pokes[batch.n], 1);

	batch.n += is_flip;
	return is_flip;
}

void shunt_site_poke(const struct shunt_sites *s, struct shunt_site *site, uintptr_t from,
		     uintptr_t to, struct shunt_poke *p)
{
	p->addr = shunt_site_addr(&s->table, site);
	p->site = site;
	p->len = (uint8_t)shunt_site_len(shunt_site_kind(site));
	p->tag = (uint8_t)bytes_for(s, site, to, p->new);
	shunt_site_bytes(s, site, from, p->old);
}

void shunt_site_batch_add(const struct shunt_sites *s, struct shunt_site *site, uintptr_t from,
			  uintptr_t to, bool always)
{
	struct shunt_poke *p = &batch.pokes[batch.n];

	shunt_site_poke(s, site, from, to, p);
	if (always || differ(p) || atomic_load_explicit(&site->poked, memory_order_relaxed)) {
		batch.n++;
	} else {
		struct shunt_poke *same = &batch.pokes[batch.max - ++batch.same];

		same->tag = p->tag;
		same->site = site;
	}
}

void shunt_site_batch_done(struct shunt_change *change)
{
	(void)change;
	for (size_t i = 0; i < batch.n; i++)
		batch.pokes[i].site->why = batch.pokes[i].tag;
	for (size_t i = batch.max - batch.same; i < batch.max; i++)
		batch.pokes[i].site->why = batch.pokes[i].tag;
}
