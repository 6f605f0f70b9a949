/* SPDX-License-Identifier: MIT */
/*
 * The inspection interface (shunt/inspect.h): takes a snapshot under the update
 * lock, names its functions from the modules' symbol tables without it, and hands
 * it out.
 */
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

#include <shunt/inspect.h>

#include "core/poke.h"
#include "linux/elf.h"
#include "linux/linux.h"

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
	ways->write = shunt_text_way();
	ways->sync = shunt_sync_way();
	ways->poke = "int3";
}

const char *shunt_site_state_name(enum shunt_site_state state)
{
	static const char *const names[] = {"inline", "tail", "conditional", "trampoline"};

	return (size_t)state < sizeof(names) / sizeof(names[0]) ? names[state] : "?";
}

static const char *why_text(enum shunt_why why)
{
	switch (why) {
	case SHUNT_INLINE:
		return NULL;
	case SHUNT_WHY_NEW:
		return "its module is being registered";
	case SHUNT_WHY_FAR:
		return "the target is more than 2 GiB away";
	case SHUNT_WHY_FOREIGN:
		return "foreign bytes stood at the site when its module was registered";
	case SHUNT_WHY_WRITE:
		return "text could not be written when its module was registered";
	}
	return NULL;
}

/* ----------------------------------------------------------------- functions */

/* The symbols of one module's file, kept while a snapshot is handed out. */
struct symbols {
	struct shunt_file file;
	struct shunt_elf elf;
	struct shunt_elf_func_index index;
	const char *path; /* of which module; compared as a pointer */
};

static void symbols_close(struct symbols *s)
{
	shunt_elf_func_index_free(&s->index);
	shunt_file_unmap(&s->file);
	*s = (struct symbols){0};
}

static void symbols_open(struct symbols *s, const char *path)
{
	symbols_close(s);
	s->path = path;
	if (shunt_file_map(&s->file, path))
		return;
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

	if (s->path != path)
		symbols_open(s, path);
	if (s->file.size)
		name = shunt_elf_func_index_at(&s->index, (uintptr_t)addr - bias, &start);
	*offset = name ? (uintptr_t)addr - bias - start : 0;
	return name;
}

/* --------------------------------------------------------------------- sites */

struct site_snapshot {
	struct shunt_site_info info;
	uintptr_t bias;
};

static enum shunt_site_state state_of(const struct shunt_site *site)
{
	switch (site->why != SHUNT_INLINE ? SHUNT_SITE_JCC + 1 : shunt_site_kind(site)) {
	case SHUNT_SITE_CALL:
	case SHUNT_SITE_CALL_GOT:
		return SHUNT_SITE_INLINE;
	case SHUNT_SITE_JMP:
	case SHUNT_SITE_JMP_GOT:
		return SHUNT_SITE_TAIL;
	case SHUNT_SITE_JCC:
		return SHUNT_SITE_CONDITIONAL;
	default:
		return SHUNT_SITE_TRAMPOLINE;
	}
}

static void site_info(const struct shunt_loaded *m, const struct shunt_site *site,
		      struct site_snapshot *out)
{
	out->bias = m->bias;
	out->info = (struct shunt_site_info){
		.key = m->calls.mods[site->owner].key->name,
		.addr = shunt_site_addr(&m->calls.table, site),
		.len = shunt_site_len(shunt_site_kind(site)),
		.module = m->path,
		.state = state_of(site),
		.why = why_text(site->why),
	};
}

static bool is_wanted(const char *key, const char *name)
{
	return !key || !strcmp(key, name);
}

/* With @out NULL only counts. Update lock held. */
static size_t snapshot_sites(const char *key, struct site_snapshot *out)
{
	size_t n = 0;

	for (struct shunt_loaded *m = shunt_first_loaded(); m; m = m->next) {
		if (!m->module)
			continue;
		for (uint32_t i = 0; i < m->calls.table.nr_sites; i++) {
			const struct shunt_site *site = &m->calls.table.sites[i];

			if (!is_wanted(key, m->calls.mods[site->owner].key->name))
				continue;
			if (out)
				site_info(m, site, &out[n]);
			n++;
		}
	}
	return n;
}

