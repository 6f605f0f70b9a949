/* SPDX-License-Identifier: MIT */
/*
 * Who had SIGTRAP before us. What stands in front of us at an update gets an entry of its
 * own (trap_entry.S), which passes on to it. So a handler that calls, or puts back, what it
 * found when it was installed gets what that was: an earlier entry.
 *
 * That is not enough where a program installs one handler again and again: it finds our
 * last entry, which passes on to that very handler. So the same trap is known when it comes
 * round, by marks in its signal frame: which entries have asked already. The kernel clears
 * uc_link of each new frame and neither it nor the C library looks at that or the reserved
 * words; a handler that leaves by siglongjmp() takes its marks with it.
 *
 * All libshunts of a process write marks, each its own.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>

#include "arch/x86_64/breakpoint.h"
#include "linux/base/action.h"
#include "linux/trap/trap_chain.h"

/* ------------------------------------------------------------------------ marks */

#define MARKED 0x5348554e00000000ul /* in uc_link: no address; the lower half counts */
#define HOPS   200                  /* no chain is that long */

struct mark {
	unsigned long long who, asked; /* a libshunt; its entries, a bit each */
};

#define MARKS 4 /* as many as there is room for */
_Static_assert(MARKS * sizeof(struct mark) <= sizeof(((mcontext_t *)NULL)->__reserved1), "room");
_Static_assert(SHUNT_TRAP_ENTRIES <= 64, "a bit each");

/* False where this trap has gone round for too long. */
static bool count_hop(ucontext_t *uc)
{
	uintptr_t link = (uintptr_t)uc->uc_link;

	if (link >> 32 != MARKED >> 32) {
		link = MARKED;
		memset(uc->uc_mcontext.__reserved1, 0, MARKS * sizeof(struct mark));
	}
	uc->uc_link = (void *)(link + 1);
	return (uint32_t)link < HOPS;
}

/* Ours; NULL where there are more of us than there is room for. */
static struct mark *find_mark(ucontext_t *uc)
{
	unsigned long long who = (uintptr_t)shunt_trap_records;
	struct mark *marks = (struct mark *)uc->uc_mcontext.__reserved1;

	for (size_t i = 0; i < MARKS; i++) {
		if (!marks[i].who)
			marks[i].who = who;
		if (marks[i].who == who)
			return &marks[i];
	}
	return NULL;
}

/* ---------------------------------------------------------------------- records */

/*
 * When each was found last, in the order of updates; 0: not in use. A record that is in use
 * does not change, but for SA_RESETHAND; where all are, the oldest is used again, and a reader
 * that was at it sees that the number has changed.
 */
static _Atomic uint64_t found_at[SHUNT_TRAP_ENTRIES];
static uint64_t last; /* update lock */

typedef void (*_Atomic atomic_handler)(int sig, siginfo_t *info, void *context);

static atomic_handler *handler_of(struct shunt_action *record)
{
	return (atomic_handler *)&record->handler;
}

static uint64_t time_found(unsigned entry)
{
	return atomic_load_explicit(&found_at[entry], memory_order_acquire);
}

/* False where it is being changed. */
static bool read_record(unsigned entry, struct shunt_action *action)
{
	struct shunt_action *record = &shunt_trap_records[entry];
	uint64_t seen = time_found(entry);

	action->handler = atomic_load_explicit(handler_of(record), memory_order_relaxed);
	action->flags = record->flags;
	action->restorer = record->restorer;
	action->mask = record->mask;
	atomic_thread_fence(memory_order_acquire);
	return seen && seen == time_found(entry);
}

/* The entry before @entry that has not asked yet; -1: there is none. */
static int entry_before(unsigned entry, unsigned long long asked)
{
	uint64_t limit = time_found(entry), newest = 0;
	int best = -1;

	for (unsigned i = 0; i < SHUNT_TRAP_ENTRIES; i++) {
		uint64_t at = time_found(i);

		if (at <= newest || at >= limit || asked >> i & 1)
			continue;
		newest = at;
		best = (int)i;
	}
	return best;
}

