/* SPDX-License-Identifier: MIT */
/*
 * The inspection interface (shunt/inspect.h): takes a snapshot under the update
 * lock, names its functions from the modules' symbol tables without it, and hands
 * it out.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <shunt/inspect.h>
#include <shunt/module.h>
#include <shunt/port.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "core/key.h"
#include "core/poke.h"
#include "core/site.h"
#include "linux/base/base.h"
#include "linux/base/dl_list.h"
#include "linux/base/registry.h"
#include "linux/elf/elf.h"
#include "linux/module/bind.h"
#include "linux/module/image.h"
#include "linux/show/inspect.h"
#include "linux/sync/sync.h"
#include "linux/text/text.h"
#include "linux/trap/sigtrap.h"

static uint64_t load(_Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

void shunt_get_stats(struct shunt_stats *stats)
{
	uint64_t emulated;

	shunt_trap_counts(&emulated, &stats->late_traps, &stats->foreign_traps);
	stats->traps = emulated + stats->late_traps;
	stats->updates = load(&shunt_poke_stats.pokes);
	stats->writes = load(&shunt_poke_stats.writes);
	stats->bytes_written = load(&shunt_poke_stats.bytes);
	stats->syncs = load(&shunt_poke_stats.syncs);
}

void shunt_get_ways(struct shunt_ways *ways)
{
	ways->write = shunt_text_writer();
	ways->sync = shunt_sync_method();
	shunt_poke_way(ways);
}

const char *shunt_site_state_name(enum shunt_site_state state)
{
	static const char *const names[] = {"inline",     "tail", "conditional",
					    "trampoline", "far",  "branch"};

	return (size_t)state < sizeof(names) / sizeof(names[0]) ? names[state] : "?";
}

static const char *why_text(enum shunt_why why)
{
	switch (why) {
	case SHUNT_INLINE:
	case SHUNT_INLINE_OFF:
		return NULL;
	case SHUNT_WHY_NEW:
		return "its module is being registered";
	case SHUNT_WHY_FAR:
		return "the target is more than " SHUNT_REACH_NAME " away";
	case SHUNT_WHY_TOO_FAR:
		return "the target is more than " SHUNT_REACH_NAME
		       " away, and no veneer is to be had";
	case SHUNT_WHY_FOREIGN:
		return "foreign bytes stood at the site when its module was registered";
	case SHUNT_WHY_WRITE:
		return "text could not be written when its module was registered";
	case SHUNT_WHY_UNBOUND:
		return "which key it calls is not known";
	}
	return NULL;
}

/* ----------------------------------------------------------------- functions */

/* The symbols of one module's file, kept while a snapshot is handed out. */
struct symbols {
	struct shunt_file file;
	struct shunt_elf elf;
	struct shunt_elf_func_index index;
	struct shunt_range range; /* where it lies, which another one may be in a hole of */
	uintptr_t bias;
	char path[4096]; /* of which module */
	struct {
		int error; /* 0: its file could be read */
		const char *call;
	} unread;
	char name[1024];          /* a copy of the dynamic linker's */
	struct shunt_image image; /* that is looked at */
};

static void symbols_close(struct symbols *s)
{
	shunt_elf_func_index_free(&s->index);
	shunt_file_unmap(&s->file);
	s->path[0] = '\0';
	s->range = (struct shunt_range){0};
	s->elf = (struct shunt_elf){0};
}

/* Not on the stack, which may be one of PTHREAD_STACK_MIN. NULL: no memory. */
static struct symbols *symbols_new(void)
{
	return shunt_port_alloc(sizeof(struct symbols));
}

static void symbols_free(struct symbols *s)
{
	if (!s)
		return;
	symbols_close(s);
	shunt_port_free(s, sizeof(*s));
}

static void symbols_open(struct symbols *s, const char *path)
{
	symbols_close(s);
	(void)snprintf(s->path, sizeof(s->path), "%s", path);
	s->unread.error = shunt_file_map(&s->file, path);
	if (s->unread.error) {
		s->unread.call = shunt_failed_call;
		shunt_failed_call = NULL; /* no names then */
		return;
	}
	if (shunt_elf_open(&s->elf, s->file.image, s->file.size) ||
	    shunt_elf_func_index_build(&s->index, &s->elf))
		shunt_file_unmap(&s->file);
}

