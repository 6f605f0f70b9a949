/* SPDX-License-Identifier: MIT */
/*
 * Static calls as a kind of key: what each form of site becomes for a function.
 * After kernel/static_call_inline.c and arch/x86/kernel/static_call.c of Linux.
 */
#include <shunt/static_call.h>

#include "core/error.h"
#include "core/key.h"

typedef void (*func_t)(void);

/* STATIC_CALL_RET0 as a function pointer. */
static func_t return0(void)
{
	return (func_t)__static_call_return0;
}

static bool is_call(unsigned kind)
{
	return kind == SHUNT_KIND_CALL || kind == SHUNT_KIND_CALL_GOT;
}

/* What the site called before it was switched off; 0: none. */
static uintptr_t last_target(const struct shunt_sites *sites, const struct shunt_site *site)
{
	/* Pairs with keep_target(), for the trap handler. */
	return __atomic_load_n(&sites->mods[site->owner].last, __ATOMIC_RELAXED);
}

static uint8_t call_op(func_t func)
{
	return func == return0() ? SHUNT_RET0_CALL : SHUNT_OP_CALL;
}

/*
 * The call of NULL: what differs from the call of the last target in its first byte alone. A
 * call of 6 bytes has a prefix there, and no such form; nor has what has never called.
 */
static void null_call(const struct shunt_sites *sites, const struct shunt_site *site,
		      struct shunt_insn *out)
{
	out->target = last_target(sites, site);
	out->op = out->target && out->len == SHUNT_PLAIN_LEN ? SHUNT_OFF_CALL : SHUNT_OP_NOP;
}

/*
 * The same of a tail call: what is behind the ret is not reached. Where a CPU has no such form it
 * jumps to the helper.
 */
static void null_tail(const struct shunt_sites *sites, const struct shunt_site *site,
		      struct shunt_insn *out)
{
	out->op = SHUNT_OFF_TAIL;
	if (SHUNT_OFF_TAIL == SHUNT_OP_JMP)
		return;
	out->target = last_target(sites, site);
	if (out->target)
		out->len = SHUNT_PLAIN_LEN;
}

/*
 * A tail call has no RET0 form: its caller's caller takes the result, so it jumps
 * to the helper. A conditional tail call has no NULL form either.
 */
static void direct(const struct shunt_sites *sites, const struct shunt_site *site, uintptr_t value,
		   struct shunt_insn *out)
{
	unsigned kind = shunt_site_kind(site);
	func_t func = (func_t)value;

	out->len = (uint8_t)shunt_site_len(kind);
	out->cc = 0;
	out->target = value;
	if (is_call(kind) && func == __static_call_nop) {
		null_call(sites, site, out);
	} else if (is_call(kind)) {
		out->op = call_op(func);
	} else if (kind == SHUNT_KIND_JCC) {
		out->op = SHUNT_OP_JCC;
		out->cc = (uint8_t)shunt_site_cc(site);
	} else if (func == __static_call_nop) {
		null_tail(sites, site, out);
	} else {
		out->op = SHUNT_OP_JMP;
		out->len = SHUNT_PLAIN_LEN;
	}
}

static bool is_plain(uintptr_t value)
{
	return (func_t)value != __static_call_nop && (func_t)value != return0();
}

static void linked(const struct shunt_sites *sites, const struct shunt_site *site,
		   struct shunt_insn *out)
{
	static const uint8_t op[] = {
		[SHUNT_KIND_CALL] = SHUNT_OP_CALL, [SHUNT_KIND_CALL_GOT] = SHUNT_OP_CALL_MEM,
		[SHUNT_KIND_JMP] = SHUNT_OP_JMP,   [SHUNT_KIND_JMP_GOT] = SHUNT_OP_JMP_MEM,
		[SHUNT_KIND_JCC] = SHUNT_OP_JCC,
	};
	const struct shunt_mod *mod = &sites->mods[site->owner];
	unsigned kind = shunt_site_kind(site);

	out->op = op[kind];
	out->len = (uint8_t)shunt_site_len(kind);
	out->cc = (uint8_t)shunt_site_cc(site);
	out->target =
		kind == SHUNT_KIND_CALL_GOT || kind == SHUNT_KIND_JMP_GOT ? mod->slot : mod->tramp;
}

/* The owner of a static call's site is the index of its mod. */
static void *site_key(const struct shunt_sites *sites, const struct shunt_site *site)
{
	return sites->mods[site->owner].key;
}

/* Whether the sites that were baked for @key, all in its own module, are known. */
static bool has_baked_sites(const struct static_call_key *key)
{
	const struct shunt_mod *mod = key->mods;

	while (mod && !mod->has_baked)
		mod = mod->next;
	return mod;
}