bool shunt_trap_next(ucontext_t *uc, unsigned entry, struct shunt_action *next)
{
	struct mark unmarked = {0, 0}, *mark;
	int at = (int)entry;

	if (!count_hop(uc))
		return false;
	mark = find_mark(uc);
	if (!mark)
		mark = &unmarked; /* it is not known when it comes round, but counted */
	if (mark->asked >> entry & 1)
		at = entry_before(entry, mark->asked);
	for (; at >= 0; at = entry_before((unsigned)at, mark->asked)) {
		mark->asked |= 1ull << at;
		if (read_record((unsigned)at, next))
			return true;
	}
	return false;
}

static bool is_same(const struct shunt_action *a, const struct shunt_action *b)
{
	return a->handler == b->handler && a->flags == b->flags && a->mask == b->mask;
}

void shunt_trap_reset(const struct shunt_action *action)
{
	for (unsigned i = 0; i < SHUNT_TRAP_ENTRIES; i++) {
		struct shunt_action record;
		void (*handler)(int, siginfo_t *, void *) = action->handler;

		if (read_record(i, &record) && is_same(&record, action))
			(void)atomic_compare_exchange_strong_explicit(
				handler_of(&shunt_trap_records[i]), &handler, NULL,
				memory_order_relaxed, memory_order_relaxed);
	}
}

unsigned shunt_trap_entry_for(const struct shunt_action *action)
{
	struct shunt_action *record;
	unsigned entry = 0;

	for (unsigned i = 0; i < SHUNT_TRAP_ENTRIES; i++) {
		if (time_found(i) && is_same(&shunt_trap_records[i], action)) {
			entry = i;
			break;
		}
		if (time_found(i) < time_found(entry))
			entry = i;
	}
	record = &shunt_trap_records[entry];
	if (!time_found(entry) || !is_same(record, action)) {
		/* Pairs with read_record(). */
		atomic_store_explicit(&found_at[entry], 0, memory_order_relaxed);
		atomic_thread_fence(memory_order_release);
		record->flags = action->flags;
		record->restorer = action->restorer;
		record->mask = action->mask;
		atomic_store_explicit(handler_of(record), action->handler, memory_order_relaxed);
	}
	atomic_store_explicit(&found_at[entry], ++last, memory_order_release);
	return entry;
}

/* ------------------------------------------------------------------ the libshunts */

int shunt_trap_entry_of(uintptr_t handler)
{
	uintptr_t offset = handler - (uintptr_t)shunt_trap_entries;

	if (offset >= sizeof(shunt_trap_entries) || offset % SHUNT_TRAP_ENTRY_SIZE)
		return -1;
	return (int)(offset / SHUNT_TRAP_ENTRY_SIZE);
}

/* The record of another libshunt's entry; NULL where @handler is none. */
static struct shunt_action *other_record(uintptr_t handler)
{
	const char *other = (const char *)handler, *own = shunt_trap_entries[0];
	uintptr_t record;
	int32_t distance;

	if (!shunt_is_readable(handler) || !shunt_is_readable(handler + 24 - sizeof(uint64_t)) ||
	    memcmp(other, own, 21) != 0)
		return NULL;
	memcpy(&distance, other + 21, sizeof(distance));
	record = handler + 25 + (uintptr_t)(intptr_t)distance;
	return shunt_is_readable(record) ? (struct shunt_action *)record : NULL;
}

bool shunt_trap_reaches_us(uintptr_t handler, bool *others)
{
	struct shunt_action *record;

	for (unsigned hop = 0; hop < HOPS; hop++) {
		if (shunt_trap_entry_of(handler) >= 0)
			return true;
		record = other_record(handler);
		if (!record)
			return false;
		*others = true;
		handler = (uintptr_t)atomic_load_explicit(handler_of(record), memory_order_relaxed);
	}
	return false;
}

/* --------------------------------------------------------- taking our entries out */

/* The first 32 bytes of an entry are the same but for its record and its number. */
static const struct shunt_action *follow(const struct shunt_action *action)
{
	for (unsigned hop = 0; hop < SHUNT_TRAP_ENTRIES; hop++) {
		int entry = shunt_trap_entry_of((uintptr_t)action->handler);

		if (entry < 0)
			return action;
		action = &shunt_trap_records[entry];
	}
	return NULL;
}

