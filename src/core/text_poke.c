/* SPDX-License-Identifier: MIT */
/* Pokes for others, at sites that are nobody's key (text_site.c has their records). */
#include <shunt/text_poke.h>

#include "core/error.h"
#include "core/key.h"
#include "core/poke.h"
#include "core/site_table.h"
#include "core/text_site.h"

/* ------------------------------------------------------------------- the batch */

struct text_change {
	struct shunt_change change;
	struct shunt_poke *pokes;
	size_t n;
};

static struct shunt_text_site *site_of(const struct shunt_poke *poke)
{
	return (struct shunt_text_site *)((char *)poke->site -
					  offsetof(struct shunt_text_site, site));
}

static void commit(struct shunt_change *change)
{
	struct text_change *c = (struct text_change *)change;

	for (size_t i = 0; i < c->n; i++) {
		struct shunt_text_site *s = site_of(&c->pokes[i]);

		atomic_store_explicit(&s->insn, s->next_insn, memory_order_release);
	}
}

static void revert(struct shunt_change *change)
{
	struct text_change *c = (struct text_change *)change;

	for (size_t i = 0; i < c->n; i++) {
		struct shunt_text_site *s = site_of(&c->pokes[i]);

		atomic_store_explicit(&s->insn, s->last_insn, memory_order_release);
	}
}

static int refuse(struct shunt_report *report, const struct text_poke *in, const char *what,
		  int error)
{
	report->error = error;
	report->what = what;
	report->site = in->addr;
	return error;
}

static void copy(uint8_t *to, const uint8_t *from, size_t len)
{
	for (size_t i = 0; i < SHUNT_SITE_MAX; i++)
		to[i] = i < len ? from[i] : 0;
}

/*
 * What stands at the site, by the record if a poke that could not be undone has left
 * an int3 there.
 */
static int old_insn(const struct text_poke *in, const struct shunt_text_site *s, uint64_t *word)
{
	if (atomic_load_explicit(&s->site.poked, memory_order_relaxed)) {
		*word = atomic_load_explicit(&s->insn, memory_order_relaxed);
		return 0;
	}
	/* That @old is what stands there is seen to by the poke. */
	return shunt_text_insn_decode(in->old ? in->old : in->addr, in->len, (uintptr_t)in->addr,
				      word);
}

static int new_insn(const struct text_poke *in, const void *bytes, uint64_t *word)
{
	return shunt_text_insn_decode(bytes, in->len, (uintptr_t)in->addr, word);
}

enum { OLD, NEW, EMULATED };

static int refuse_insn(struct shunt_report *report, const struct text_poke *in, int which,
		       int error)
{
	static const char *const whats[][2] = {
		[OLD] = {"text_poke: the old instruction is none that a site can have",
			 "text_poke: the target of the old instruction is above 2^47"},
		[NEW] = {"text_poke: the new instruction is none that a site can have",
			 "text_poke: the target of the new instruction is above 2^47"},
		[EMULATED] = {"text_poke: the instruction to emulate is none that a site can have",
			      "text_poke: the target of the one to emulate is above 2^47"},
	};

	return refuse(report, in, whats[which][error == -SHUNT_ERANGE], error);
}

/* Whether the instruction that @s has been poked to still stands there. */
static bool is_still_there(const struct shunt_text_site *s, uint64_t is, size_t len)
{
	struct shunt_write at = {.addr = (uint8_t *)s->addr, .len = (uint8_t)len};
	uint64_t word;

	if (atomic_load_explicit(&s->site.poked, memory_order_relaxed))
		return true;
	return !shunt_port_text_check(&at, 1, sizeof(at)) &&
	       !shunt_text_insn_decode((const uint8_t *)s->addr, len, s->addr, &word) && word == is;
}

/*
 * Whether a site at @addr would have a byte of another one, of an earlier call. Where the program
 * has put something else there since, without text_poke_forget(), that is none any more.
 */
static bool is_in_another(uintptr_t addr, size_t len)
{
	for (uintptr_t at = addr - SHUNT_SITE_MAX + 1; at != addr + len; at++) {
		struct shunt_text_site *s = at == addr ? NULL : shunt_text_site_at(at);
		uint64_t word = s ? atomic_load_explicit(&s->insn, memory_order_relaxed) : 0;
		struct shunt_insn insn;

		if (!word)
			continue;
		shunt_text_insn_unpack(word, &insn);
		if ((at > addr || addr - at < insn.len) && is_still_there(s, word, insn.len))
			return true;
	}
	return false;
}

#define NUMBER(n)  #n
#define TEXT_OF(n) NUMBER(n)

/* What is wrong with a site by itself, or NULL. */
static const char *bad_place(const struct text_poke *in)
{
	if (!in->addr)
		return "text_poke: the address is NULL";
	if (!in->insn)
		return "text_poke: the new instruction is NULL";
	if (!in->len || in->len > SHUNT_SITE_MAX || in->len % SHUNT_INSN_ALIGN)
		return "text_poke: no site has that length";
	if ((uintptr_t)in->addr % SHUNT_INSN_ALIGN)
		return "text_poke: the address is not a multiple of " TEXT_OF(SHUNT_INSN_ALIGN);
	return NULL;
}

/* Where each site is, and whether it can be read there: asked of all together, page by page. */
static int find_text(const struct text_poke *in, struct shunt_poke *pokes, size_t n,
		     struct shunt_report *report)
{
	int ret;

