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

/*
 * Rules of a filter, one behind the other (ftrace_filter.c). Those with one rule more share the
 * store of those without, as long as it has room behind what these use: an append is cheap, and
 * dropped by keeping the old ones.
 */
struct shunt_rule_store;
struct shunt_rules {
	struct shunt_rule_store *store; /* NULL: there are none */
	size_t used;
	bool has_filter; /* not everything that can be traced is taken to begin with */
	bool has_notrace;
};

/*
 * What rules take of the entries as they were then: a name costs more than a bit. An entry is
 * traced that is in both: what "notrace" leaves, which comes behind all else, and what the others
 * take.
 */
struct shunt_known {
	struct shunt_bits *taken; /* NULL: not known */
	struct shunt_bits *left;  /* NULL: all */
	size_t at;                /* shunt_entries_changes() */
	bool exits, has_filter;
};

/* The library's record of an ops. Never freed, but used again for other ops; read by stubs. */
struct shunt_tracer {
	struct shunt_tracer *next;               /* constant once it is published */
	struct ftrace_ops *ops;                  /* NULL: free */
	const struct shunt_bits *_Atomic active; /* what it traces now; NULL: not registered */
	struct shunt_rules rules[2];             /* one is true: shunt_rules_of() */
	unsigned rules_at;
	struct shunt_known known;                /* of them */
	const struct shunt_ops_returns *returns; /* NULL: there are none, or it is not registered */
	bool is_registered, is_full;             /* the latter: vector registers are to be saved */
	unsigned slot;                           /* + 1, 0: it is called by the lists alone */
	unsigned last_slot;                      /* that it had before; + 1 */

	/* Of the change that is going on. */
	bool is_changing;
	struct shunt_tracer *next_changing;
	struct shunt_bits *next_active; /* NULL: none any more */
	const struct shunt_bits *last_active;
	uintptr_t last_fast; /* of its slot */
};

extern struct shunt_tracer *_Atomic shunt_tracers;

/* Those that take part in the change that is going on (->next_changing). */
extern struct shunt_tracer *shunt_changing;
void shunt_changing_join(struct shunt_tracer *t); /* with t->next_active */
void shunt_changing_end(void);

static inline struct shunt_rules *shunt_rules_of(struct shunt_tracer *t)
{
	return &t->rules[t->rules_at];
}

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
void shunt_ftrace_slot_take(struct shunt_tracer *t);
void shunt_ftrace_slot_leave(struct shunt_tracer *t);

/* Entries of @bits call the stub of @slot, or may. */
void shunt_ftrace_slot_note_used(unsigned slot, const struct shunt_bits *bits);

/* ----------------------------------------------------------- ftrace_entries.c */

/* Room for every index that there is; all 0; NULL: no memory. And free it: when it was never read.
 */
struct shunt_bits *shunt_bits_alloc(void);
void shunt_bits_free(struct shunt_bits *bits);

/* Stubs may still read it: freed behind the next shunt_ftrace_settle(), which waits for them. */
void shunt_bits_retire(struct shunt_bits *bits);
/* What stands for the instruction pointer of a function's last jump: the function, and this. */
#define SHUNT_JUMP_KEY ((uintptr_t)1 << 62)

int shunt_ftrace_settle(void); /* as shunt_port_trace_wait(): then they stay */

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

/* A rule to be added: of @len bytes at @data; those of its kind are left out before, if @reset. */
struct shunt_rule_added {
	enum shunt_rule kind;
	const void *data;
	size_t len; /* 0: none is added */
	bool reset;
};

/*
 * @rules and one more, in *out, which may share their store: of the two one is kept, and the other
 * given to shunt_rules_drop(). 0 or -ENOMEM.
 */
int shunt_rules_with(const struct shunt_rules *rules, const struct shunt_rule_added *added,
		     struct shunt_rules *out);
void shunt_rules_drop(struct shunt_rules *rules, const struct shunt_rules *kept);

/* Put what @rules take of the entries of @only into @bits. */
void shunt_rules_eval(const struct shunt_rules *rules, bool exits, struct shunt_bits *bits,
		      struct shunt_entries *only);

/*
 * What @rules take of all sets, into @known, which is replaced. Where @added is not NULL, @before
 * is what is known of the rules without that one. 0 or -ENOMEM.
 */
int shunt_rules_know(const struct shunt_rules *rules, bool exits, const struct shunt_known *before,
		     const struct shunt_rule_added *added, struct shunt_known *known);
bool shunt_is_known(const struct shunt_known *known, bool exits);
/* The entries of @known, which is known; NULL: no memory. */
struct shunt_bits *shunt_known_bits(const struct shunt_known *known);
void shunt_known_forget(struct shunt_known *known);

/* Forget the addresses in @set, which goes away. */
void shunt_rules_forget(struct shunt_rules *rules, const struct shunt_entries *set);

/* Whether a pattern or address matches anything now. */
bool shunt_rule_matches(enum shunt_rule kind, const void *data, size_t len);

/* -------------------------------------------------------------- ftrace_poke.c */

/*
 * Bring all entries at which the tracers that are changing differ up to what they are to be, and
 * their active sets; of @only alone where it is not NULL (the others do not change). Core sync
 * made. 0, or an error with nothing changed, and @report filled in but for ops.
 */
int shunt_ftrace_change(struct shunt_entries *only, bool must_sync, struct shunt_report *report);

/* Switch the entries of a set off, whatever it takes: it is about to go. */
void shunt_ftrace_drop(struct shunt_entries *set);

/* ftrace_left.c: entries that the change does not trace; and the message about them. */
extern const char shunt_entry_far[]; /* shunt_entry.why */
void shunt_ftrace_left_begin(void);
/* For e->why; @expected: the bytes that were to stand there. */
void shunt_ftrace_left(const struct shunt_entry *e, const uint8_t expected[SHUNT_SITE_MAX]);
void shunt_ftrace_left_tell(void);

/* Whether it tells of a function's end. */
static inline bool shunt_entry_is_exit(const struct shunt_entry *entry)
{
	return entry->form == SHUNT_FORM_RETURN || entry->form == SHUNT_FORM_TAIL ||
	       entry->form == SHUNT_FORM_CALL_RETURN || entry->form == SHUNT_FORM_JUMP_RETURN;
}

/* What @t traces once the change is made. */
static inline const struct shunt_bits *shunt_bits_after(const struct shunt_tracer *t)
{
	return t->is_changing ? t->next_active
			      : atomic_load_explicit(&t->active, memory_order_relaxed);
}

static inline bool shunt_is_traced(const struct shunt_entry *e, const struct shunt_tracer *t,
				   const struct shunt_bits *bits)
{
	return shunt_bits_have(bits, e->index) &&
	       (!shunt_entry_is_exit(e) || (t->ops->flags & SHUNT_FTRACE_EXITS));
}

#endif
