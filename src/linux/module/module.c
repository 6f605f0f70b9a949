/* SPDX-License-Identifier: MIT */
/*
 * Modules: the program and its shared objects, as they come and go. A module
 * registers in its constructor; its sites are found (scan.c, or baked.c where
 * `shunt bake` has left a table) and handed to the core. Before it is unmapped, its
 * destructor takes all of that back.
 *
 * What is found is nobody else's until it is put into a record, whole, under the update
 * lock. A module is known by where it is mapped: it may bring several descriptors.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <shunt/module.h>
#include <shunt/port.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "core/site.h"
#include "core/sites.h"
#include "core/sort.h"
#include "linux/base/base.h"
#include "linux/base/registry.h"
#include "linux/base/vector.h"
#include "linux/elf/elf.h"
#include "linux/module/arrays.h"
#include "linux/module/baked_read.h"
#include "linux/module/bind.h"
#include "linux/module/exit.h"
#include "linux/module/image.h"
#include "linux/module/jumps.h"
#include "linux/module/loaded.h"
#include "linux/module/scan.h"
#include "linux/module/search.h"
#include "linux/module/slot.h"
#include "linux/module/targets.h"
#include "linux/show/debug.h"
#include "linux/show/selftest.h"
#include "linux/sync/sync.h"
#include "linux/text/mapping.h"
#include "linux/text/text.h"
#include "linux/trap/traps.h"

/* So that a static program, too, is linked with what a debugger looks for. */
__attribute__((used)) static const void *const debug_table = &shunt_debug_table;

/* A failure that is told once the lock is free. */
struct failure {
	struct shunt_report report;
	const char *call; /* the system call */
	int ret;
};

/* What is known of a module before it has a record. */
struct found {
	const struct shunt_module *module;
	struct shunt_image image;
	bool is_placed; /* image is filled in */
	bool is_it;     /* image.path is the file that is mapped */
	struct shunt_scan calls, branches;
	struct shunt_baked_table baked;
	const char *why; /* why the calls' sites are not known; NULL: they are */
	int why_error;
	bool no_branches; /* the branches' sites are not known */
	const char *why_no_branches;
	int no_branches_error;
	struct shunt_vector folded; /* struct static_key *: keys with tests that share a place */
	struct failure calls_failure, branches_failure;
};

/* ------------------------------------------------------------ what is found */

static void give_up(struct found *f, const char *why, int error)
{
	f->why = why;
	f->why_error = error;
}

static void give_up_branches(struct found *f, const char *why, int error)
{
	f->no_branches = true;
	f->why_no_branches = why;
	f->no_branches_error = error;
}

static void scan_calls(struct found *f, const struct shunt_elf *elf)
{
	int ret = shunt_scan_calls(&f->calls);

	if (ret == -ENODATA)
		give_up(f, shunt_elf_lack_text(shunt_elf_lack(elf)), ret);
	else if (ret)
		give_up(f, ret == -EINVAL ? "the file is malformed" : "no memory to read it", ret);
}

/*
 * A baked file: keep it mapped, even if another takes its place on disk, and read
 * the sites when they are wanted. False where the file is not baked.
 */
static bool open_baked(struct found *f, struct shunt_file *file)
{
	struct shunt_baked_table table = {.text = f->image.range};
	int ret = shunt_baked_open(&f->calls, &table);

	if (ret == -ENODATA)
		return false;
	if (ret) {
		give_up(f, "its site table is malformed, or there is no memory for it", ret);
		return true;
	}
	table.file = *file;
	file->size = 0; /* the table's now */
	shunt_slots_free(&f->calls);
	f->baked = table;
	return true;
}

/* Code that has been moved behind the linker leaves the old one, which nobody runs. */
static bool is_rearranged(const struct shunt_elf *elf)
{
	const uint8_t *data;
	size_t size;

	return !shunt_elf_section(elf, ".note.bolt_info", &data, &size) ||
	       !shunt_elf_section(elf, ".bolt.org.text", &data, &size);
}

