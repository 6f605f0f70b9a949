/* SPDX-License-Identifier: MIT */
/*
 * Function tracing, between its files: who traces what (ftrace.c), whose stub calls it
 * (ftrace_slots.c), rules (ftrace_filter.c), entries (ftrace_entries.c), sets of them that come and
 * go (ftrace_sets.c), what is to stand at an entry and the batch of its changes (ftrace_poke.c,
 * ftrace_batch.c), making an entry ready for its first poke (ftrace_prepare.c), what stubs call
 * (ftrace_run.c). Ftrace lock held (shunt_port_trace_lock()), where nothing else is said.
 */
#ifndef SHUNT_CORE_FTRACE_INTERNAL_H
#define SHUNT_CORE_FTRACE_INTERNAL_H

#include "core/ftrace.h"
#include "core/poke.h"

/* A set of entries, by their index. Replaced, not changed, once a stub can read it. */
struct shunt_bits {
	struct shunt_bits *next; /* of those that are to be freed */
	size_t nr_words;
	uint64_t words[];
};

/* Rules of a filter, one behind the other in @bytes (ftrace_filter.c). */
struct shunt_rules {
	size_t size, used;
	bool has_filter; /* not everything that can be traced is taken to begin with */
	uint8_t bytes[];
};

/* The library's record of an ops. Never freed, but used again for other ops; read by stubs. */
struct shunt_tracer {
	struct shunt_tracer *next;               /* constant once it is published */
	struct ftrace_ops *ops;                  /* NULL: free */
	const struct shunt_bits *_Atomic active; /* what it traces now; NULL: not registered */
	struct shunt_rules *rules;               /* NULL: none */
	const struct shunt_ops_returns *returns; /* NULL: there are none, or it is not registered */
	bool is_registered, is_full;             /* the latter: vector registers are to be saved */
	unsigned slot;                           /* + 1, 0: it is called by the lists alone */
	unsigned last_slot;                      /* that it had before; + 1 */

	/* What @rules take of the entries as they were then: a name costs more than a bit. */
	struct shunt_bits *known; /* NULL: not known */
	size_t known_at;          /* shunt_entries_changes() */
	bool known_exits;

	/* Of the change that is going on. */
	bool is_changing;
	struct shunt_bits *next_active; /* NULL: none any more */
	const struct shunt_bits *last_active;
	uintptr_t last_fast; /* of its slot */
};

extern struct shunt_tracer *_Atomic shunt_tracers;

static inline bool shunt_bits_have(const struct shunt_bits *bits, size_t i)
{
	return bits && i / 64 < bits->nr_words && (bits->words[i / 64] >> i % 64 & 1);
}

static inline void shunt_bits_set(struct shunt_bits *bits, size_t i, bool value)
{
	uint64_t bit = (uint64_t)1 << i % 64;

	bits->words[i / 64] = (bits->words[i / 64] & ~bit) | (value ? bit : 0);
}

/* ------------------------------------------------------------- ftrace_slots.c */

/* A slot for @t, if there is one, which is to trace t->next_active; and @t has none any more. */
void shunt_slot_take(struct shunt_tracer *t);
void shunt_slot_leave(struct shunt_tracer *t);

/* Entries of @bits call the stub of @slot, or may. */
void shunt_slot_note_used(unsigned slot, const struct shunt_bits *bits);

/* ----------------------------------------------------------- ftrace_entries.c */

/* Room for every index that there is; all 0; NULL: no memory. And free it: when it was never read.
 */
struct shunt_bits *shunt_bits_alloc(void);
void shunt_bits_free(struct shunt_bits *bits);

/* Stubs may still read it: freed behind the next shunt_trace_settle(), which waits for them. */
void shunt_bits_retire(struct shunt_bits *bits);
/* What stands for the instruction pointer of a function's last jump: the function, and this. */
#define SHUNT_JUMP_KEY ((uintptr_t)1 << 62)

int shunt_trace_settle(void); /* as shunt_port_trace_wait(): then they stay */

/* The entries' names, one after the other: "" behind the last. */
static inline const char *shunt_entry_names(const struct shunt_entries *set,
					    const struct shunt_entry *entry)
{
	return set->names ? set->names + entry->name : "";
}

/* All there are; for debuggers, too. */
extern struct shunt_entries *shunt_entry_sets;

/* The entry number @i, or NULL; how many numbers there are; how often entries have come or gone. */
struct shunt_entry *shunt_entry_number(size_t i);
size_t shunt_entries_numbers(void);
size_t shunt_entries_changes(void);

/* Give the entries of a set numbers, and make them known; 0 or -ENOMEM. And take that back. */
int shunt_entries_link(struct shunt_entries *set);
void shunt_entries_unlink(struct shunt_entries *set);

/* In a copy of the process: entries of a set that was being added are none. */
void shunt_entries_repair(void);

/* The set that has the entry, for messages. */
struct shunt_entries *shunt_entries_of(const struct shunt_entry *entry);

/* ------------------------------------------------------------ ftrace_filter.c */

enum shunt_rule { SHUNT_RULE_FILTER, SHUNT_RULE_NOTRACE, SHUNT_RULE_IP, SHUNT_RULE_NOT_IP };

/* Whether @glob ("name", "module:name") of @len bytes matches the entry of @set. */
bool shunt_glob_matches(const char *glob, size_t len, const struct shunt_entries *set,
			const struct shunt_entry *entry);

/*
 * A copy of @rules (NULL: none) with one rule more: of @len bytes at @data; those of its kind are
 * left out before, if @reset. @len 0: no rule is added. 0 or -ENOMEM. *out may be NULL: no rules.
 */
int shunt_rules_with(const struct shunt_rules *rules, enum shunt_rule kind, const void *data,
		     size_t len, bool reset, struct shunt_rules **out);
void shunt_rules_free(struct shunt_rules *rules);

/* Put what @rules take into @bits: of all sets, or of @only. */
void shunt_rules_eval(const struct shunt_rules *rules, bool exits, struct shunt_bits *bits,
		      struct shunt_entries *only);

/* Forget the addresses in @set, which goes away. @rules may be NULL. */
void shunt_rules_forget(struct shunt_rules *rules, const struct shunt_entries *set);

/* Whether a pattern or address matches anything now. */
bool shunt_rule_matches(enum shunt_rule kind, const void *data, size_t len);

/* -------------------------------------------------------------- ftrace_poke.c */

/*
 * Bring all entries at which the tracers that are changing differ up to what they are to be, and
 * their active sets; of @only alone where it is not NULL (the others do not change). Core sync
 * made. 0, or an error with nothing changed, and @report filled in but for ops.
 */
int shunt_trace_change(struct shunt_entries *only, bool must_sync, struct shunt_report *report);

/* Switch the entries of a set off, whatever it takes: it is about to go. */
void shunt_trace_drop(struct shunt_entries *set);

#endif
