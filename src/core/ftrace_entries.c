/* SPDX-License-Identifier: MIT */
/*
 * Entries of function tracing: the sets that the port hands over, numbers for them, and a
 * table from the address to the entry that stubs read without a lock.
 *
 * Lifetime: a table or a set of bits that is replaced is freed when no stub reads it any more,
 * which is known behind a wait for those that run (shunt_ftrace_settle()). Numbers of entries that
 * are gone are given away again.
 */
#include "core/error.h"
#include "core/ftrace_internal.h"

struct shunt_entries *shunt_entry_sets;

/* By number; NULL: the number is free. */
static struct {
	struct shunt_entry **entries;
	size_t n, max;
	size_t changes;
} numbers;

struct shunt_entry *shunt_entry_number(size_t i)
{
	return i < numbers.n ? numbers.entries[i] : NULL;
}

size_t shunt_entries_numbers(void)
{
	return numbers.n;
}

size_t shunt_entries_changes(void)
{
	return numbers.changes;
}

/* --------------------------------------------------------------- sets of bits */

static struct shunt_bits *retired;

static size_t bits_size(size_t nr_words)
{
	return sizeof(struct shunt_bits) + nr_words * sizeof(uint64_t);
}

struct shunt_bits *shunt_bits_alloc(void)
{
	size_t nr_words = numbers.n / 64 + 1;
	struct shunt_bits *bits = shunt_port_alloc(bits_size(nr_words));

	if (bits)
		bits->nr_words = nr_words;
	return bits;
}

void shunt_bits_free(struct shunt_bits *bits)
{
	if (bits)
		shunt_port_free(bits, bits_size(bits->nr_words));
}

void shunt_bits_retire(struct shunt_bits *bits)
{
	if (!bits)
		return;
	bits->next = retired;
	retired = bits;
}

/* ------------------------------------------------------------- from ip to entry */

struct place {
	_Atomic uintptr_t ip; /* 0: never used */
	struct shunt_entry *_Atomic entry;
};

struct table {
	struct table *next; /* of those that are to be freed */
	size_t size;        /* a power of 2 */
	size_t used;        /* places with an ip, also of entries that are gone */
	struct place places[];
};

static struct table *_Atomic table;
static struct table *retired_tables;

static size_t table_size(size_t size)
{
	return sizeof(struct table) + size * sizeof(struct place);
}

static size_t place_of(const struct table *t, uintptr_t ip)
{
	return (size_t)(ip * 0x9e3779b97f4a7c15u >> 20) & (t->size - 1);
}

/* Where @ip is, or belongs. */
static struct place *find_place(struct table *t, uintptr_t ip)
{
	for (size_t i = place_of(t, ip);; i = (i + 1) & (t->size - 1)) {
		/* Pairs with insert(). */
		uintptr_t seen = atomic_load_explicit(&t->places[i].ip, memory_order_acquire);

		if (!seen || seen == ip)
			return &t->places[i];
	}
}

const struct shunt_entry *shunt_entry_find(uintptr_t ip)
{
	struct table *t = atomic_load_explicit(&table, memory_order_acquire);
	struct place *p = t ? find_place(t, ip) : NULL;

	if (!p || !atomic_load_explicit(&p->ip, memory_order_relaxed))
		return NULL;
	return atomic_load_explicit(&p->entry, memory_order_acquire);
}

/*
 * What a stub knows of a function's last jump is the function. Which of its jumps it was does not
 * matter: they have their set and their bits in common.
 */
static uintptr_t jump_key(const struct shunt_entry *entry)
{
	return entry->form == SHUNT_FORM_JUMP_RETURN ? entry->func ^ SHUNT_JUMP_KEY : 0;
}

static void insert_at(struct table *t, uintptr_t ip, struct shunt_entry *entry)
{
	struct place *p = find_place(t, ip);

	t->used += !atomic_load_explicit(&p->ip, memory_order_relaxed);
	atomic_store_explicit(&p->entry, entry, memory_order_release);
	/* Pairs with find_place(). */
	atomic_store_explicit(&p->ip, ip, memory_order_release);
}

static void insert(struct table *t, struct shunt_entry *entry)
{
	insert_at(t, entry->ip, entry);
	if (jump_key(entry))
		insert_at(t, jump_key(entry), entry);
}

static void remove_at(struct table *t, uintptr_t ip)
{
	atomic_store_explicit(&find_place(t, ip)->entry, NULL, memory_order_release);
}

static size_t nr_places(const struct shunt_entry *entry)
{
	return jump_key(entry) ? 2 : 1;
}

