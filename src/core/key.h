/* SPDX-License-Identifier: MIT */
/*
 * Sites that belong to keys, and the change of keys. Static calls and static keys
 * are two kinds of the same thing: a key has a value, each site of the key an
 * instruction that follows from the value, and an update changes the values of any
 * number of keys together with all their sites, or nothing.
 *
 * The port finds the sites of a module and hands them over; the rest is here.
 */
#ifndef SHUNT_CORE_KEY_H
#define SHUNT_CORE_KEY_H

#include <shunt/port.h>

#include "core/site_table.h"

struct shunt_kind;
struct shunt_poke;

/* One key as one module uses it: an element of the key's list. */
struct shunt_mod {
	struct shunt_mod *next; /* the same key in other modules */
	void *key;              /* NULL: not bound yet, or the key's module is gone */
	struct shunt_sites *sites;
	uintptr_t tramp; /* static calls: what a direct call goes to, trampoline or PLT */
	uintptr_t slot;  /* static calls: the GOT slot that an indirect call goes through. The
			  * port's, of static keys: the key that is not bound */
	uint32_t first;  /* its first site in the table: index + 1; 0: none */
	uint32_t nr_sites;
	bool has_baked;  /* one of its sites was baked */
	bool baked_bare; /* the port's: and what was baked as off has no displacement */
	/*
	 * Static calls: the target that sites had before they were switched off, whose displacement
	 * they keep; 0: none. Set with the update lock, before a change to NULL; read by traps.
	 */
	uintptr_t last;
};

/* The sites of one kind in one module. */
struct shunt_sites {
	struct shunt_table table; /* first: the trap handler is given this */
	const struct shunt_kind *kind;
	struct shunt_mod *mods;
	uint32_t nr_mods;
	const void *module; /* the kind's own: static keys have the jump entries here */
};

/*
 * What tells the kinds apart. A value is a function's address, or whether a
 * branch is on.
 */
struct shunt_kind {
	/* Where in a key is what all keys have: offsets in bytes. */
	uint8_t name;    /* const char * */
	uint8_t mods;    /* struct shunt_mod *: its sites */
	uint8_t value;   /* a word or, with is_byte, a byte */
	uint8_t initial; /* the same, as defined */
	uint8_t flags;   /* a byte */
	uint8_t stale;   /* of the flags: a site does not do what the key's value says */
	bool is_byte;
	bool falls_back; /* a site that is left as linked still follows the key (a trampoline) */
	/* The key that a site belongs to; NULL once its module is gone. */
	void *(*key)(const struct shunt_sites *sites, const struct shunt_site *site);
	/*
	 * The instruction for a site of a key of @value. Called by the trap handler:
	 * no lock, no side effect.
	 */
	void (*direct)(const struct shunt_sites *sites, const struct shunt_site *site,
		       uintptr_t value, struct shunt_insn *out);
	/*
	 * May be NULL: the changes to @to, from the kind's other value, of a key's sites from *at
	 * on (index + 1; 0: no more), @max at most, into @pokes, as long as only the first byte
	 * changes of each, and it is and stays inline. Returns how many; the site at *at, if there
	 * is one, may be another change. (Large batches are made of these, too.)
	 */
	size_t (*flips)(const struct shunt_sites *sites, uint32_t *at, uintptr_t to,
			struct shunt_poke *pokes, size_t max);
	/*
	 * May be NULL: whether every 5-byte call or jmp site of a key of @value is
	 * simply a call or jmp of it. (Large batches are made of these.)
	 */
	bool (*is_plain)(uintptr_t value);
	/* The instruction that the linker left there. */
	void (*linked)(const struct shunt_sites *sites, const struct shunt_site *site,
		       struct shunt_insn *out);
	/*
	 * May be NULL: whether the key may be updated at all, be it to the value that it
	 * has; and whether by a user. 0, or an error with report->what set.
	 */
	int (*check)(void *key, struct shunt_report *report);
	int (*check_user)(void *key, struct shunt_report *report);
	/* May be NULL: what a value needs of the port, asked without the lock. */
	int (*watch)(uintptr_t value);
	/*
	 * May be NULL: before a change of a key's value, refuse it with an error and
	 * report->what set; and behind it, however it went, with the value it has now.
	 */
	int (*begin)(void *key, uintptr_t to, struct shunt_report *report);
	void (*end)(void *key, uintptr_t value);
};

typedef uintptr_t __attribute__((may_alias)) shunt_key_word_t;

