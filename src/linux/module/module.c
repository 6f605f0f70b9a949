/* SPDX-License-Identifier: MIT */
/*
 * Modules: the program and its shared objects, as they come and go. A module
 * registers in its constructor; its sites are found (find_sites.c, or baked.c where
 * `shunt bake` has left a table) and handed to the core. Before it is unmapped, its
 * destructor takes all of that back.
 *
 * What is found is nobody else's until it is put into a record, whole, under the update
 * lock. A module is known by where it is mapped: it may bring several descriptors.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <shunt/module.h>
#include <shunt/port.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "core/key.h"
#include "core/site.h"
#include "linux/base/base.h"
#include "linux/base/format.h"
#include "linux/base/registry.h"
#include "linux/base/vector.h"
#include "linux/module/arrays.h"
#include "linux/module/baked_read.h"
#include "linux/module/bind.h"
#include "linux/module/examine.h"
#include "linux/module/exit.h"
#include "linux/module/image.h"
#include "linux/module/loaded.h"
#include "linux/module/module.h"
#include "linux/module/site_search.h"
#include "linux/module/target.h"
#include "linux/sync/sync.h"
#include "linux/text/mapping.h"
#include "linux/text/text.h"
#include "linux/trap/sigtrap.h"

/* -------------------------------------------------------- into its record */

/* Move the sites into an array that may stay, and hand them to the core. */
static int add_sites(struct shunt_sites *sites, size_t *room, struct shunt_site_search *s,
		     struct shunt_report *report)
{
	struct shunt_site *array;

	if (!s->sites.n)
		return 0;
	array = shunt_sites_alloc(s->sites.n, room);
	if (!array) {
		report->error = shunt_port_no_memory();
		report->what = "allocate the sites of a module";
		return report->error;
	}
	memcpy(array, s->sites.data, s->sites.n * sizeof(*array));
	sites->mods = shunt_mods_settle(s->mods.data, s->mods.max);
	sites->nr_mods = (uint32_t)s->mods.n;
	s->mods = (struct shunt_vector){0}; /* the table's now */
	(void)shunt_bind_mods(&s->bindings, sites->mods, true);
	return shunt_sites_add(sites, s->base, array, (uint32_t)s->sites.n, report);
}

static void add_calls(struct shunt_loaded *m, struct shunt_findings *f)
{
	struct shunt_failure *failure = &f->calls_failure;

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
		shunt_findings_no_calls(f, "its text could not be written", failure->ret);
}

static void add_branches(struct shunt_loaded *m, struct shunt_findings *f)
{
	struct shunt_failure *failure = &f->branches_failure;

	m->branches.kind = &shunt_static_key_kind;
	m->branches.module = f->branches.jumps.first;
	if (f->no_branches || !f->branches.sites.n)
		return;
	f->others_keys = shunt_unbind_branches(f->branches.mods.data, f->branches.mods.n);
	failure->ret =
		add_sites(&m->branches, &m->room_for_branches, &f->branches, &failure->report);
	failure->call = shunt_failed_call;
	/* Sites that are known, but could not be poked, are brought up at the next update. */
	if (failure->ret && !m->branches.mods) {
		shunt_forget_unbound(f->branches.mods.data, f->branches.mods.n);
		shunt_findings_no_branches(
			f, "there is no memory (mmap) for the sites of its static branches",
			failure->ret);
	}
}

static struct shunt_refusal refusal_of_all(const struct shunt_findings *f)
{
	return (struct shunt_refusal){
		.module = f->module,
		.jumps = f->branches.jumps,
		.segments = shunt_findings_segments(f),
	};
}

static void refuse_unrecorded(const struct shunt_findings *f)
{
	struct shunt_refusal refusal = refusal_of_all(f);

	shunt_loaded_refuse_unrecorded(&refusal);
}