/* A port that has been written before there was this question. */
__attribute__((weak)) int shunt_port_is_own_key(const void *key)
{
	(void)key;
	return 1;
}

__attribute__((weak)) int shunt_port_baked_sites_lost(const void *key, const char **what)
{
	(void)key;
	(void)what;
	return 0;
}

/* Why an update of @key, whose baked sites are not known, is refused: for now, or for good. */
static int check_baked(const struct static_call_key *key, struct shunt_report *report)
{
	int ret = shunt_port_baked_sites_lost(key, &report->what);

	if (ret)
		return ret;
	report->what = "the sites of a baked key are not known (yet)";
	return -SHUNT_EAGAIN;
}

/*
 * A static call whose sites do not go through its trampoline cannot be updated while they
 * are not known: they were baked, and its module's constructor has not run, or its file
 * could not be read; or its module is on its way out. Nor where the sites are another libshunt's,
 * which has a lock of its own.
 */
static int check_user(void *object, struct shunt_report *report)
{
	const struct static_call_key *key = object;

	if (key->flags & STATIC_CALL_GONE)
		report->what = "the key's module is being unloaded";
	else if (key->flags & STATIC_CALL_BAKED && !has_baked_sites(key))
		return check_baked(key, report);
	else if (key->mods && !shunt_port_is_own_key(key))
		report->what = SHUNT_OF_ANOTHER;
	else
		return 0;
	return -SHUNT_EAGAIN;
}

/*
 * The target that the sites of @key have now, before they are switched off. Nobody goes by it
 * as long as they have it; so it may stay where the update fails.
 */
static void keep_target(struct static_call_key *key)
{
	uintptr_t func = shunt_key_value(&shunt_static_call_kind, key);

	for (struct shunt_mod *mod = key->mods; mod && is_plain(func); mod = mod->next)
		__atomic_store_n(&mod->last, func, __ATOMIC_RELAXED);
}

/* A key that reaches a trampoline may reach its own, and then calls never end. */
static int begin(void *key, uintptr_t to, struct shunt_report *report)
{
	if ((func_t)to == __static_call_nop)
		keep_target(key);
	if (!is_plain(to) || !shunt_port_is_trampoline(to))
		return 0;
	report->what = "the function is a trampoline (static_call() for static_call_query()?)";
	return -SHUNT_EINVAL;
}

const struct shunt_kind shunt_static_call_kind = {
	.key = site_key,
	.name = offsetof(struct static_call_key, name),
	.mods = offsetof(struct static_call_key, mods),
	.value = offsetof(struct static_call_key, func),
	.initial = offsetof(struct static_call_key, init),
	.flags = offsetof(struct static_call_key, flags), /* its lowest byte */
	.stale = STATIC_CALL_STALE,
	.direct = direct,
	.is_plain = is_plain,
	.linked = linked,
	.check_user = check_user,
	.watch = shunt_port_watch,
	.begin = begin,
	.falls_back = true,
};

/* ------------------------------------------------------------------ public */

const char *shunt_static_call_value(const struct static_call_key *key, func_t func,
				    uintptr_t *value)
{
	*value = (uintptr_t)(func ? func : __static_call_nop);
	if (!func && !(key->flags & STATIC_CALL_NULLABLE))
		return "static_call_update: NULL, but the key is not nullable";
	if (func == return0() && (key->flags & STATIC_CALL_NO_RET0))
		return "static_call_update: RET0, but the key's function returns neither an "
		       "integer "
		       "nor a pointer";
	return NULL;
}

int __static_call_update(struct static_call_key *key, func_t func)
{
	struct shunt_key_change change = {.kind = &shunt_static_call_kind, .key = key};
	const char *why;

	if (!key)
		return shunt_refuse("static_call_update: no key", NULL);
	why = shunt_static_call_value(key, func, &change.to);
	if (why)
		return shunt_refuse(why, key->name);
	return shunt_change_keys(&change, 1);
}

void *__static_call_query(const struct static_call_key *key)
{
	func_t func;

	if (!key)
		return NULL;
	func = (func_t)shunt_key_value(&shunt_static_call_kind, key);
	return func == __static_call_nop ? NULL : (void *)func;
}

int __static_call_batch_add(struct static_call_batch *batch, struct static_call_key *key,
			    func_t func)
{
	uintptr_t value;
	const char *why;

	if (!batch || !key)
		return shunt_refuse("static_call_batch_add: no batch or no key", NULL);
	why = shunt_static_call_value(key, func, &value);
	if (why)
		return shunt_refuse(why, key->name);
	return shunt_batch_add(batch, &shunt_static_call_kind, key, value);
}