/* The function at @addr of the module in file @path, loaded at @bias. */
static const char *function_at(struct symbols *s, const char *path, uintptr_t bias,
			       const void *addr, size_t *offset)
{
	uint64_t start = 0;
	const char *name = NULL;

	if (strcmp(s->path, path) != 0)
		symbols_open(s, path);
	if (s->file.size)
		name = shunt_elf_func_index_at(&s->index, (uintptr_t)addr - bias, &start);
	*offset = name ? (uintptr_t)addr - bias - start : 0;
	return name;
}

/* ------------------------------------------------------------------- strings */

/*
 * Names of keys, copied behind the snapshot: they are their modules', which can go once
 * the lock is free. Neighbours mostly have the same key, so the last one is remembered.
 */
struct strings {
	char *at; /* NULL: only counted */
	size_t size;
	const char *last, *copy;
};

static const char *copy_string(struct strings *s, const char *string)
{
	size_t size;

	if (string == s->last)
		return s->copy;
	size = strlen(string) + 1;
	s->last = string;
	s->copy = s->at ? memcpy(s->at + s->size, string, size) : NULL;
	s->size += size;
	return s->copy;
}

/* What is handed out without the lock: entries, and behind them the strings that they name. */
struct snapshot {
	void *entries;
	size_t n, size; /* of all, in bytes */
};

/* Entries to @to, of @key or, with NULL, of all; with @to NULL only counts. How many. */
typedef size_t snapshot_fn(const char *key, struct strings *strings, void *to);

/* Counted, then copied, under the update lock. 0, or -errno with nothing in @all. */
static int take_snapshot(struct snapshot *all, snapshot_fn *fill, const char *key, size_t entry)
{
	struct strings counted = {0}, copied = {0};
	size_t n, size;
	int ret = shunt_port_lock();

	if (ret)
		return ret;
	shunt_port_sites_wanted();
	n = fill(key, &counted, NULL);
	size = n * entry + counted.size;
	if (n)
		all->entries = shunt_port_alloc(size);
	if (all->entries) {
		copied.at = (char *)all->entries + n * entry;
		all->n = fill(key, &copied, all->entries);
		all->size = size;
	}
	shunt_port_unlock();
	return n && !all->entries ? shunt_port_no_memory() : 0;
}

/* --------------------------------------------------------------------- sites */

struct site_snapshot {
	struct shunt_site_info info;
	uintptr_t bias;
};

static enum shunt_site_state state_of(const struct shunt_site *site)
{
	static const uint8_t state[] = {
		[SHUNT_KIND_CALL] = SHUNT_SITE_INLINE,
		[SHUNT_KIND_CALL_GOT] = SHUNT_SITE_INLINE,
		[SHUNT_KIND_JMP] = SHUNT_SITE_TAIL,
		[SHUNT_KIND_JMP_GOT] = SHUNT_SITE_TAIL,
		[SHUNT_KIND_JCC] = SHUNT_SITE_CONDITIONAL,
		[SHUNT_KIND_BRANCH] = SHUNT_SITE_NOP_OR_JMP,
		[SHUNT_KIND_BRANCH2] = SHUNT_SITE_NOP_OR_JMP,
	};
	unsigned kind = shunt_site_kind(site);

	if (shunt_site_is_inline(site) || state[kind] == SHUNT_SITE_NOP_OR_JMP)
		return state[kind];
	return site->why == SHUNT_WHY_FAR ? SHUNT_SITE_FAR : SHUNT_SITE_TRAMPOLINE;
}

/*
 * The name of the site's key, or NULL where that is gone. Of a site whose key is not known,
 * what its call's symbol says, and *why it is not.
 */
static const char *key_name(const struct shunt_loaded *m, const struct shunt_sites *sites,
			    const struct shunt_site *site, const char **why)
{
	const void *key = sites->kind->key(sites, site);
	const char *name = NULL;

	*why = why_text(site->why);
	if (key)
		return shunt_key_name(sites->kind, key);
	if (site->why == SHUNT_WHY_UNBOUND && sites == &m->branches)
		*why = shunt_why_branch_unbound(sites, site, &name);
	else if (site->why == SHUNT_WHY_UNBOUND)
		*why = shunt_why_unbound(&m->bindings, site->owner, &name);
	return name;
}

