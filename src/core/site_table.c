/* SPDX-License-Identifier: MIT */
/*
 * The tables that lead from a trapping address to its site (site_table.h). Readers are
 * trap handlers: they take no lock and may be delayed for ever.
 */
#include "core/site_table.h"
#include "core/text_site.h"

/* All tables ever published; grows at the head, never shrinks. */
static _Atomic(struct shunt_table *) tables;

/*
 * Writer's side of the sequence count; the reader is find_in(). The fences order
 * the stores of the fields between the two stores of seq, so that a reader
 * that saw any of them sees a changed seq behind them.
 */
static void change_begin(struct shunt_table *table)
{
	unsigned seq = atomic_load_explicit(&table->seq, memory_order_relaxed);

	atomic_store_explicit(&table->seq, seq + 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
}

static void change_end(struct shunt_table *table)
{
	unsigned seq = atomic_load_explicit(&table->seq, memory_order_relaxed);

	atomic_store_explicit(&table->seq, seq + 1, memory_order_release);
}

static bool is_listed(const struct shunt_table *table)
{
	const struct shunt_table *t = atomic_load_explicit(&tables, memory_order_relaxed);

	while (t && t != table)
		t = t->next;
	return t;
}

void shunt_table_publish(struct shunt_table *table, uintptr_t base, struct shunt_site *sites,
			 uint32_t nr_sites)
{
	change_begin(table);
	atomic_store_explicit(&table->base, base, memory_order_relaxed);
	atomic_store_explicit(&table->sites, sites, memory_order_relaxed);
	atomic_store_explicit(&table->nr_sites, nr_sites, memory_order_relaxed);
	change_end(table);

	if (is_listed(table))
		return;
	table->next = atomic_load_explicit(&tables, memory_order_relaxed);
	/* Pairs with the acquire load in shunt_site_find(). */
	atomic_store_explicit(&tables, table, memory_order_release);
}

void shunt_table_withdraw(struct shunt_table *table)
{
	change_begin(table);
	atomic_store_explicit(&table->nr_sites, 0, memory_order_relaxed);
	change_end(table);
}

/* The first site at @off or behind it; @n: there is none. */
static uint32_t first_from(const struct shunt_site *sites, uint32_t n, uintptr_t off)
{
	uint32_t low = 0, high = n;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (sites[mid].off < off)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static struct shunt_site *search(struct shunt_site *sites, uint32_t n, uintptr_t off)
{
	uint32_t i = first_from(sites, n, off);

	return i < n && sites[i].off == off ? &sites[i] : NULL;
}

/* Whether @table still is as it was when @seq was read. Pairs with change_begin(). */
static bool unchanged(struct shunt_table *table, unsigned seq)
{
	atomic_thread_fence(memory_order_acquire);
	return atomic_load_explicit(&table->seq, memory_order_relaxed) == seq;
}

/*
 * Look @addr up in one table. The fields are a whole only if the table stood still
 * while they were read, and the array is theirs only if it still does afterwards.
 */
static struct shunt_site *find_in(struct shunt_table *table, uintptr_t addr)
{
	for (;;) {
		/* Pairs with change_end(). */
		unsigned seq = atomic_load_explicit(&table->seq, memory_order_acquire);
		uintptr_t base = atomic_load_explicit(&table->base, memory_order_relaxed);
		struct shunt_site *sites =
			atomic_load_explicit(&table->sites, memory_order_relaxed);
		uint32_t n = atomic_load_explicit(&table->nr_sites, memory_order_relaxed);
		struct shunt_site *site;

		if (seq & 1)
			return NULL; /* none of its sites can be in a poke now */
		if (!unchanged(table, seq))
			continue;
		site = search(sites, n, addr - base);
		if (unchanged(table, seq))
			return site;
	}
}

struct shunt_site *shunt_site_find_key(uintptr_t addr, struct shunt_insn *insn)
{
	/* Pairs with the release store in shunt_table_publish(). */
	struct shunt_table *table = atomic_load_explicit(&tables, memory_order_acquire);

	for (; table; table = table->next) {
		struct shunt_site *site = find_in(table, addr);

		if (!site)
			continue;
		/* The trapped thread is in this module, so it does not go away now. */
		return table->insn(table, site, insn) ? site : NULL;
	}
	return NULL;
}

struct shunt_site *shunt_site_find(uintptr_t addr, struct shunt_insn *insn)
{
	struct shunt_site *site = shunt_site_find_key(addr, insn);

	return site ? site : shunt_text_site_find(addr, insn);
}

/* Whether a byte of [addr, addr + len) is of a site of @table that has a key, or may get one. */
static bool touches(const struct shunt_table *table, uintptr_t addr, size_t len)
{
	uintptr_t base = table->base, from = addr - (SHUNT_SITE_MAX - 1);
	const struct shunt_site *site = table->sites, *end = site + table->nr_sites;
	struct shunt_insn unused;

	if (from > base)
		site += first_from(table->sites, table->nr_sites, from - base);
	for (; site < end && base + site->off < addr + len; site++)
		if (base + site->off + shunt_site_len(shunt_site_kind(site)) > addr &&
		    (site->why == SHUNT_WHY_UNBOUND || table->insn(table, site, &unused)))
			return true;
	return false;
}

bool shunt_site_overlaps(uintptr_t addr, size_t len)
{
	const struct shunt_table *t = atomic_load_explicit(&tables, memory_order_relaxed);

	for (; t; t = t->next)
		if (touches(t, addr, len))
			return true;
	return false;
}