static void look_into_file(struct found *f)
{
	struct shunt_file file = {0};
	struct shunt_elf elf = {0};
	int ret = shunt_image_open(&f->image, &file, &elf);

	f->is_it = !ret;
	f->calls.elf = &elf;
	if (ret == -ESTALE) {
		give_up(f, "the file has been replaced since it was mapped", ret);
	} else if (ret == -ENOEXEC) {
		give_up(f, "the file is not the ELF file that is mapped", ret);
	} else if (ret) {
		give_up(f, "the file cannot be read", ret);
	} else if (is_rearranged(&elf)) {
		give_up(f, "llvm-bolt has moved its code", -EAGAIN);
		give_up_branches(f, f->why, -EAGAIN);
	} else if (!open_baked(f, &file)) {
		scan_calls(f, &elf);
	}
	f->calls.elf = NULL;
	shunt_file_unmap(&file);
}

static uintptr_t offset(const void *site)
{
	return ((const struct shunt_site *)site)->off;
}

static struct static_key *key_of(const struct found *f, const struct shunt_site *site)
{
	return ((const struct shunt_mod *)f->branches.mods.data)[site->next].key;
}

static bool fold(struct found *f, struct static_key *key)
{
	struct static_key **keys = f->folded.data;

	for (size_t i = 0; i < f->folded.n; i++)
		if (keys[i] == key)
			return true;
	keys = shunt_vector_add(&f->folded, sizeof(struct static_key *));
	if (keys)
		*keys = key;
	return keys;
}

/*
 * Entries that claim the same bytes: the linker has folded functions that differ in nothing
 * but the key that they test. Neither key may change there, and nothing is known of the
 * place. False: no memory.
 */
static bool drop_folded(struct found *f)
{
	struct shunt_site *sites = f->branches.sites.data;
	size_t n = f->branches.sites.n, kept = 0;
	bool overlaps = false, good = true;

	shunt_sort(sites, n, sizeof(sites[0]), offset);
	for (size_t i = 0; i < n; i++) {
		uint64_t end = (uint64_t)sites[i].off + shunt_site_len(shunt_site_kind(&sites[i]));
		bool again = i + 1 < n && sites[i + 1].off < end;

		if (overlaps || again)
			good = fold(f, key_of(f, &sites[i])) && good;
		else
			sites[kept++] = sites[i];
		overlaps = again;
	}
	f->branches.sites.n = kept;
	return good;
}

static struct shunt_segments segments_of(const struct found *f)
{
	if (!f->is_placed)
		return (struct shunt_segments){0};
	return (struct shunt_segments){f->image.headers, f->image.nr_headers, f->image.bias};
}

/* The keys of records that lead to no text. False: no memory. */
static bool find_astray(struct found *f)
{
	const struct static_jump_entry *e = f->branches.jumps.first;
	struct shunt_segments segments = segments_of(f);
	bool good = true;

	for (size_t i = 0; f->branches.astray && i < f->branches.jumps.n; i++, e++)
		if (shunt_jump_site(&segments, e) == SHUNT_JUMP_ASTRAY)
			good = fold(f, shunt_jump_key(e)) && good;
	return good;
}

/* A descriptor that ends before jumps is from before static branches: fields are appended. */
static bool has_jumps(const struct shunt_module *module)
{
	return module->size >= offsetof(struct shunt_module, veneers);
}

static void find_jumps(struct found *f)
{
	if (has_jumps(f->module))
		shunt_jumps_find(f->is_placed ? &f->image : NULL, f->module, &f->branches.jumps);
}

/* The keys that a module of an earlier version tests: none of them may change. */
static void find_old_keys(struct found *f)
{
	const struct shunt_old_jump *e = f->module->jumps;
	size_t n = has_jumps(f->module) ? shunt_jumps_old(&f->image, f->module) : 0;
	struct static_key *key;

	for (size_t i = 0; f->is_placed && i < n; i++) {
		key = shunt_jump_old_key(&f->image, &e[i]);
		if (key && !fold(f, key))
			return;
	}
}

