/* SPDX-License-Identifier: MIT */
/*
 * Modules: the program and its shared objects, as they come and go. A module
 * registers in its constructor; its sites are found (scan.c, or baked.c where
 * `shunt bake` has left a table) and handed to the core. Before it is unmapped, its
 * destructor takes all of that back.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "linux/debug.h"
#include "linux/elf.h"
#include "linux/linux.h"
#include "linux/mapping.h"
#include "linux/scan.h"

/* All records; grows at the head. Guarded by the update lock. */
struct shunt_loaded *shunt_loaded_modules;

/* So that a static program, too, is linked with what a debugger looks for. */
__attribute__((used)) static const void *const debug_table = &shunt_debug_table;

struct shunt_loaded *shunt_first_loaded(void)
{
	return shunt_loaded_modules;
}

/* -------------------------------------------------------------- registration */

/* Say why @m's sites are not known, and, where it matters, aloud. */
static void give_up(struct shunt_loaded *m, const char *why, int error)
{
	m->why = why;
	if (error != -ENODATA)
		shunt_message("module %s: %s; its static calls go through their trampolines%s%s",
			      m->path, why, error ? ": " : "", error ? strerror(-error) : "");
}

/* Move the sites into an array that may stay, and hand them to the core. */
static int take_sites_locked(struct shunt_sites *sites, size_t *room, struct shunt_scan *s,
			     struct shunt_report *report)
{
	struct shunt_site *array = shunt_sites_alloc(s->sites.n, room);

	if (!array) {
		report->error = -ENOMEM;
		report->what = "allocate the sites of a module";
		return -ENOMEM;
	}
	memcpy(array, s->sites.data, s->sites.n * sizeof(*array));
	sites->mods = s->mods.data;
	sites->nr_mods = (uint32_t)s->mods.n;
	(void)shunt_bind_mods(&s->bindings, sites->mods, true);
	return shunt_sites_add(sites, s->base, array, (uint32_t)s->sites.n, report);
}

/* @bindings: for those of the sites' mods. */
static int take_sites(struct shunt_sites *sites, size_t *room, struct shunt_bindings *bindings,
		      struct shunt_scan *s)
{
	struct shunt_report report = {0};
	int ret;

	if (!s->sites.n) {
		shunt_scan_free(s);
		return 0;
	}
	ret = shunt_port_lock();
	if (ret) {
		report.what = "module registered within an update of the same thread";
		shunt_scan_free(s);
	} else {
		ret = take_sites_locked(sites, room, s, &report);
		/* The mods are the table's now, whether or not its sites could be poked. */
		if (sites->nr_mods) {
			s->mods = (struct shunt_vector){0};
			*bindings = s->bindings;
			s->bindings = (struct shunt_bindings){0};
		}
		shunt_port_unlock();
		shunt_scan_free(s);
	}
	return shunt_finish(&report, ret);
}

static void scan_elf(struct shunt_loaded *m, struct shunt_scan *s)
{
	int ret = shunt_scan_calls(s);

	if (!ret) {
		ret = take_sites(&m->calls, &m->room_for_calls, &m->bindings, s);
		if (ret)
			give_up(m, "its text could not be written", ret);
	} else if (ret == -ENODATA) {
		give_up(m, shunt_elf_lack_text(shunt_elf_lack(s->elf)), ret);
	} else {
		give_up(m, ret == -EINVAL ? "the file is malformed" : "no memory to read it", ret);
	}
}

/*
 * A baked file: keep it mapped, even if another takes its place on disk, and read
 * the sites when they are wanted. False where the file is not baked.
 */
static bool open_baked(struct shunt_loaded *m, struct shunt_scan *s, struct shunt_file *file)
{
	struct shunt_baked_table table = {.text = m->range};
	int ret = shunt_baked_open(s, &table);

	if (ret == -ENODATA)
		return false;
	if (ret) {
		give_up(m, "its site table is malformed, or there is no memory for it", ret);
		return true;
	}
	table.file = *file;
	file->size = 0; /* the table's now */
	shunt_slots_free(s);
	m->calls.mods = s->mods.data;
	m->bindings = s->bindings;
	m->baked = table;
	return true;
}