static inline const void *shunt_key_at(const void *key, uint8_t offset)
{
	return (const char *)key + offset;
}

static inline uintptr_t shunt_key_value(const struct shunt_kind *kind, const void *key)
{
	const void *value = shunt_key_at(key, kind->value);

	/* Pairs with shunt_key_store(): who sees a function sees what was set up for it. */
	return kind->is_byte ? __atomic_load_n((const uint8_t *)value, __ATOMIC_ACQUIRE)
			     : __atomic_load_n((const shunt_key_word_t *)value, __ATOMIC_ACQUIRE);
}

static inline uintptr_t shunt_key_initial(const struct shunt_kind *kind, const void *key)
{
	const void *initial = shunt_key_at(key, kind->initial);

	return kind->is_byte ? *(const uint8_t *)initial : *(const shunt_key_word_t *)initial;
}

static inline void shunt_key_store(const struct shunt_kind *kind, void *key, uintptr_t value)
{
	if (kind->is_byte)
		__atomic_store_n((uint8_t *)key + kind->value, (uint8_t)value, __ATOMIC_RELEASE);
	else
		__atomic_store_n((shunt_key_word_t *)((char *)key + kind->value), value,
				 __ATOMIC_RELEASE);
}

static inline const char *shunt_key_name(const struct shunt_kind *kind, const void *key)
{
	return *(const char *const *)shunt_key_at(key, kind->name);
}

static inline struct shunt_mod **shunt_key_mods(const struct shunt_kind *kind, void *key)
{
	return (struct shunt_mod **)((char *)key + kind->mods);
}

static inline unsigned shunt_key_flags(const struct shunt_kind *kind, const void *key)
{
	return *(const uint8_t *)shunt_key_at(key, kind->flags);
}

/* For readers without the lock: pairs with is_settled(). Update lock held, perhaps of another
 * libshunt than the key's. */
static inline void shunt_key_set_flags(const struct shunt_kind *kind, void *key, unsigned flags,
				       bool on)
{
	unsigned was = shunt_key_flags(kind, key), is = on ? was | flags : was & ~flags;

	if (is == was)
		return;
	if (on)
		__atomic_fetch_or((uint8_t *)key + kind->flags, (uint8_t)flags, __ATOMIC_RELEASE);
	else
		__atomic_fetch_and((uint8_t *)key + kind->flags, (uint8_t)~flags, __ATOMIC_RELEASE);
}

static inline void shunt_key_set_stale(const struct shunt_kind *kind, void *key, bool on)
{
	shunt_key_set_flags(kind, key, kind->stale, on);
}

extern const struct shunt_kind shunt_static_call_kind;
extern const struct shunt_kind shunt_static_key_kind;

/* Flags of a static key (its field unknown). Update lock held, that of any libshunt. */
enum {
	SHUNT_KEY_REFUSED = 1, /* the port's: a module that tests it could not be registered */
	SHUNT_KEY_LOST = 2,    /* the port's: the same, and nothing is known of the module */
	SHUNT_KEY_STALE = 4,   /* the core's: a site does not do what the key's value says */
};

/*
 * What its field pending is made of: two flags, and between them a count of modules, 63 at most.
 * (By a header of before 1.0 none, too, where its file does not register it.)
 */
enum {
	SHUNT_KEY_PENDING = 1,        /* its module has not registered, or is being unloaded */
	SHUNT_KEY_ELSEWHERE = 2,      /* a module tests it that another libshunt has registered */
	SHUNT_KEY_UNREGISTERED = 128, /* nor does its file register it (static_key.h) */
};

/* Why a key is not updated that another libshunt has registered. */
#define SHUNT_OF_ANOTHER "the key is not this libshunt's, but another's in the process"

struct shunt_static_key;
struct static_jump_entry;

/* static_key.c: the instruction, and the key, that an entry is for. */
uintptr_t shunt_jump_code(const struct static_jump_entry *entry);
struct shunt_static_key *shunt_jump_key(const struct static_jump_entry *entry);

/* static_key.c: set or clear flags of @key, for readers without the lock. Update lock held. */
void shunt_static_key_set_flags(struct shunt_static_key *key, unsigned flags, bool on);

/*
 * static_key.c: the module of the @n keys from @keys is known from here on (@known), or is
 * not any more, and then they cannot be updated. Update lock held.
 */
void shunt_static_keys_known(struct shunt_static_key *keys, size_t n, bool known);