static void look_for_branches(struct found *f)
{
	if (!f->branches.jumps.n)
		f->no_branches = false;
	else if (!f->no_branches &&
		 (shunt_scan_branches(&f->branches) || !drop_folded(f) || !find_astray(f)))
		give_up_branches(f, "there is no memory for the sites of its static branches",
				 -ENOMEM);
}

static void look(struct found *f)
{
	static const char unplaced[] = "the dynamic linker does not know it";

	f->calls.image = f->branches.image = &f->image;
	f->calls.module = f->branches.module = f->module;
	if (f->is_placed) {
		look_into_file(f);
	} else {
		give_up(f, unplaced, -EAGAIN);
		give_up_branches(f, unplaced, -EAGAIN);
	}
	look_for_branches(f);
}

static void free_found(struct found *f)
{
	shunt_scan_free(&f->calls);
	shunt_scan_free(&f->branches);
	shunt_vector_free(&f->folded, sizeof(struct static_key *));
	shunt_file_unmap(&f->baked.file);
}

/* ------------------------------------------------------------- its record */

/* Move the sites into an array that may stay, and hand them to the core. */
static int add_sites(struct shunt_sites *sites, size_t *room, struct shunt_scan *s,
		     struct shunt_report *report)
{
	struct shunt_site *array;

	if (!s->sites.n)
		return 0;
	array = shunt_sites_alloc(s->sites.n, room);
	if (!array) {
		report->error = -ENOMEM;
		report->what = "allocate the sites of a module";
		return -ENOMEM;
	}
	memcpy(array, s->sites.data, s->sites.n * sizeof(*array));
	sites->mods = shunt_mods_settle(s->mods.data, s->mods.max);
	sites->nr_mods = (uint32_t)s->mods.n;
	s->mods = (struct shunt_vector){0}; /* the table's now */
	(void)shunt_bind_mods(&s->bindings, sites->mods, true);
	return shunt_sites_add(sites, s->base, array, (uint32_t)s->sites.n, report);
}

static void add_calls(struct shunt_loaded *m, struct found *f)
{
	struct failure *failure = &f->calls_failure;

	m->calls.kind = &shunt_static_call_kind;
	if (f->baked.nr_sites) {
		m->calls.mods = shunt_mods_settle(f->calls.mods.data, f->calls.mods.max);
		m->bindings = f->calls.bindings;
		m->baked = f->baked;
		f->calls.mods = (struct shunt_vector){0};
		f->calls.bindings = (struct shunt_bindings){0};
		f->baked = (struct shunt_baked_table){0};
		return;
	}
	failure->ret = add_sites(&m->calls, &m->room_for_calls, &f->calls, &failure->report);
	failure->call = shunt_failed_call;
	if (m->calls.mods) {
		m->bindings = f->calls.bindings;
		f->calls.bindings = (struct shunt_bindings){0};
	}
	if (failure->ret)
		give_up(f, "its text could not be written", failure->ret);
}

static void add_branches(struct shunt_loaded *m, struct found *f)
{
	struct failure *failure = &f->branches_failure;

	m->branches.kind = &shunt_static_key_kind;
	m->branches.module = f->branches.jumps.first;
	if (f->no_branches)
		return;
	failure->ret =
		add_sites(&m->branches, &m->room_for_branches, &f->branches, &failure->report);
	failure->call = shunt_failed_call;
	/* Sites that are known, but could not be poked, are brought up at the next update. */
	if (failure->ret && !m->branches.mods)
		give_up_branches(f, "there is no memory for the sites of its static branches",
				 failure->ret);
}

static struct shunt_refusal refusal_of_all(const struct found *f)
{
	return (struct shunt_refusal){
		.module = f->module,
		.jumps = f->branches.jumps,
		.segments = segments_of(f),
	};
}

static void lose(const struct found *f)
{
	struct shunt_refusal refusal = refusal_of_all(f);

	shunt_loaded_lose(&refusal);
}