/* Returns whether the file is the one that is mapped. */
static bool register_calls(struct shunt_loaded *m, const struct shunt_image *image)
{
	struct shunt_scan s = {.image = image, .module = m->module};
	struct shunt_file file;
	struct shunt_elf elf;
	int ret = shunt_file_map(&file, image->path);
	bool is_it = false;

	m->calls.kind = &shunt_static_call_kind;
	if (ret) {
		give_up(m, "the file cannot be read", ret);
		return false;
	}
	s.elf = &elf;
	ret = shunt_elf_open(&elf, file.image, file.size);
	if (ret)
		give_up(m, "the file is not the ELF file that is mapped", ret);
	else if (!(is_it = shunt_is_mapped_file(&elf, image)))
		give_up(m, "the file has been replaced since it was mapped", -ESTALE);
	else if (!open_baked(m, &s, &file))
		scan_elf(m, &s);
	shunt_file_unmap(&file);
	return is_it;
}

static void load_baked(struct shunt_loaded *m)
{
	struct shunt_report report = {0};
	struct shunt_site *array = shunt_sites_alloc(m->baked.nr_sites, &m->room_for_calls);
	uint32_t n;

	if (!array)
		return; /* tried again at the next update, which fails for want of it */
	n = shunt_baked_load(&m->baked, m->calls.mods, &m->bindings, array);
	m->calls.nr_mods = (uint32_t)m->bindings.of_mod.n;
	(void)shunt_bind_mods(&m->bindings, m->calls.mods, true);
	if (shunt_sites_add(&m->calls, m->baked.base, array, n, &report))
		m->why = "its text could not be written";
	m->baked.nr_sites = 0;
	shunt_file_unmap(&m->baked.file);
}

void shunt_port_sites_wanted(void)
{
	for (struct shunt_loaded *m = shunt_loaded_modules; m; m = m->next)
		if (m->module && m->baked.nr_sites)
			load_baked(m);
	shunt_bind_sites(false);
}

/* Whether the linker has kept the entry, which then is for text of the module. */
static bool is_kept(const struct shunt_loaded *m, const struct static_jump_entry *entry)
{
	return !m->range.end || shunt_in_range(m->range, shunt_jump_code(entry), 2);
}

/* Whether @m has tests of @key that are not known. */
static bool refuses(const struct shunt_loaded *m, const struct static_key *key)
{
	const struct static_jump_entry *e, *end;

	if (!m->module || !m->lacks_branches)
		return false;
	end = m->module->jumps_end;
	for (e = m->module->jumps; e != end; e++)
		if (is_kept(m, e) && shunt_jump_key(e) == key)
			return true;
	return false;
}

/* The keys that @m's static branches test cannot be changed: its sites are not known. */
static void refuse_branches(struct shunt_loaded *m)
{
	const struct static_jump_entry *e, *end = m->module->jumps_end;

	if (shunt_port_lock())
		return;
	m->lacks_branches = true;
	for (e = m->module->jumps; e != end; e++)
		if (is_kept(m, e))
			shunt_key_flag(shunt_jump_key(e), SHUNT_KEY_REFUSED, true);
	shunt_port_unlock();
}

/* The module that refuses may have gone meanwhile: then the key is free. */
int shunt_port_sites_unknown(struct static_key *key, const char **what)
{
	for (const struct shunt_loaded *m = shunt_loaded_modules; m; m = m->next)
		if (refuses(m, key)) {
			*what = "there was no memory for the sites of a module";
			return -ENOMEM;
		}
	shunt_key_flag(key, SHUNT_KEY_REFUSED, false);
	return 0;
}

