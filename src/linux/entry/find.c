/* SPDX-License-Identifier: MIT */
/* The functions that can be traced: the parts in order, and what is made of them (finder.h). */
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "arch/arch.h"
#include "core/sort.h"
#include "linux/elf/elf_read.h"
#include "linux/entry/finder.h"

static void find_text(struct shunt_find *f)
{
	for (uint64_t i = 0; i < f->elf->segments.count && f->nr_text < SHUNT_FIND_TEXTS; i++) {
		Elf64_Phdr ph = load_segment(f->elf, i);

		if (ph.p_type == PT_LOAD && (ph.p_flags & PF_X) && ph.p_vaddr < UINT64_C(1) << 47 &&
		    in_range(ph.p_offset, ph.p_filesz, f->elf->size))
			f->text[f->nr_text++] = (struct shunt_find_text){
				ph.p_vaddr, ph.p_filesz, f->elf->image + ph.p_offset};
	}
}

/* --------------------------------------------------------------- one kind a function */

/*
 * Which kind serves where a function has several: the one that has returns of its own, then the one
 * that costs least while it is off.
 */
static uintptr_t by_kind(const void *entry)
{
	static const uint8_t order[] = {
		[SHUNT_ENTRY_NONE] = 4, [SHUNT_ENTRY_PATCHABLE] = 1,  [SHUNT_ENTRY_FENTRY] = 2,
		[SHUNT_ENTRY_XRAY] = 0, [SHUNT_ENTRY_INSTRUMENT] = 3,
	};
	const struct shunt_found_entry *e = entry;

	return e->func << 4 | (e->why ? 8u : 0u) | order[e->kind];
}

static void keep_one_kind(struct shunt_vector *entries)
{
	struct shunt_found_entry *e = entries->data;
	size_t kept = 0;

	shunt_sort(e, entries->n, sizeof(*e), by_kind);
	for (size_t i = 0; i < entries->n; i++)
		if (!kept || e[kept - 1].func != e[i].func || e[kept - 1].kind == e[i].kind)
			e[kept++] = e[i];
	entries->n = kept;
}

static uintptr_t by_ip(const void *entry)
{
	return ((const struct shunt_found_entry *)entry)->ip;
}

/* Those that two parts have found, and what a damaged file claims. */
static void drop_overlaps(struct shunt_vector *entries)
{
	struct shunt_found_entry *e = entries->data;
	size_t kept = 0;

	shunt_sort(e, entries->n, sizeof(*e), by_ip);
	for (size_t i = 0; i < entries->n; i++)
		if (!kept || e[i].ip >= e[kept - 1].ip + e[kept - 1].len)
			e[kept++] = e[i];
	entries->n = kept;
}

/* ------------------------------------------------------------------- the live bytes */

/* The bytes that must be as they are in the file: more than are changed where others follow. */
static size_t extent(const struct shunt_found_entry *e)
{
	return e->prepare == SHUNT_XRAY_HEAD ? 11 : e->prepare == SHUNT_LONG_NOP ? 7 : e->len;
}

static void compare(const struct shunt_find *f, struct shunt_found_entry *e)
{
	const size_t len = extent(e);
	const uint8_t *code = shunt_find_code(f, e->ip, len);
	uint8_t now[16];

	if (!code || len > sizeof(now)) {
		e->why = "its entry is not in the file's text";
		return;
	}
	memcpy(e->old, code, len < sizeof(e->old) ? len : sizeof(e->old));
	if (!e->why && shunt_find_is_variant(f, e->func))
		e->why = SHUNT_VARIANT_REASON;
	if (!f->read || e->why)
		return;
	if (!f->read(f, now, e->ip, len)) {
		e->why = "its text cannot be read";
	} else if (memcmp(now, code, len) != 0) {
		memcpy(e->found, now, len < sizeof(e->found) ? len : sizeof(e->found));
		e->is_changed = true;
		e->why = "its entry has been changed by somebody else";
	}
}

int shunt_find(struct shunt_find *f)
{
	struct shunt_found_entry *e;
	int ret, calls;

	find_text(f);
	ret = shunt_find_functions(f);
	if (ret)
		return ret;
	ret = shunt_find_tables(f);
	calls = shunt_find_calls(f);
	keep_one_kind(&f->entries);
	drop_overlaps(&f->entries);
	e = f->entries.data;
	for (size_t i = 0; i < f->entries.n; i++)
		compare(f, &e[i]);
	if (f->no_memory)
		return -ENOMEM;
	return ret ? ret : calls;
}

void shunt_find_free(struct shunt_find *f)
{
	shunt_vector_free(&f->functions, sizeof(struct shunt_found_function));
	shunt_vector_free(&f->entries, sizeof(struct shunt_found_entry));
}