/* Have updates refused of keys that are tested where it is not known. */
static void refuse(struct shunt_loaded *m, struct found *f)
{
	char text[4096 + 128];

	if (!f->no_branches && !f->folded.n)
		return;
	if (!f->no_branches)
		give_up_branches(f,
				 f->branches.astray
					 ? "the record of a static branch does not lead to its text"
					 : "two of its static branches are at one address, because "
					   "the linker has folded functions",
				 -EAGAIN);
	else
		m->refusal = refusal_of_all(f);
	(void)snprintf(text, sizeof(text), "module %s: %s", m->path, f->why_no_branches);
	m->refusal.why = shunt_intern(text);
	if (!m->refusal.why)
		m->refusal.why = f->why_no_branches;
	m->refusal.error = f->no_branches_error;
	m->refusal.keys = f->folded.data;
	m->refusal.nr_keys = f->folded.n;
	m->refusal.max_keys = f->folded.max;
	f->folded = (struct shunt_vector){0};
	shunt_loaded_refuse(m);
}

static void set_place(struct shunt_loaded *m, const struct found *f)
{
	const char *path = f->is_placed ? shunt_intern(f->image.path) : NULL;

	m->path = path ? path : "(unknown)";
	m->bias = f->is_placed ? f->image.bias : 0;
	m->range = f->is_placed ? f->image.range : (struct shunt_range){0, 0};
	m->segments = segments_of(f);
	m->stays = f->is_placed && f->image.is_program;
	if (f->is_placed) {
		shunt_mappings_forget(m->range);
		shunt_targets_known(&f->image);
	}
}

/*
 * Open what updates of @m's sites will need while it can be opened: its file, and, by a
 * write of nothing, /proc/self/mem.
 */
static void keep_ways(const struct shunt_loaded *m, const struct found *f)
{
	if (!f->is_it || (!f->calls.sites.n && !f->branches.sites.n && !f->baked.nr_sites))
		return;
	shunt_mappings_keep(&m->segments, f->image.path, f->image.is_program);
	(void)shunt_text_write_mem((const uint8_t *)m->range.start, "", 0);
	shunt_sync_prepare();
}

static void set_known(const struct shunt_module *module, bool known)
{
	struct static_call_key *call = module->call_keys, *calls_end = module->call_keys_end;
	struct static_key *keys = module->static_keys, *end = module->static_keys_end;

	for (; call != calls_end; call++) {
		uint32_t flags = (call->flags & ~(STATIC_CALL_KNOWN | STATIC_CALL_GONE)) |
				 (known ? STATIC_CALL_KNOWN : STATIC_CALL_GONE);

		/* The first one tells whether the module is registered. */
		if (!known || call == module->call_keys || call->flags & STATIC_CALL_GONE)
			call->flags = flags;
	}
	shunt_static_keys_known(keys, (size_t)(end - keys), known);
}

/* Whether @module has just been loaded: a record of the same is of one that has gone. */
static bool is_new(const struct shunt_module *module)
{
	const struct static_call_key *call = module->call_keys;
	const struct static_key *key = module->static_keys;

	return shunt_is_of_this_version(module) &&
	       ((call != module->call_keys_end && !(call->flags & STATIC_CALL_KNOWN)) ||
		(key != module->static_keys_end && key->pending));
}

/* Update lock held. */
static bool is_known(const struct found *f)
{
	const struct shunt_module *module = f->module;

	return !is_new(module) &&
	       (shunt_loaded_find(module) || (f->is_placed && shunt_is_of_this_version(module) &&
					      shunt_loaded_find_same(module, f->image.range)));
}

/* Another descriptor of a module that is known, or of one that was refused, is not looked at. */
static void publish(struct found *f)
{
	struct shunt_loaded *m, *gone = NULL;

	if (is_known(f))
		return;
	/* A descriptor of another version may be in a module that is here, beside its own. */
	if (f->is_placed && shunt_is_of_this_version(f->module))
		gone = shunt_loaded_find_same(f->module, f->image.range);
	if (f->is_placed)
		shunt_loaded_forget(f->image.range, gone);
	m = shunt_loaded_new();
	if (!m) {
		lose(f);
		give_up(f, "there is no memory for its record", -ENOMEM);
		return;
	}
	set_place(m, f);
	if (shunt_is_of_this_version(f->module)) {
		m->module = f->module;
		keep_ways(m, f);
		add_calls(m, f);
		add_branches(m, f);
		set_known(f->module, true);
		m->why = f->why;
		/* Its keys may be what modules have been waiting for that registered before it. */
		shunt_bind_sites(true);
	}
	refuse(m, f);
}