static void site_info(const struct shunt_loaded *m, const struct shunt_sites *sites,
		      const struct shunt_site *site, struct strings *strings,
		      struct site_snapshot *out)
{
	const char *why, *name = key_name(m, sites, site, &why);

	out->bias = m->bias;
	out->info = (struct shunt_site_info){
		.key = copy_string(strings, name),
		.addr = shunt_site_addr(&sites->table, site),
		.len = shunt_site_len(shunt_site_kind(site)),
		.module = m->path,
		.state = state_of(site),
		.why = why,
	};
}

/* Whether the site's key is there, and is the one that is asked for. */
static bool is_wanted(const char *wanted, const struct shunt_loaded *m,
		      const struct shunt_sites *sites, const struct shunt_site *site)
{
	const char *why, *name = key_name(m, sites, site, &why);

	return name && (!wanted || !strcmp(wanted, name));
}

static size_t snapshot_table(const char *key, const struct shunt_loaded *m,
			     const struct shunt_sites *sites, struct strings *strings,
			     struct site_snapshot *out)
{
	struct site_snapshot unused;
	size_t n = 0;

	for (uint32_t i = 0; i < sites->table.nr_sites; i++) {
		const struct shunt_site *site = &sites->table.sites[i];

		if (!is_wanted(key, m, sites, site))
			continue;
		site_info(m, sites, site, strings, out ? &out[n] : &unused);
		n++;
	}
	return n;
}

/* Update lock held, as for every snapshot_fn. */
static size_t snapshot_sites(const char *key, struct strings *strings, void *to)
{
	struct site_snapshot *out = to;
	size_t n = 0;

	for (struct shunt_loaded *m = shunt_first_loaded(); m; m = m->next) {
		if (!m->module)
			continue;
		n += snapshot_table(key, m, &m->calls, strings, out ? out + n : NULL);
		n += snapshot_table(key, m, &m->branches, strings, out ? out + n : NULL);
	}
	return n;
}

int shunt_for_each_site(const char *key, int (*fn)(const struct shunt_site_info *info, void *arg),
			void *arg)
{
	struct symbols *symbols = symbols_new();
	struct snapshot all = {0};
	struct site_snapshot *sites;
	int ret = symbols ? take_snapshot(&all, snapshot_sites, key, sizeof(*sites))
			  : shunt_port_no_memory();

	ret = shunt_tell_failure("shunt_for_each_site", ret);
	sites = all.entries;
	for (size_t i = 0; i < all.n && !ret; i++) {
		struct shunt_site_info *info = &sites[i].info;

		info->function = function_at(symbols, info->module, sites[i].bias, info->addr,
					     &info->offset);
		ret = fn(info, arg);
	}
	symbols_free(symbols);
	shunt_port_free(sites, all.size);
	return ret;
}

/* ---------------------------------------------------------------------- keys */

static void count_sites(const struct shunt_mod *mod, struct shunt_key_info *info)
{
	for (; mod; mod = mod->next) {
		const struct shunt_site *sites = mod->sites->table.sites;

		info->sites += mod->nr_sites;
		for (uint32_t i = mod->first; i; i = sites[i - 1].next)
			info->inline_sites += shunt_site_is_inline(&sites[i - 1]);
	}
}

static void call_info(const struct shunt_loaded *m, const struct static_call_key *key,
		      struct strings *strings, struct shunt_key_info *out)
{
	*out = (struct shunt_key_info){
		.name = copy_string(strings, key->name),
		.type = SHUNT_KEY_CALL,
		.target = __static_call_query(key),
		.module = m->path,
		.why = m->why,
		.takes = (key->flags & STATIC_CALL_NULLABLE ? SHUNT_KEY_TAKES_NULL : 0) |
			 (key->init == (void (*)(void))__static_call_return0 ? SHUNT_KEY_TAKES_RET0
									     : 0) |
			 (key->init == __atomic_load_n(&key->func, __ATOMIC_RELAXED)
				  ? SHUNT_KEY_IS_INITIAL
				  : 0),
	};
	count_sites(key->mods, out);
}