/*
 * static_key.c: the same key in two libshunts: a module of this one tests it (@on; or no more), and
 * it is not known to be of a module of this one. Its sites are not in the key, and so it is not to
 * be updated. Counts. Any lock, or none.
 */
void shunt_static_key_tested_elsewhere(struct shunt_static_key *key, bool on);

/* static_key.c: whether its module has registered, with this libshunt or another. */
bool shunt_static_key_is_known(const struct shunt_static_key *key);

/* static_key.c: why its field pending has updates refused; NULL: it does not. */
const char *shunt_static_key_why_pending(const struct shunt_static_key *key);

/* The change of one key. */
struct shunt_key_change {
	const struct shunt_kind *kind;
	void *key;
	uintptr_t to;
	uintptr_t from; /* filled in by shunt_update() */
};

/*
 * Change @n keys, no key twice, and all their sites: all or none. Update lock
 * held; once it succeeds the new values are in force for every call that starts.
 *
 * Returns 0 or a negative error, and then @report says what happened, where.
 * (With 0 it may still have something to say: report->error is set then.)
 */
int shunt_update(struct shunt_key_change *changes, size_t n, struct shunt_report *report);

/* update.c's part of shunt_sites_repair(). */
void shunt_update_repair(void);

/*
 * For a process that was copied while a thread that it does not have held the update lock:
 * take its update back (shunt_poke_repair()). Returns -EIO where that is not possible,
 * because the thread was adding or removing a module's sites: no key can be updated then.
 * Update lock held; nobody else runs this text.
 */
int shunt_sites_repair(void);

/*
 * The same with the lock taken and the failure reported: what the public functions
 * are made of. Update lock not held.
 */
int shunt_change_keys(struct shunt_key_change *changes, size_t n);

/*
 * Its parts, for keys that are to be found with the lock held: take the lock, for which a failure
 * names @key; and change them, with it held. What their values need of the port (kind->watch) has
 * been asked before.
 */
int shunt_lock_to_change(const char *key, struct shunt_report *report);
int shunt_change_keys_locked(struct shunt_key_change *changes, size_t n,
			     struct shunt_report *report);

/*
 * static_call.c: the value for @func (NULL, RET0 or a function); NULL, or why the key does not take
 * it.
 */
struct static_call_key;
const char *shunt_static_call_value(const struct static_call_key *key, void (*func)(void),
				    uintptr_t *value);

/*
 * static_key.c: count @key up (@step 1) or down (-1), where that changes no site: true. false: it
 * is for a change of the key to do, or the count is at its end (INT_MAX, 0). Update lock held,
 * without which nobody takes the count from or to 0.
 */
bool shunt_static_key_step(struct shunt_static_key *key, int step);

/* Report @r if it says something, or if @ret is an error. Returns @ret. */
int shunt_report_result(struct shunt_report *r, int ret);

/* Report a call that is refused for its arguments; returns -EINVAL. */
int shunt_refuse(const char *what, const char *key);

struct static_call_batch;

/* Add a change to a user's batch (batch.c). 0 or -ENOMEM, reported. */
int shunt_batch_add(struct static_call_batch *batch, const struct shunt_kind *kind, void *key,
		    uintptr_t value);

/*
 * Take over a module's sites of one kind: in @s, kind, mods (key, tramp, slot),
 * nr_mods and module are filled in by the caller, in @array off, owner, kind, and in
 * next the index of the site's mod, and baked; in any order, the rest zero. Sorts
 * them, links them to their keys, and brings each up to its key's value. Sites of a
 * mod with key NULL stay as they are until shunt_sites_bind().
 *
 * @array is the caller's: it must stay a site array for ever (site_table.h).
 *
 * Returns 0, or the error for which all of them stay as the linker left them (and
 * then @report tells why). Update lock held.
 */
int shunt_sites_add(struct shunt_sites *s, uintptr_t base, struct shunt_site *array,
		    uint32_t nr_sites, struct shunt_report *report);

/*
 * Some of @s's mods that had no key have been given one: link their sites to it and bring
 * them up to its value. Returns, and reports, as shunt_sites_add(). Update lock held.
 */
int shunt_sites_bind(struct shunt_sites *s, struct shunt_report *report);

/* Forget @s's sites: their module goes away. Update lock held. */
void shunt_sites_remove(struct shunt_sites *s);

/* @key goes away: its sites in other modules keep what they have. Update lock held. */
void shunt_key_remove(const struct shunt_kind *kind, void *key);

#endif
