/* SPDX-License-Identifier: MIT */
/*
 * For debuggers: where the library keeps what it knows, as names and numbers in a
 * section of its own, shunt_debug, which strip leaves in place. The script of tools/gdb
 * reads it in a live process or a core dump, and calls nothing. (glibc's
 * nptl_db/structs.def does the same for threads.)
 *
 * An entry is the address of a variable ("&name"), the offset of a field
 * ("struct.field"), a size ("sizeof struct") or a constant ("NAME").
 */
#include <shunt/module.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "core/ftrace_internal.h"
#include "core/key.h"
#include "core/poke.h"
#include "core/site.h"
#include "linux/base/base.h"
#include "linux/base/registry.h"
#include "linux/show/debug.h"
#include "linux/text/veneer.h"

#define ADDRESS(label, object)                    \
	{                                         \
		"&" label, (uintptr_t) & (object) \
	}
#define FIELD(type, field)                                     \
	{                                                      \
#type "." #field, offsetof(struct type, field) \
	}
#define SIZE(type)                                   \
	{                                            \
		"sizeof " #type, sizeof(struct type) \
	}
#define CONSTANT(name)      \
	{                   \
#name, name \
	}

/* Not there in a static program that traces nothing: 0. */
#pragma weak shunt_tracers
#pragma weak shunt_entry_sets

/* Entries may be added at any time. A reader goes by names. */
__SHUNT_SECTION("shunt_debug")
struct shunt_debug_table shunt_debug_table = {
	.magic = {'S', 'H', 'U', 'N', 'T', 'D', 'B', 'G'},
	.version = 2,
	.nr_entries = sizeof(shunt_debug_table.entries) / sizeof(shunt_debug_table.entries[0]),
	.entries =
		{
			ADDRESS("loaded", shunt_loaded_modules),
			ADDRESS("pools", shunt_pools),
			ADDRESS("process", shunt_process_page),
			ADDRESS("stats", shunt_poke_stats),
			ADDRESS("nop", __static_call_nop),
			ADDRESS("return0", __static_call_return0),
			ADDRESS("tracers", shunt_tracers),
			ADDRESS("entries", shunt_entry_sets),
			FIELD(shunt_loaded, next),
			FIELD(shunt_loaded, module),
			FIELD(shunt_loaded, path),
			FIELD(shunt_loaded, why),
			FIELD(shunt_loaded, calls),
			FIELD(shunt_loaded, branches),
			FIELD(shunt_loaded, baked.nr_sites),
			FIELD(shunt_module, call_keys),
			FIELD(shunt_module, call_keys_end),
			FIELD(shunt_module, static_keys),
			FIELD(shunt_module, static_keys_end),
			FIELD(shunt_module, veneers),
			FIELD(shunt_module, veneers_end),
			SIZE(static_call_key),
			FIELD(static_call_key, func),
			FIELD(static_call_key, name),
			FIELD(static_call_key, mods),
			SIZE(shunt_static_key),
			FIELD(shunt_static_key, name),
			FIELD(shunt_static_key, mods),
			FIELD(shunt_static_key, count),
			FIELD(shunt_static_key, on),
			FIELD(shunt_mod, next),
			FIELD(shunt_mod, sites),
			FIELD(shunt_mod, first),
			FIELD(shunt_mod, nr_sites),
			FIELD(shunt_sites, table.base),
			FIELD(shunt_sites, table.sites),
			FIELD(shunt_sites, table.nr_sites),
			SIZE(shunt_site),
			FIELD(shunt_site, off),
			FIELD(shunt_site, next),
			FIELD(shunt_site, kind),
			FIELD(shunt_site, why),
			FIELD(shunt_site, poked),
			FIELD(shunt_pool, next),
			FIELD(shunt_pool, veneers),
			FIELD(shunt_pool, n),
			SIZE(shunt_veneer),
			FIELD(shunt_veneer, target),
			FIELD(shunt_process, lock),
			FIELD(shunt_poke_stats, pokes),
			FIELD(shunt_poke_stats, writes),
			FIELD(shunt_poke_stats, bytes),
			FIELD(shunt_poke_stats, syncs),
			FIELD(shunt_tracer, next),
			FIELD(shunt_tracer, ops),
			FIELD(shunt_tracer, active),
			FIELD(shunt_bits, nr_words),
			FIELD(shunt_bits, words),
			FIELD(ftrace_ops, func),
			FIELD(ftrace_ops, flags),
			FIELD(shunt_entries, next),
			FIELD(shunt_entries, entries),
			FIELD(shunt_entries, n),
			SIZE(shunt_entry),
			FIELD(shunt_entry, ip),
			FIELD(shunt_entry, func),
			FIELD(shunt_entry, form),
			FIELD(shunt_entry, kind),
			FIELD(shunt_entry, index),
			CONSTANT(SHUNT_FTRACE_EXITS),
			CONSTANT(SHUNT_FORM_HEAD),
			CONSTANT(SHUNT_FORM_CALL),
			CONSTANT(SHUNT_KIND_CALL),
			CONSTANT(SHUNT_KIND_CALL_GOT),
			CONSTANT(SHUNT_KIND_JMP),
			CONSTANT(SHUNT_KIND_JMP_GOT),
			CONSTANT(SHUNT_KIND_JCC),
			CONSTANT(SHUNT_KIND_BRANCH),
			CONSTANT(SHUNT_KIND_BRANCH2),
			CONSTANT(SHUNT_INLINE),
			CONSTANT(SHUNT_WHY_NEW),
			CONSTANT(SHUNT_WHY_FAR),
			CONSTANT(SHUNT_WHY_TOO_FAR),
			CONSTANT(SHUNT_WHY_FOREIGN),
			CONSTANT(SHUNT_WHY_WRITE),
			CONSTANT(SHUNT_POOL_SIZE),
			CONSTANT(SHUNT_AREA_VENEER),
			CONSTANT(SHUNT_HAS_TRAPS),
			CONSTANT(SHUNT_SITE_LENGTHS),
		},
};