static void register_branches(struct shunt_loaded *m, const struct shunt_image *image)
{
	struct shunt_scan s = {.image = image, .module = m->module};
	struct shunt_bindings none;

	if (m->module->jumps == m->module->jumps_end)
		return;
	m->branches.kind = &shunt_static_key_kind;
	m->branches.module = m->module->jumps;
	if (shunt_scan_branches(&s) || take_sites(&m->branches, &m->room_for_branches, &none, &s)) {
		/* Sites that are known, but could not be poked, are brought up at the next change.
		 */
		if (!m->branches.mods)
			refuse_branches(m);
		shunt_message("module %s: its static branches cannot be changed", m->path);
	}
}

static void keys_known(const struct shunt_module *module, bool known)
{
	struct static_key *keys = module->static_keys, *end = module->static_keys_end;

	if (keys == end || shunt_port_lock())
		return;
	shunt_static_keys_known(keys, (size_t)(end - keys), known);
	shunt_port_unlock();
}

static struct shunt_loaded *find(const struct shunt_module *module)
{
	struct shunt_loaded *m = shunt_loaded_modules;

	while (m && m->module != module)
		m = m->next;
	return m;
}

/* A new record; where there is no memory, one of a few that are kept for that. */
static struct shunt_loaded *new_record(void)
{
	static struct shunt_loaded spare[4];
	static size_t used;
	struct shunt_loaded *m = shunt_port_alloc(sizeof(*m));

	if (!m && used < sizeof(spare) / sizeof(spare[0]))
		m = &spare[used++];
	return m;
}

/* A record for @module; NULL where it has one already, or there is none to be had. */
static struct shunt_loaded *claim(const struct shunt_module *module)
{
	struct shunt_loaded *m = NULL;

	if (shunt_port_lock())
		return NULL;
	if (!find(module)) {
		m = find(NULL);
		if (!m) {
			m = new_record();
			if (m) {
				m->next = shunt_loaded_modules;
				shunt_loaded_modules = m;
			}
		}
		if (m) {
			m->path = "(unknown)";
			m->range = (struct shunt_range){0, 0};
			m->segments = (struct shunt_segments){0};
			m->module = module;
		}
	}
	shunt_port_unlock();
	return m;
}

/* The file names of all modules that there ever were, each once. */
struct path {
	struct path *next;
	char name[];
};

/*
 * A name that stays: what the inspection interface hands out outlives the module. From
 * our own memory, like the records: a leak checker looks for pointers to malloc()'s in
 * malloc()'s. Update lock held.
 */
static const char *intern(const char *name)
{
	static struct path *paths;
	size_t size = strlen(name) + 1;
	struct path *path = paths;

	while (path && strcmp(path->name, name) != 0)
		path = path->next;
	if (path)
		return path->name;
	path = shunt_port_alloc(sizeof(*path) + size);
	if (!path)
		return "(unknown)";
	memcpy(path->name, name, size);
	path->next = paths;
	paths = path;
	return path->name;
}

/* Where it is: at once, because others may be looking at all records. */
static void set_place(struct shunt_loaded *m, const struct shunt_image *image)
{
	if (shunt_port_lock())
		return;
	m->path = intern(image->path);
	m->bias = image->bias;
	m->segments = (struct shunt_segments){image->headers, image->nr_headers, image->bias};
	m->range = image->range;
	shunt_mappings_forget(m->range);
	shunt_port_unlock();
}

/*
 * Open what updates of @m's sites will need while it can be opened: its file, and, by a
 * write of nothing, /proc/self/mem.
 */
static void keep_ways(const struct shunt_loaded *m, const struct shunt_image *image)
{
	if (!m->calls.mods && !m->branches.mods && !m->baked.nr_sites)
		return;
	if (shunt_port_lock())
		return;
	shunt_mappings_keep(image);
	(void)shunt_text_write_mem((const uint8_t *)m->range.start, "", 0);
	shunt_sync_prepare();
	shunt_port_unlock();
}