int shunt_for_each_site(const char *key, int (*fn)(const struct shunt_site_info *info, void *arg),
			void *arg)
{
	struct site_snapshot *sites = NULL;
	struct symbols symbols = {0};
	size_t n;
	int ret = shunt_port_lock();

	if (ret)
		return ret;
	n = snapshot_sites(key, NULL);
	if (n)
		sites = shunt_port_alloc(n * sizeof(*sites));
	if (sites)
		snapshot_sites(key, sites);
	shunt_port_unlock();
	if (n && !sites)
		return -ENOMEM;

	for (size_t i = 0; i < n && !ret; i++) {
		struct shunt_site_info *info = &sites[i].info;

		info->function = function_at(&symbols, info->module, sites[i].bias, info->addr,
					     &info->offset);
		ret = fn(info, arg);
	}
	symbols_close(&symbols);
	shunt_port_free(sites, n * sizeof(*sites));
	return ret;
}

/* ---------------------------------------------------------------------- keys */

static void count_sites(const struct static_call_key *key, struct shunt_key_info *info)
{
	for (const struct static_call_mod *mod = key->mods; mod; mod = mod->next) {
		const struct shunt_site *sites = mod->table->table.sites;

		info->sites += mod->nr_sites;
		for (uint32_t i = mod->first; i; i = sites[i - 1].next)
			info->inline_sites += sites[i - 1].why == SHUNT_INLINE;
	}
}

static void key_info(const struct shunt_loaded *m, const struct static_call_key *key,
		     struct shunt_key_info *out)
{
	*out = (struct shunt_key_info){
		.name = key->name,
		.target = __static_call_query(key),
		.module = m->path,
		.why = m->why,
	};
	count_sites(key, out);
}

/* With @out NULL only counts. Update lock held. */
static size_t snapshot_keys(struct shunt_key_info *out)
{
	size_t n = 0;

	for (struct shunt_loaded *m = shunt_first_loaded(); m; m = m->next) {
		const struct static_call_key *key, *end;

		if (!m->module)
			continue;
		key = m->module->keys;
		end = m->module->keys_end;
		for (; key != end; key++, n++)
			if (out)
				key_info(m, key, &out[n]);
	}
	return n;
}

/* The module that has an address. */
struct place {
	uintptr_t addr;
	uintptr_t bias;
	const char *path; /* as long as the module is loaded; NULL: none has it */
};

static int find_place(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct place *place = arg;

	(void)size;
	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];

		if (ph->p_type != PT_LOAD ||
		    place->addr - info->dlpi_addr - ph->p_vaddr >= ph->p_memsz)
			continue;
		place->bias = info->dlpi_addr;
		place->path =
			info->dlpi_name && *info->dlpi_name ? info->dlpi_name : "/proc/self/exe";
		return 1;
	}
	return 0;
}

/*
 * The name of the function that @target is, from the file of the module it is in.
 * (Not by dladdr() alone: it knows no static executable, and its dli_fbase is not
 * the load bias of one that is not position-independent.)
 */
static const char *target_name(struct symbols *symbols, const void *target)
{
	struct place place = {.addr = (uintptr_t)target};
	Dl_info dl;
	size_t offset;
	const char *name;

	if (!target)
		return NULL;
	if (dladdr(target, &dl) && dl.dli_sname && dl.dli_saddr == target)
		return dl.dli_sname;
	if (!dl_iterate_phdr(find_place, &place))
		return NULL;
	name = function_at(symbols, place.path, place.bias, target, &offset);
	return offset ? NULL : name;
}

int shunt_for_each_key(int (*fn)(const struct shunt_key_info *info, void *arg), void *arg)
{
	struct shunt_key_info *keys = NULL;
	struct symbols symbols = {0};
	size_t n;
	int ret = shunt_port_lock();

	if (ret)
		return ret;
	n = snapshot_keys(NULL);
	if (n)
		keys = shunt_port_alloc(n * sizeof(*keys));
	if (keys)
		snapshot_keys(keys);
	shunt_port_unlock();
	if (n && !keys)
		return -ENOMEM;

	for (size_t i = 0; i < n && !ret; i++) {
		keys[i].target_function = target_name(&symbols, keys[i].target);
		ret = fn(&keys[i], arg);
	}
	symbols_close(&symbols);
	shunt_port_free(keys, n * sizeof(*keys));
	return ret;
}