	for (size_t i = 0; i < n; i++) {
		const char *bad = bad_place(&in[i]);

		if (bad)
			return refuse(report, &in[i], bad, -SHUNT_EINVAL);
		/* Behind the end of the address space. */
		if ((uintptr_t)in[i].addr + in[i].len < (uintptr_t)in[i].addr)
			return refuse(report, &in[i], "text_poke: read the site", -SHUNT_EFAULT);
		pokes[i].addr = in[i].addr;
		pokes[i].len = (uint8_t)in[i].len;
	}
	ret = shunt_port_text_check(&pokes[0].to, n, sizeof(pokes[0]));
	for (size_t i = 0; i < n && ret; i++)
		if (i + 1 == n || shunt_port_text_check(&pokes[i].to, 1, sizeof(pokes[0])))
			return refuse(report, &in[i], "text_poke: read the site", ret);
	return ret;
}

static int prepare(const struct text_poke *in, struct shunt_poke *out, struct shunt_report *report)
{
	uintptr_t addr = (uintptr_t)in->addr;
	struct shunt_text_site *s;
	int ret;

	if (shunt_site_overlaps(addr, in->len))
		return refuse(report, in, "text_poke: the site belongs to a key", -SHUNT_EINVAL);
	if (shunt_port_overlaps_trampoline(addr, in->len))
		return refuse(report, in, "text_poke: the site is in a static call's trampoline",
			      -SHUNT_EINVAL);
	if (is_in_another(addr, in->len))
		return refuse(report, in, "text_poke: the site overlaps one of an earlier call",
			      -SHUNT_EINVAL);
	s = shunt_text_site_make(addr);
	if (!s)
		return refuse(report, in, "text_poke: allocate a record", shunt_port_no_memory());
	ret = old_insn(in, s, &s->last_insn);
	if (ret)
		return refuse_insn(report, in, OLD, ret);
	ret = new_insn(in, in->insn, &s->next_insn);
	if (ret)
		return refuse_insn(report, in, NEW, ret);
	ret = in->emulate ? new_insn(in, in->emulate, &s->next_insn) : 0;
	if (ret)
		return refuse_insn(report, in, EMULATED, ret);
	out->site = &s->site;
	copy(out->old, in->old ? in->old : in->addr, in->len);
	copy(out->new, in->insn, in->len);
	return 0;
}

static int poke_locked(const struct text_poke *in, struct shunt_poke *pokes, size_t n,
		       struct shunt_report *report)
{
	/* As an update's (update.c): not on the stack, where whoever is to take it back finds it.
	 */
	static struct text_change change = {.change = {commit, revert, NULL, NULL}};
	int ret = find_text(in, pokes, n, report);

	for (size_t i = 0; i < n && !ret; i++)
		ret = prepare(&in[i], &pokes[i], report);
	if (ret)
		return ret;
	change.pokes = pokes;
	change.n = n;
	/* What the handler emulates until the commit. */
	revert(&change.change);
	return shunt_poke_batch(pokes, n, &change.change, report);
}

static void read_bytes(const void *bytes, size_t len)
{
	for (size_t i = 0; bytes && i < len; i++)
		(void)((const volatile uint8_t *)bytes)[i];
}

/*
 * Where what the caller has given cannot be read, that is found out here: a handler of the fault
 * may leave by longjmp(), and would take the lock with it.
 */
static void read_all(const struct text_poke *in, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct text_poke poke = *(const volatile struct text_poke *)&in[i];
		size_t len = poke.len <= SHUNT_SITE_MAX ? poke.len : 0;

		read_bytes(poke.insn, len);
		read_bytes(poke.old, len);
		read_bytes(poke.emulate, len);
	}
}

int text_poke_bp_batch(const struct text_poke *in, size_t n)
{
	static struct shunt_poke few[8]; /* update lock */
	bool is_few = n <= sizeof(few) / sizeof(few[0]);
	struct shunt_report report = {0};
	struct shunt_poke *pokes = NULL;
	int ret;

	if (!n)
		return 0;
	if (!in)
		return shunt_refuse("text_poke: no pokes", NULL);
	if (n <= SIZE_MAX / sizeof(*pokes))
		read_all(in, n);
	ret = shunt_port_lock();
	if (ret) {
		report.what = ret == -SHUNT_EDEADLK
				      ? "text_poke within an update of the same thread"
				      : "take the update lock";
		return shunt_report_result(&report, ret);
	}
	shunt_port_sites_wanted(); /* those of keys are refused */
	if (n <= SIZE_MAX / sizeof(*pokes))
		pokes = is_few ? few : shunt_port_alloc(n * sizeof(*pokes));
	report.what = pokes ? NULL : "text_poke: allocate a batch";
	ret = pokes ? poke_locked(in, pokes, n, &report) : shunt_port_no_memory();
	if (!is_few)
		shunt_port_free(pokes, n * sizeof(*pokes));
	shunt_port_unlock();
	return shunt_report_result(&report, ret);
}

int(text_poke_bp)(void *addr, const void *insn, size_t len, const void *emulate)
{
	struct text_poke one = {addr, insn, len, NULL, emulate};

	return text_poke_bp_batch(&one, 1);
}

void text_poke_forget(const void *addr, size_t len)
{
	if (shunt_port_lock())
		return;
	shunt_text_sites_forget((uintptr_t)addr, len);
	shunt_port_unlock();
}
