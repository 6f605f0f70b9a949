/* SPDX-License-Identifier: MIT */
/*
 * What there is to know of a module: where it is, its file, the sites of its static calls and
 * static branches. It is nobody else's until module.c puts it into a record.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#include <shunt/module.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "core/key.h"
#include "core/site.h"
#include "core/sort.h"
#include "linux/base/base.h"
#include "linux/base/registry.h"
#include "linux/base/vector.h"
#include "linux/elf/baked.h"
#include "linux/elf/elf.h"
#include "linux/module/baked_read.h"
#include "linux/module/examine.h"
#include "linux/module/find_sites.h"
#include "linux/module/got_slots.h"
#include "linux/module/image.h"
#include "linux/module/jumps.h"
#include "linux/module/loaded.h"

void shunt_findings_no_calls(struct shunt_findings *f, const char *why, int error)
{
	f->why = why;
	f->why_error = error;
	f->why_call = NULL;
}

void shunt_findings_unread(struct shunt_findings *f, const char *why, int error)
{
	shunt_findings_no_calls(f, why, error);
	f->why_call = shunt_failed_call;
}

void shunt_findings_no_branches(struct shunt_findings *f, const char *why, int error)
{
	f->no_branches = true;
	f->why_no_branches = why;
	f->no_branches_error = error;
}

static int is_any(void *arg, uint64_t slot, const struct shunt_elf_sym *sym)
{
	(void)arg;
	(void)slot;
	(void)sym;
	return 1;
}

/* Whether the module has static calls: keys of its own, or slots for those of others. */
static bool makes_calls(const struct shunt_module *module, const struct shunt_elf *elf)
{
	return module->call_keys != module->call_keys_end ||
	       shunt_elf_for_each_slot(elf, SHUNT_TRAMP_PREFIX, is_any, NULL) == 1;
}

bool shunt_has_baked_keys(const struct shunt_module *module)
{
	struct static_call_key *key = module->call_keys;

	while (key != module->call_keys_end && !(key->flags & STATIC_CALL_BAKED))
		key++;
	return key != module->call_keys_end;
}

static void scan_calls(struct shunt_findings *f, const struct shunt_elf *elf)
{
	int ret = shunt_find_call_sites(&f->calls);

	if (ret == -ENODATA && shunt_has_baked_keys(f->module)) {
		shunt_findings_no_calls(
			f,
			"it was baked, and has no site table (section " SHUNT_BAKED_SECTION
			") any more",
			ret);
	} else if (ret == -ENODATA) {
		shunt_findings_no_calls(f, shunt_elf_lack_text(shunt_elf_lack(elf)), ret);
		f->makes_calls = makes_calls(f->module, elf);
	} else if (ret) {
		if (ret == -EINVAL)
			shunt_findings_no_calls(f, "the file is malformed", ret);
		else
			shunt_findings_unread(f, "no memory to read it", shunt_port_no_memory());
	}
}

/*
 * A baked file: keep it mapped, even if another takes its place on disk, and read
 * the sites when they are wanted. False where the file is not baked.
 */
static bool open_baked(struct shunt_findings *f, struct shunt_file *file)
{
	struct shunt_baked_table table = {0};
	int ret = shunt_baked_open(&f->calls, &table);

	if (ret == -ENODATA)
		return false;
	if (ret) {
		shunt_findings_no_calls(
			f, "its site table is malformed, or there is no memory for it", ret);
		return true;
	}
	table.file = *file;
	file->size = 0; /* the table's now */
	shunt_slots_free(&f->calls);
	f->baked = table;
	return true;
}