/* Room for those of @set; what is gone is left behind. At most half of the places are used. */
static int make_room(const struct shunt_entries *set)
{
	struct table *old = atomic_load_explicit(&table, memory_order_relaxed), *new;
	size_t size = 256, more = 0;

	for (size_t i = 0; i < set->n; i++)
		more += nr_places(&set->entries[i]);
	if (old && 2 * (old->used + more) <= old->size)
		return 0;
	for (size_t i = 0; i < numbers.n; i++)
		if (numbers.entries[i])
			more += nr_places(numbers.entries[i]);
	while (size < 2 * more)
		size *= 2;
	new = shunt_port_alloc(table_size(size));
	if (!new)
		return shunt_port_no_memory();
	new->size = size;
	for (size_t i = 0; i < numbers.n; i++)
		if (numbers.entries[i])
			insert(new, numbers.entries[i]);
	atomic_store_explicit(&table, new, memory_order_release);
	if (old) {
		old->next = retired_tables;
		retired_tables = old;
	}
	return 0;
}

static void retire_again(struct shunt_bits *bits, struct table *tables)
{
	struct shunt_bits **last_bits = &retired;
	struct table **last_table = &retired_tables;

	while (*last_bits)
		last_bits = &(*last_bits)->next;
	while (*last_table)
		last_table = &(*last_table)->next;
	*last_bits = bits;
	*last_table = tables;
}

/* What is retired while this waits, by a set that comes or goes, is left for the next time. */
int shunt_ftrace_settle(void)
{
	struct shunt_bits *all_bits = retired;
	struct table *all_tables = retired_tables;
	int ret;

	retired = NULL;
	retired_tables = NULL;
	ret = shunt_port_trace_wait();
	if (ret)
		retire_again(all_bits, all_tables);
	while (!ret && all_bits) {
		struct shunt_bits *bits = all_bits;

		all_bits = bits->next;
		shunt_bits_free(bits);
	}
	while (!ret && all_tables) {
		struct table *t = all_tables;

		all_tables = t->next;
		shunt_port_free(t, table_size(t->size));
	}
	return ret;
}

/* ---------------------------------------------------------------------- numbers */

static int reserve_numbers(size_t more)
{
	size_t max = numbers.n + more;
	struct shunt_entry **entries;

	if (max <= numbers.max)
		return 0;
	max += max / 4;
	entries = shunt_port_alloc(max * sizeof(void *));
	if (!entries)
		return shunt_port_no_memory();
	for (size_t i = 0; i < numbers.n; i++)
		entries[i] = numbers.entries[i];
	if (numbers.entries)
		shunt_port_free(numbers.entries, numbers.max * sizeof(void *));
	numbers.entries = entries;
	numbers.max = max;
	return 0;
}

/* The lowest free one from @from on. */
static size_t next_free(size_t from)
{
	while (from < numbers.n && numbers.entries[from])
		from++;
	return from;
}

/* ------------------------------------------------------------------------- sets */

struct shunt_entries *shunt_entries_first(void)
{
	return shunt_entry_sets;
}

struct shunt_entries *shunt_entries_of(const struct shunt_entry *entry)
{
	struct shunt_entries *set = shunt_entry_sets;

	while (set && (entry < set->entries || entry >= set->entries + set->n))
		set = set->next;
	return set;
}

int shunt_entries_link(struct shunt_entries *set)
{
	size_t number = 0;
	int ret = reserve_numbers(set->n);

	if (!ret)
		ret = make_room(set);
	if (ret)
		return ret;

	for (size_t i = 0; i < set->n; i++) {
		number = next_free(number);
		set->entries[i].index = (uint32_t)number;
		set->entries[i].state = 0;
		numbers.entries[number] = &set->entries[i];
		if (number == numbers.n)
			numbers.n++;
		insert(atomic_load_explicit(&table, memory_order_relaxed), &set->entries[i]);
	}
	set->next = shunt_entry_sets;
	shunt_entry_sets = set;
	numbers.changes++;
	return 0;
}

void shunt_entries_unlink(struct shunt_entries *set)
{
	struct table *t = atomic_load_explicit(&table, memory_order_relaxed);
	struct shunt_entries **p = &shunt_entry_sets;

	for (size_t i = 0; i < set->n; i++) {
		remove_at(t, set->entries[i].ip);
		if (jump_key(&set->entries[i]))
			remove_at(t, jump_key(&set->entries[i]));
		numbers.entries[set->entries[i].index] = NULL;
	}
	while (*p != set)
		p = &(*p)->next;
	*p = set->next;
	numbers.changes++;
}

void shunt_entries_repair(void)
{
	struct table *t = atomic_load_explicit(&table, memory_order_relaxed);

	numbers.changes++;
	for (size_t i = 0; i < numbers.n; i++) {
		struct shunt_entry *entry = numbers.entries[i];

		if (!entry || shunt_entries_of(entry))
			continue;
		numbers.entries[i] = NULL;
		for (size_t at = 0; at < t->size; at++)
			if (t->places[at].entry == entry)
				t->places[at].entry = NULL;
	}
}