/* ------------------------------------------------------------ registration */

static void tell_failure(struct failure *failure)
{
	shunt_failed_call = failure->call;
	(void)shunt_finish(&failure->report, failure->ret);
}

/* What matters of it is told; that the file has no table of sites is for who asks. */
static void tell(struct found *f)
{
	const char *path = f->is_placed ? f->image.path : "(unknown)";

	tell_failure(&f->calls_failure);
	tell_failure(&f->branches_failure);
	if (f->why && f->why_error != -ENODATA)
		shunt_message("module %s: %s; its static calls go through their trampolines: %s",
			      path, f->why, strerror(-f->why_error));
	if (f->no_branches)
		shunt_message("module %s: %s; the static keys that it tests cannot be changed",
			      path, f->why_no_branches);
}

/* Whether @module is known already: most source files of a module register it again. */
static bool is_registered(const struct shunt_module *module, int *ret)
{
	struct found f = {.module = module};
	bool known;

	*ret = shunt_port_lock();
	if (*ret)
		return false;
	known = is_known(&f);
	shunt_port_unlock();
	return known;
}

static void register_module(struct found *f)
{
	find_jumps(f);
	if (!shunt_is_of_this_version(f->module)) {
		give_up(f, "it was compiled with another version of shunt/module.h", -EAGAIN);
		give_up_branches(f, f->why, -EAGAIN);
		find_old_keys(f);
	} else {
		look(f);
	}
	if (shunt_port_lock()) {
		lose(f);
		give_up(f, "it registers within an update of the same thread", -EDEADLK);
	} else {
		publish(f);
		shunt_port_unlock();
	}
	free_found(f);
	tell(f);
}

void shunt_module_register(const struct shunt_module *module)
{
	struct found f = {.module = module, .image.inside = (uintptr_t)module};
	int ret;

	if (is_registered(module, &ret))
		return;
	f.is_placed = shunt_image_find(&f.image);
	if (f.is_placed && f.image.is_program)
		shunt_watch_exit();
	if (!ret)
		shunt_selftest_at_start();
	if (shunt_wants_traps()) {
		shunt_pin();
		shunt_take_traps_early();
	}
	register_module(&f);
	if (shunt_is_exiting())
		shunt_pin_modules();
}

/* ------------------------------------------------------ sites that were put off */

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
	shunt_failed_call = NULL; /* not what the update fails in */
}

/* ------------------------------------------------------------------- goodbye */

static void remove_keys(const struct shunt_module *module)
{
	struct static_call_key *call = module->call_keys, *calls_end = module->call_keys_end;
	struct static_key *key = module->static_keys, *keys_end = module->static_keys_end;

	for (; call != calls_end; call++)
		shunt_key_remove(&shunt_static_call_kind, call);
	for (; key != keys_end; key++)
		shunt_key_remove(&shunt_static_key_kind, key);
	set_known(module, false);
}

/* By the descriptor that it was registered by: those that came behind it go before. */
void shunt_module_unregister(const struct shunt_module *module)
{
	struct shunt_loaded *m;
	bool has_keys;

	if (shunt_is_exiting() || shunt_is_leaving() || shunt_port_lock())
		return;
	m = shunt_loaded_find(module);
	shunt_port_unlock();
	if (!m)
		return;
	shunt_targets_gone(m->range, m->path);
	if (shunt_port_lock())
		return;
	has_keys = m->module;
	shunt_loaded_remove_sites(m);
	if (has_keys)
		remove_keys(module);
	shunt_mappings_forget(m->range);
	shunt_port_unlock();
}
