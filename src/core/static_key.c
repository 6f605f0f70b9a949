/* SPDX-License-Identifier: MIT */
/*
 * Static keys as a kind of key: a site is a jmp, or its off form, or (by an older header) a
 * nop; and counting on top of on and off. After kernel/jump_label.c of Linux.
 *
 * The count and what the sites do are two things: @on changes with the text, under
 * the update lock; @count is above 0 only while @on is 1 for good. So a count that
 * is above 0 can be counted up and down without the lock, and whoever sees it above
 * 0 knows that all sites have changed. (In Linux the first inc and a second one
 * raced here: 83ab38ef0a0b.)
 */
#include <shunt/static_key.h>

#include "core/error.h"
#include "core/key.h"
#include "core/poke.h"

#include <limits.h>

/* NULL where the key is declared but nowhere defined, and nothing tests it. */
static struct shunt_static_key *key_of(const struct static_key *handle)
{
	return handle->first ? handle->first + (handle - handle->self) : NULL;
}

/* -------------------------------------------------------------------- sites */

static const struct static_jump_entry *entry_of(const struct shunt_sites *sites,
						const struct shunt_site *site)
{
	return (const struct static_jump_entry *)sites->module + site->owner;
}

static uintptr_t relative_to(const int32_t *field, int32_t mask)
{
	return (uintptr_t)field + (uintptr_t)(intptr_t)(*field & mask);
}

uintptr_t shunt_jump_code(const struct static_jump_entry *entry)
{
	return relative_to(&entry->code, -1);
}

/* The address of the field is a multiple of 4, so bit 0 is the flag alone. */
struct shunt_static_key *shunt_jump_key(const struct static_jump_entry *entry)
{
	return key_of((const struct static_key *)relative_to(&entry->handle, ~1));
}

/* None of a site that is not bound: what its record names may be another libshunt's. */
static void *site_key(const struct shunt_sites *sites, const struct shunt_site *site)
{
	return site->why == SHUNT_WHY_UNBOUND ? NULL : shunt_jump_key(entry_of(sites, site));
}

static void direct(const struct shunt_sites *sites, const struct shunt_site *site, uintptr_t on,
		   struct shunt_insn *out)
{
	const struct static_jump_entry *entry = entry_of(sites, site);
	bool jumps_while_off = entry->handle & 1;

	uint8_t off = entry->magic == STATIC_JUMP_MAGIC_TEST ? SHUNT_OP_TEST : SHUNT_OP_NOP;

	out->op = (on != 0) != jumps_while_off ? SHUNT_OP_JMP : off;
	out->len = (uint8_t)shunt_site_len(shunt_site_kind(site));
	out->cc = 0;
	out->target = relative_to(&entry->target, -1);
}

/* A branch of 5 bytes, but not one whose off form is a nop. */
static inline bool flip(const struct shunt_sites *sites, struct shunt_site *site, uintptr_t on,
			struct shunt_poke *p)
{
	const struct static_jump_entry *entry = entry_of(sites, site);
	uint8_t *addr = shunt_site_addr(&sites->table, site);
	uintptr_t target = relative_to(&entry->target, -1);
	bool jumps = (on != 0) != (entry->handle & 1);

	if (site->why != SHUNT_INLINE || shunt_site_kind(site) != SHUNT_KIND_BRANCH ||
	    entry->magic != STATIC_JUMP_MAGIC_TEST ||
	    !shunt_insn_plain(jumps ? SHUNT_OP_TEST : SHUNT_OP_JMP, target, (uintptr_t)addr,
			      p->old) ||
	    !shunt_insn_plain(jumps ? SHUNT_OP_JMP : SHUNT_OP_TEST, target, (uintptr_t)addr,
			      p->new))
		return false;
	p->addr = addr;
	p->site = site;
	p->len = SHUNT_PLAIN_LEN;
	p->tag = SHUNT_INLINE;
	return true;
}

static size_t flips(const struct shunt_sites *sites, uint32_t *at, uintptr_t on,
		    struct shunt_poke *pokes, size_t max)
{
	struct shunt_site *array = sites->table.sites;
	uint32_t i = *at;
	size_t n = 0;

	for (; n < max && i && flip(sites, &array[i - 1], on, &pokes[n]); n++)
		i = array[i - 1].next;
	*at = i;
	return n;
}

/* The compiler knew the key's type, and made what is right for its first value. */
static void linked(const struct shunt_sites *sites, const struct shunt_site *site,
		   struct shunt_insn *out)
{
	const struct shunt_static_key *key = site_key(sites, site);

	direct(sites, site, key->initial, out);
}

/* ----------------------------------------------------------------- counting */