static void look_into_file(struct shunt_findings *f)
{
	struct shunt_file file = {0};
	struct shunt_elf elf = {0};
	int ret = shunt_image_open(&f->image, &file, &elf);

	f->is_mapped_file = !ret;
	f->calls.elf = &elf;
	if (ret == -ESTALE) {
		shunt_findings_no_calls(f, "the file has been replaced since it was mapped", ret);
	} else if (ret == -ENOEXEC) {
		shunt_findings_no_calls(f, "the file is not the ELF file that is mapped", ret);
	} else if (ret) {
		shunt_findings_unread(f, "the file cannot be read", ret);
	} else if (shunt_elf_rearranged(&elf)) {
		shunt_findings_no_calls(f, shunt_elf_rearranged(&elf), -EAGAIN);
		shunt_findings_no_branches(f, f->why, -EAGAIN);
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

static struct shunt_static_key *key_of(const struct shunt_findings *f,
				       const struct shunt_site *site)
{
	return ((const struct shunt_mod *)f->branches.mods.data)[site->next].key;
}

static bool fold(struct shunt_findings *f, struct shunt_static_key *key)
{
	struct shunt_static_key **keys = f->folded.data;

	for (size_t i = 0; i < f->folded.n; i++)
		if (keys[i] == key)
			return true;
	keys = shunt_vector_add(&f->folded, sizeof(struct shunt_static_key *));
	if (keys)
		*keys = key;
	return keys;
}

/*
 * Entries that claim the same bytes: the linker has folded functions that differ in nothing
 * but the key that they test. Neither key may change there, and nothing is known of the
 * place. False: no memory.
 */
static bool drop_folded(struct shunt_findings *f)
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

struct shunt_segments shunt_findings_segments(const struct shunt_findings *f)
{
	if (!f->is_placed)
		return (struct shunt_segments){0};
	return shunt_image_segments(&f->image);
}

/* The keys of records that lead to no text. False: no memory. */
static bool find_astray(struct shunt_findings *f)
{
	const struct static_jump_entry *e = f->branches.jumps.first;
	struct shunt_segments segments = shunt_findings_segments(f);
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

static void find_jumps(struct shunt_findings *f)
{
	if (has_jumps(f->module))
		shunt_jumps_find(f->is_placed ? &f->image : NULL, f->module, &f->branches.jumps);
}

/* The keys that a module of an earlier version tests: none of them may change. */
static void find_old_keys(struct shunt_findings *f)
{
	const struct shunt_old_jump *e = f->module->jumps;
	size_t n = has_jumps(f->module) ? shunt_jumps_old(&f->image, f->module) : 0;
	struct shunt_static_key *key;

	for (size_t i = 0; f->is_placed && i < n; i++) {
		key = shunt_jump_old_key(&f->image, &e[i]);
		if (key && !fold(f, key))
			return;
	}
}

static void look_for_branches(struct shunt_findings *f)
{
	if (!f->branches.jumps.n)
		f->no_branches = false;
	else if (!f->no_branches &&
		 (shunt_find_branch_sites(&f->branches) || !drop_folded(f) || !find_astray(f)))
		shunt_findings_no_branches(
			f, "there is no memory (mmap) for the sites of its static branches",
			shunt_port_no_memory());
}

static void look(struct shunt_findings *f)
{
	static const char unplaced[] = "the dynamic linker does not know it";

	f->calls.image = f->branches.image = &f->image;
	f->calls.module = f->branches.module = f->module;
	if (f->is_placed) {
		look_into_file(f);
	} else {
		shunt_findings_no_calls(f, unplaced, -EAGAIN);
		shunt_findings_no_branches(f, unplaced, -EAGAIN);
	}
	look_for_branches(f);
}

void shunt_examine_module(struct shunt_findings *f)
{
	find_jumps(f);
	if (shunt_is_of_this_version(f->module)) {
		look(f);
		f->has_baked_keys = f->why && shunt_has_baked_keys(f->module);
		return;
	}
	shunt_findings_no_calls(f, "it was compiled with another version of shunt/module.h",
				-EAGAIN);
	shunt_findings_no_branches(f, f->why, -EAGAIN);
	find_old_keys(f);
}

void shunt_findings_free(struct shunt_findings *f)
{
	shunt_site_search_free(&f->calls);
	shunt_site_search_free(&f->branches);
	shunt_vector_free(&f->folded, sizeof(struct shunt_static_key *));
	shunt_file_unmap(&f->baked.file);
}