/* The records of the libshunt that has the entry @handler; NULL: it is none, or ours. */
static struct shunt_action *records_of(uintptr_t handler)
{
	const unsigned char *code = (const unsigned char *)handler;
	struct shunt_action *record, *end;
	unsigned number;

	if (handler < 4096 || shunt_trap_entry_of(handler) >= 0)
		return NULL;
	record = other_record(handler);
	if (!record || !shunt_is_readable(handler + SHUNT_TRAP_ENTRY_SIZE - sizeof(uint64_t)))
		return NULL;
	number = shunt_trap_entry_number(code);
	if (number >= SHUNT_TRAP_ENTRIES)
		return NULL;
	record -= number;
	end = record + SHUNT_TRAP_ENTRIES;
	return shunt_is_readable((uintptr_t)record) &&
			       shunt_is_readable((uintptr_t)end - sizeof(uint64_t))
		       ? record
		       : NULL;
}

#define COPIES 64

/* Records of other libshunts, all of one behind each other. */
struct copies {
	struct shunt_action *records[COPIES];
	size_t n;
};

static void add_copy(struct copies *copies, uintptr_t handler)
{
	struct shunt_action *records = records_of(handler);
	size_t i = 0;

	while (i < copies->n && copies->records[i] != records)
		i++;
	if (records && i == copies->n && i < COPIES)
		copies->records[copies->n++] = records;
}

/* What has got another handler, and waits for the rest of its action. */
static struct {
	struct shunt_action *record;
	const struct shunt_action *next;
} changed[2 * SHUNT_TRAP_ENTRIES];
static size_t nr_changed;

/*
 * The handler alone: whoever reads it now has all signals blocked, as for ours, and whoever
 * has read ours too, until he is seen to have left it.
 */
static bool replace(struct shunt_action *record)
{
	void (*ours)(int, siginfo_t *, void *) =
		atomic_load_explicit(handler_of(record), memory_order_relaxed);
	const struct shunt_action *next;

	if (shunt_trap_entry_of((uintptr_t)ours) < 0)
		return false;
	next = follow(&shunt_trap_records[shunt_trap_entry_of((uintptr_t)ours)]);
	if (!atomic_compare_exchange_strong_explicit(handler_of(record), &ours,
						     next ? next->handler : NULL,
						     memory_order_release, memory_order_relaxed))
		return false;
	if (next && nr_changed < sizeof(changed) / sizeof(changed[0])) {
		changed[nr_changed].record = record;
		changed[nr_changed++].next = next;
	}
	return true;
}

bool shunt_trap_unchain(const uintptr_t *others, size_t n)
{
	struct shunt_action current = {0};
	struct copies copies = {.n = 0};
	bool any = false;

	if (!shunt_sigaction_raw(SIGTRAP, NULL, &current))
		add_copy(&copies, (uintptr_t)current.handler);
	for (size_t i = 0; i < SHUNT_TRAP_ENTRIES; i++)
		add_copy(&copies, (uintptr_t)shunt_trap_records[i].handler);
	for (size_t i = 0; i < n; i++)
		add_copy(&copies, others[i]);
	for (size_t i = 0; i < copies.n; i++)
		for (size_t k = 0; k < SHUNT_TRAP_ENTRIES; k++) {
			struct shunt_action *record = &copies.records[i][k];

			any |= replace(record);
			add_copy(&copies, (uintptr_t)atomic_load_explicit(handler_of(record),
									  memory_order_relaxed));
		}
	return any;
}

void shunt_trap_unchained(void)
{
	while (nr_changed) {
		struct shunt_action *record = changed[--nr_changed].record;
		const struct shunt_action *next = changed[nr_changed].next;

		/* Its owner may have used it for another one. */
		if (atomic_load_explicit(handler_of(record), memory_order_relaxed) != next->handler)
			continue;
		record->mask = next->mask;
		record->restorer = next->restorer;
		record->flags = next->flags;
	}
}