static int load_count(const struct shunt_static_key *key)
{
	return __atomic_load_n(&key->count, __ATOMIC_ACQUIRE);
}

static void store_count(struct shunt_static_key *key, int count)
{
	/* Pairs with load_count(). */
	__atomic_store_n(&key->count, count, __ATOMIC_RELEASE);
}

/* Add @step to a count that is at least @least, and not at its end. Lock-free. */
static bool add_to(struct shunt_static_key *key, int least, int step)
{
	int count = load_count(key);

	while (count >= least && !(step > 0 && count == INT_MAX))
		if (__atomic_compare_exchange_n(&key->count, &count, count + step, false,
						__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
			return true;
	return false;
}

static const char counted_on[] = "switch off: others count on it";

/* -------------------------------------------- keys whose sites are not known */

void shunt_static_key_set_flags(struct shunt_static_key *key, unsigned flags, bool on)
{
	shunt_key_set_flags(&shunt_static_key_kind, key, flags, on);
}

/* A port that has been written before there was this question. */
__attribute__((weak)) bool shunt_port_registers_modules(void)
{
	return false;
}

void shunt_static_keys_known(struct shunt_static_key *keys, size_t n, bool known)
{
	const unsigned char unknown = SHUNT_KEY_PENDING | SHUNT_KEY_UNREGISTERED;

	for (size_t i = 0; i < n; i++)
		if (known)
			__atomic_fetch_and(&keys[i].pending, (unsigned char)~unknown,
					   __ATOMIC_RELEASE);
		else
			__atomic_fetch_or(&keys[i].pending, SHUNT_KEY_PENDING, __ATOMIC_RELEASE);
}

/* Not one update lock, but one for each libshunt. At its end the count stays for good. */
void shunt_static_key_tested_elsewhere(struct shunt_static_key *key, bool on)
{
	const unsigned last = SHUNT_KEY_UNREGISTERED - SHUNT_KEY_ELSEWHERE;
	unsigned char was = __atomic_load_n(&key->pending, __ATOMIC_RELAXED);
	int step = on ? SHUNT_KEY_ELSEWHERE : -SHUNT_KEY_ELSEWHERE;

	while ((was & last) != last && (on || was & last) &&
	       !__atomic_compare_exchange_n(&key->pending, &was, (unsigned char)(was + step), false,
					    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		;
}

bool shunt_static_key_is_known(const struct shunt_static_key *key)
{
	return !(__atomic_load_n(&key->pending, __ATOMIC_ACQUIRE) &
		 (SHUNT_KEY_PENDING | SHUNT_KEY_UNREGISTERED));
}

const char *shunt_static_key_why_pending(const struct shunt_static_key *key)
{
	unsigned pending = __atomic_load_n(&key->pending, __ATOMIC_ACQUIRE);

	if (pending & SHUNT_KEY_PENDING)
		return "the key's module has not registered yet, or is being unloaded";
	if (pending & SHUNT_KEY_UNREGISTERED && shunt_port_registers_modules())
		return "no source file of the key's module registers it: compiled with "
		       "-ffreestanding or SHUNT_NO_MODULE";
	return pending & ~(unsigned)SHUNT_KEY_UNREGISTERED
		       ? "a module that another libshunt has registered tests the key"
		       : NULL;
}

/* Whether all sites of the key are known, and do what it says. Lock-free. */
static bool is_settled(const struct shunt_static_key *key)
{
	return !shunt_static_key_why_pending(key) &&
	       !__atomic_load_n(&key->unknown, __ATOMIC_ACQUIRE);
}

/* Sites have no trampoline that would follow the key: an update that would not reach them
 * all is refused. */
static int check(void *object, struct shunt_report *report)
{
	struct shunt_static_key *key = object;

	if (key->unknown & (SHUNT_KEY_REFUSED | SHUNT_KEY_LOST))
		return shunt_port_sites_unknown(key, &report->what);
	report->what = shunt_static_key_why_pending(key);
	if (!report->what && !shunt_port_is_own_key(key))
		report->what = SHUNT_OF_ANOTHER;
	return report->what ? -SHUNT_EAGAIN : 0;
}

/* -------------------------------------------------------------------- changes */

/*
 * Before a change. To switch off, take the count from 1 to 0, so that from here on
 * nobody counts without the lock.
 */
static int begin(void *object, uintptr_t on, struct shunt_report *report)
{
	struct shunt_static_key *key = object;
	int one = 1;

	if (on || __atomic_compare_exchange_n(&key->count, &one, 0, false, __ATOMIC_ACQ_REL,
					      __ATOMIC_ACQUIRE))
		return 0;
	report->what = counted_on;
	return -SHUNT_EBUSY;
}

/*
 * Behind a change, or behind one that failed; or one that has not begun (in a copy of the
 * process), where others count. @on is what the key is now.
 */
static void end(void *object, uintptr_t on)
{
	if (!load_count(object))
		store_count(object, on != 0);
}

const struct shunt_kind shunt_static_key_kind = {
	.key = site_key,
	.name = offsetof(struct shunt_static_key, name),
	.mods = offsetof(struct shunt_static_key, mods),
	.value = offsetof(struct shunt_static_key, on),
	.initial = offsetof(struct shunt_static_key, initial),
	.flags = offsetof(struct shunt_static_key, unknown),
	.stale = SHUNT_KEY_STALE,
	.is_byte = true,
	.direct = direct,
	.flips = flips,
	.linked = linked,
	.check = check,
	.begin = begin,
	.end = end,
	.falls_back = false,
};

/* ------------------------------------------------------------------- public */

static int inc(struct shunt_static_key *key, struct shunt_key_change *change,
	       struct shunt_report *report)
{
	if (add_to(key, 1, 1))
		return 0;
	if (load_count(key) == 0)
		return shunt_update(change, 1, report);
	report->what = "static_branch_inc: the count is at its end";
	return -SHUNT_EOVERFLOW;
}

static int dec(struct shunt_static_key *key, struct shunt_key_change *change,
	       struct shunt_report *report)
{
	while (!add_to(key, 2, -1)) {
		int ret;

		*report = (struct shunt_report){.key = key->name}; /* not that of the last try */
		if (load_count(key) == 0) {
			report->what = "static_branch_dec: the count is 0";
			return -SHUNT_EINVAL;
		}
		ret = shunt_update(change, 1, report);
		/* Busy with a count of 1: another has counted it up meanwhile. */
		if (ret != -SHUNT_EBUSY || report->what != counted_on)
			return ret;
	}
	report->error = 0;
	return 0;
}

bool shunt_static_key_step(struct shunt_static_key *key, int step)
{
	return add_to(key, step > 0 ? 1 : 2, step);
}

/* Bring up sites that do not do what the key says, so that a count tells the truth. */
static int bring_up_sites(struct shunt_static_key *key, struct shunt_report *report)
{
	struct shunt_key_change change = {.kind = &shunt_static_key_kind,
					  .key = key,
					  .to = shunt_key_value(&shunt_static_key_kind, key)};

	return shunt_update(&change, 1, report);
}

/* inc or dec, where it may be the first or the last. */
static int count_locked(struct shunt_static_key *key, uintptr_t on)
{
	struct shunt_key_change change = {.kind = &shunt_static_key_kind, .key = key, .to = on};
	struct shunt_report report = {.key = key->name};
	int ret = shunt_port_lock();

	if (ret) {
		report.what = ret == -SHUNT_EDEADLK ? "update within an update of the same thread"
						    : "take the update lock";
		return shunt_report_result(&report, ret);
	}
	shunt_port_sites_wanted();
	ret = bring_up_sites(key, &report);
	if (!ret)
		ret = (on ? inc : dec)(key, &change, &report);
	shunt_port_unlock();
	return shunt_report_result(&report, ret);
}

static int refuse_undefined(void)
{
	return shunt_refuse("the static key is declared, but no module defines it", NULL);
}

static int switch_key(const struct static_key *handle, uintptr_t on)
{
	struct shunt_key_change change = {
		.kind = &shunt_static_key_kind, .key = key_of(handle), .to = on};

	if (!change.key)
		return refuse_undefined();
	return shunt_change_keys(&change, 1);
}

int __static_key_enable(const struct static_key *handle)
{
	return switch_key(handle, 1);
}

int __static_key_disable(const struct static_key *handle)
{
	return switch_key(handle, 0);
}

int __static_key_inc(const struct static_key *handle)
{
	struct shunt_static_key *key = key_of(handle);

	if (!key)
		return refuse_undefined();
	return is_settled(key) && add_to(key, 1, 1) ? 0 : count_locked(key, 1);
}

int __static_key_dec(const struct static_key *handle)
{
	struct shunt_static_key *key = key_of(handle);

	if (!key)
		return refuse_undefined();
	return is_settled(key) && add_to(key, 2, -1) ? 0 : count_locked(key, 0);
}

int __static_key_count(const struct static_key *handle)
{
	struct shunt_static_key *key = key_of(handle);

	return key ? load_count(key) : 0;
}

int __static_key_batch_add(struct static_call_batch *batch, const struct static_key *handle, int on)
{
	if (!batch)
		return shunt_refuse("static_branch_batch_enable: no batch", NULL);
	if (!key_of(handle))
		return refuse_undefined();
	return shunt_batch_add(batch, &shunt_static_key_kind, key_of(handle), on != 0);
}