/* Have updates refused of keys that are tested where it is not known. */
static void refuse(struct shunt_loaded *m, struct shunt_findings *f)
{
	static char text[4096 + 128]; /* update lock; the stack may be a small one */

	if (!f->no_branches && !f->folded.n)
		return;
	if (!f->no_branches)
		shunt_findings_no_branches(
			f,
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

static void set_place(struct shunt_loaded *m, const struct shunt_findings *f)
{
	const char *path = f->is_placed ? shunt_intern(f->image.path) : NULL;

	m->path = path ? path : "(unknown)";
	m->bias = f->is_placed ? f->image.bias : 0;
	m->range = f->is_placed ? f->image.range : (struct shunt_range){0, 0};
	m->segments = shunt_findings_segments(f);
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
static void open_files_early(const struct shunt_loaded *m, const struct shunt_findings *f)
{
	if (!f->is_mapped_file || (!f->calls.sites.n && !f->branches.sites.n && !f->baked.nr_sites))
		return;
	shunt_mappings_open(&m->segments, f->image.path, f->image.is_program);
	(void)shunt_text_write_mem((const uint8_t *)m->range.start, "", 0);
	shunt_sync_prepare();
}

static void set_known(const struct shunt_module *module, bool known)
{
	struct static_call_key *call = module->call_keys, *calls_end = module->call_keys_end;
	struct shunt_static_key *keys = module->static_keys, *end = module->static_keys_end;

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
	const struct shunt_static_key *key = module->static_keys;

	return shunt_is_of_this_version(module) &&
	       ((call != module->call_keys_end && !(call->flags & STATIC_CALL_KNOWN)) ||
		(key != module->static_keys_end && !shunt_static_key_is_known(key)));
}

/* Update lock held. */
static bool is_known(const struct shunt_findings *f)
{
	const struct shunt_module *module = f->module;

	return !is_new(module) &&
	       (shunt_loaded_find(module) || (f->is_placed && shunt_is_of_this_version(module) &&
					      shunt_loaded_find_same(module, f->image.range)));
}

/* Another descriptor of a module that is known, or of one that was refused, is not looked at. */
static void publish(struct shunt_findings *f)
{
	struct shunt_loaded *m, *gone = NULL;

	if (is_known(f))
		return;
	/* A descriptor of another version may be in a module that is here, beside its own. */
	if (f->is_placed && shunt_is_of_this_version(f->module))
		gone = shunt_loaded_find_same(f->module, f->image.range);
	if (f->is_placed)
		shunt_loaded_forget(f->image.range, f->image.path, gone);
	m = shunt_loaded_new();
	if (!m) {
		refuse_unrecorded(f);
		shunt_findings_unread(f, "there is no memory for its record",
				      shunt_port_no_memory());
		return;
	}
	set_place(m, f);
	if (shunt_is_of_this_version(f->module)) {
		m->module = f->module;
		open_files_early(m, f);
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

static void report_failure(struct shunt_failure *failure)
{
	shunt_failed_call = failure->call;
	(void)shunt_report_result(&failure->report, failure->ret);
}

/* What messages call the module: the program by the name that it was started by. */
static const char *told_name(const struct shunt_findings *f)
{
	if (!f->is_placed)
		return "(unknown)";
	return f->image.is_program ? program_invocation_name : f->image.path;
}

#define MAX_TOLD 32

/* Whether @path, an interned string, is told for the first time; false as well where there is no
 * room. */
static bool is_first_time(const char *path)
{
	static const char *_Atomic told[MAX_TOLD];

	for (size_t i = 0; i < MAX_TOLD; i++) {
		const char *seen = NULL;

		if (atomic_compare_exchange_strong(&told[i], &seen, path))
			return true;
		if (seen == path)
			return false;
	}
	return false;
}

/*
 * Calls that stay on their trampolines for want of relocations: once for each file, for that is how
 * it was linked, and no failure.
 */
static void tell_of_unknown_sites(const struct shunt_findings *f)
{
	char text[SHUNT_MESSAGE_MAX] = "";
	struct shunt_line line = {text, text + sizeof(text), 0};
	const char *path = shunt_intern(f->image.path);

	if (!f->makes_calls || !path || !is_first_time(path))
		return;
	shunt_append(&line, "module %s %s: its static calls go through their trampolines; ",
		     told_name(f), f->why);
	shunt_append(&line, "link it with -Wl,--emit-relocs (pkg-config --libs shunt), and ");
	shunt_append(&line, "`shunt bake` it before it is stripped");
	shunt_note(text);
}

static void report_failures(struct shunt_findings *f)
{
	const char *path = told_name(f);

	report_failure(&f->calls_failure);
	report_failure(&f->branches_failure);
	if (f->why && f->why_error == -ENODATA && !f->has_baked_keys)
		tell_of_unknown_sites(f);
	else if (f->why)
		shunt_message("module %s: %s%s%s; %s: %s", path, f->why, f->why_call ? ": " : "",
			      f->why_call ? f->why_call : "",
			      f->has_baked_keys
				      ? "those of its static calls that were baked hold direct "
					"calls, which cannot be changed"
				      : "its static calls go through their trampolines",
			      strerror(-f->why_error));
	if (f->no_branches)
		shunt_message("module %s: %s; the static keys that it tests cannot be changed",
			      path, f->why_no_branches);
	if (f->others_keys)
		shunt_message("module %s: another libshunt in the process has registered static "
			      "keys that it tests (%zu); the tests stay as they were compiled, and "
			      "the keys cannot be changed while it is loaded",
			      path, f->others_keys);
	if (f->branches.keyless)
		shunt_message(
			"module %s: %zu of its static branches test what is no key (not made by "
			"DEFINE_STATIC_KEY_FALSE or _TRUE, or behind the end of an array); they "
			"stay as they were compiled",
			path, f->branches.keyless);
}

int shunt_module_is_known(const struct shunt_module *module)
{
	struct shunt_findings f = {.module = module};
	int ret = shunt_port_lock();

	if (ret)
		return ret;
	ret = is_known(&f);
	shunt_port_unlock();
	return ret;
}

void shunt_module_add(const struct shunt_module *module)
{
	struct shunt_findings f = {.module = module, .image.inside = (uintptr_t)module};

	f.is_placed = shunt_image_find(&f.image);
	if (f.is_placed && f.image.is_program)
		shunt_watch_exit();
	if (shunt_wants_traps()) {
		(void)shunt_pin();
		shunt_install_handler_early();
	}
	shunt_examine_module(&f);
	if (shunt_port_lock()) {
		refuse_unrecorded(&f);
		shunt_findings_no_calls(&f, "it registers within an update of the same thread",
					-EDEADLK);
	} else {
		publish(&f);
		shunt_port_unlock();
	}
	shunt_findings_free(&f);
	report_failures(&f);
	if (shunt_is_exiting())
		shunt_pin_modules();
}

/* -------------------------------------- baked sites, loaded by the first update */

static void load_baked(struct shunt_loaded *m)
{
	struct shunt_report report = {0};
	struct shunt_site *array = shunt_sites_alloc(m->baked.nr_sites, &m->room_for_calls);
	uint32_t n;

	if (!array)
		return; /* tried again at the next update, which fails for want of it */
	n = shunt_baked_load(&m->baked, &m->segments, m->calls.mods, &m->bindings, array);
	if (!n && shunt_has_baked_keys(m->module))
		m->why = "its site table does not fit the module";
	m->calls.nr_mods = (uint32_t)m->bindings.of_mod.n;
	(void)shunt_bind_mods(&m->bindings, m->calls.mods, true);
	if (shunt_sites_add(&m->calls, m->baked.base, array, n, &report))
		m->why = "its text could not be written";
	m->baked.nr_sites = 0;
	shunt_file_unmap(&m->baked.file);
}

bool shunt_port_registers_modules(void)
{
	return true;
}

void shunt_port_sites_wanted(void)
{
	for (struct shunt_loaded *m = shunt_loaded_modules; m; m = m->next)
		if (m->module && m->baked.nr_sites)
			load_baked(m);
	shunt_bind_sites(false);
	shunt_failed_call = NULL; /* not what the update fails in */
}

/* ----------------------------------------------------------------- unloading */

static void remove_keys(const struct shunt_module *module)
{
	struct static_call_key *call = module->call_keys, *calls_end = module->call_keys_end;
	struct shunt_static_key *key = module->static_keys, *keys_end = module->static_keys_end;

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

	if (shunt_is_exiting() || shunt_is_unloading() || shunt_port_lock())
		return;
	m = shunt_loaded_find(module);
	shunt_port_unlock();
	if (!m)
		return;
	shunt_targets_gone(m->range, m->path);
	if (shunt_port_lock())
		return;
	has_keys = m->module;
	shunt_forget_unbound(m->branches.mods, m->branches.mods ? m->branches.nr_mods : 0);
	shunt_loaded_remove_sites(m);
	if (has_keys)
		remove_keys(module);
	shunt_mappings_forget(m->range);
	shunt_port_unlock();
}