/* Its keys may be what modules have been waiting for that registered before it. */
static void bind_others(void)
{
	if (shunt_port_lock())
		return;
	shunt_bind_sites(true);
	shunt_port_unlock();
}

void shunt_module_register(const struct shunt_module *module)
{
	struct shunt_image image = {.inside = (uintptr_t)module};
	struct shunt_loaded *m;
	bool is_it;

	/* Compiled with another version of the header: not ours to touch. */
	if (module->size != sizeof(*module)) {
		shunt_message("a module was compiled with another version of shunt/module.h");
		return;
	}
	m = claim(module);
	if (!m)
		return;
	if (!shunt_image_find(&image)) {
		give_up(m, "the dynamic linker does not know it", 0);
		return;
	}
	set_place(m, &image);
	if (image.is_program)
		shunt_watch_exit();
	shunt_selftest_at_start();
	is_it = register_calls(m, &image);
	register_branches(m, &image);
	keys_known(module, true);
	if (is_it)
		keep_ways(m, &image);
	bind_others();
}

/* ------------------------------------------------------------------- goodbye */

/* Set when the process exits: then the modules' destructors run, but they stay. */
static _Atomic bool exiting;

bool shunt_is_exiting(void)
{
	return atomic_load_explicit(&exiting, memory_order_relaxed);
}

static void on_exit_begins(void)
{
	atomic_store_explicit(&exiting, true, memory_order_relaxed);
}

/*
 * Handlers of atexit() run in reverse order. The one in which the dynamic linker runs
 * all destructors is registered when the program starts, behind the constructors of
 * its shared objects and before its own: ours must come behind that.
 */
void shunt_watch_exit(void)
{
	(void)atexit(on_exit_begins);
}

static void remove_sites(struct shunt_sites *sites, size_t *room)
{
	struct shunt_vector mods = {sites->mods, sites->nr_mods, SHUNT_VECTOR_MIN};

	if (!sites->mods)
		return;
	while (mods.max < mods.n)
		mods.max *= 2;
	shunt_sites_remove(sites);
	shunt_sites_free(sites->table.sites, *room);
	shunt_vector_free(&mods, sizeof(struct shunt_mod));
	sites->mods = NULL;
	*room = 0;
}

static void remove_keys(const struct shunt_module *module)
{
	struct static_call_key *call = module->call_keys, *calls_end = module->call_keys_end;
	struct static_key *key = module->static_keys, *keys_end = module->static_keys_end;

	for (; call != calls_end; call++) {
		shunt_key_remove(&shunt_static_call_kind, call);
		call->flags |= STATIC_CALL_GONE;
	}
	for (; key != keys_end; key++)
		shunt_key_remove(&shunt_static_key_kind, key);
	shunt_static_keys_known(module->static_keys,
				(size_t)(keys_end - (struct static_key *)module->static_keys),
				false);
}

void shunt_module_unregister(const struct shunt_module *module)
{
	struct shunt_loaded *m;

	if (shunt_is_exiting() || shunt_port_lock())
		return;
	m = find(module);
	shunt_port_unlock();
	if (!m)
		return;
	shunt_targets_gone(m->range, m->path);
	if (shunt_port_lock())
		return;
	if (m->baked.nr_sites)
		m->calls.nr_mods = (uint32_t)m->bindings.of_mod.n; /* none of them linked */
	m->baked.nr_sites = 0;
	shunt_file_unmap(&m->baked.file);
	remove_sites(&m->calls, &m->room_for_calls);
	remove_sites(&m->branches, &m->room_for_branches);
	shunt_bindings_free(&m->bindings);
	remove_keys(module);
	shunt_mappings_forget(m->range);
	m->why = NULL;
	m->lacks_branches = false;
	m->module = NULL;
	shunt_port_unlock();
}