static void branch_info(const struct shunt_loaded *m, struct shunt_static_key *key,
			struct strings *strings, struct shunt_key_info *out)
{
	*out = (struct shunt_key_info){
		.name = copy_string(strings, key->name),
		.type = SHUNT_KEY_BRANCH,
		.count = __atomic_load_n(&key->count, __ATOMIC_RELAXED),
		.module = m->path,
	};
	if (key->unknown & (SHUNT_KEY_REFUSED | SHUNT_KEY_LOST))
		(void)shunt_port_sites_unknown(key, &out->why);
	if (!out->why)
		out->why = shunt_static_key_why_pending(key);
	count_sites(key->mods, out);
}

static size_t snapshot_keys(const char *unused_key, struct strings *strings, void *to)
{
	struct shunt_key_info unused, *out = to;
	size_t n = 0;

	(void)unused_key;
	for (struct shunt_loaded *m = shunt_first_loaded(); m; m = m->next) {
		const struct shunt_module *module = m->module;
		const struct static_call_key *call;
		struct shunt_static_key *key;

		if (!module)
			continue;
		for (call = module->call_keys; call != module->call_keys_end; call++, n++)
			call_info(m, call, strings, out ? &out[n] : &unused);
		for (key = module->static_keys; key != module->static_keys_end; key++, n++)
			branch_info(m, key, strings, out ? &out[n] : &unused);
	}
	return n;
}

/* The string is the module's: copied, and believed if it is still there afterwards. */
static const char *linker_name(struct symbols *symbols, const void *target)
{
	Dl_info dl, still;

	if (shunt_dl_may_be_locked() || !dladdr(target, &dl) || dl.dli_saddr != target ||
	    !dl.dli_sname ||
	    !shunt_peek_string(symbols->name, sizeof(symbols->name), dl.dli_sname) ||
	    !dladdr(target, &still) || still.dli_sname != dl.dli_sname)
		return NULL;
	return symbols->name;
}

/*
 * The name of the function that @target is, from the file of the module it is in; and
 * where that has no symbol table, from the dynamic linker. The module may be going. Mostly it
 * is the last target's, and is not asked for again: that costs some 25 us.
 */
static const char *target_name(struct symbols *symbols, const void *target)
{
	struct shunt_image *image = &symbols->image;
	size_t offset;
	const char *name;

	if (!target)
		return NULL;
	memset(image, 0, sizeof(*image));
	image->inside = (uintptr_t)target;
	if (image->inside - symbols->range.start < symbols->range.end - symbols->range.start) {
		name = function_at(symbols, symbols->path, symbols->bias, target, &offset);
		if (name && !offset)
			return name;
	}
	if (!shunt_image_look(image, NULL, NULL))
		return NULL;
	name = function_at(symbols, image->path, image->bias, target, &offset);
	symbols->range = image->range;
	symbols->bias = image->bias;
	if (name && !offset)
		return name;
	return linker_name(symbols, target);
}

int shunt_is_function_name(const void *func, const char *name)
{
	struct symbols *symbols = symbols_new();
	const char *own = symbols ? target_name(symbols, func) : NULL;
	int ret = symbols ? own && !strcmp(own, name) : shunt_port_no_memory();

	if (symbols && !own && symbols->unread.error) {
		shunt_failed_call = symbols->unread.call;
		ret = symbols->unread.error;
	}
	symbols_free(symbols);
	return ret;
}

int shunt_for_each_key(int (*fn)(const struct shunt_key_info *info, void *arg), void *arg)
{
	struct symbols *symbols = symbols_new();
	struct snapshot all = {0};
	struct shunt_key_info *keys;
	int ret = symbols ? take_snapshot(&all, snapshot_keys, NULL, sizeof(*keys))
			  : shunt_port_no_memory();

	ret = shunt_tell_failure("shunt_for_each_key", ret);
	keys = all.entries;
	for (size_t i = 0; i < all.n && !ret; i++) {
		keys[i].target_function = target_name(symbols, keys[i].target);
		ret = fn(&keys[i], arg);
	}
	symbols_free(symbols);
	shunt_port_free(keys, all.size);
	return ret;
}
