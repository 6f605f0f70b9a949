/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes what the library does with a module's file: the ELF reader, the search for
 * sites and the table of a baked file. For libFuzzer: fuzz.sh.
 *
 * The input is a file, and a module mapped from it: its segments are laid out as the
 * kernel would, and what no readable segment covers is poisoned, so that the sanitizer
 * sees a look beside the text. Of what is found, all that the rest of the library relies
 * on is checked.
 */
#include <elf.h>
#include <sanitizer/asan_interface.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "linux/base/base.h"
#include "linux/module/baked_read.h"
#include "linux/module/find_sites.h"
#include "linux/module/image.h"
#include "linux/module/jumps.h"
#include "linux/text/area.h"
#include "linux/text/mapping.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)          \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)

static volatile uint64_t sum; /* so that nothing is left out */

static unsigned long nr_sites; /* that were found and checked, in all inputs */

__attribute__((destructor)) static void tell(void)
{
	(void)fprintf(stderr, "sites: %lu\n", nr_sites);
}

/* -------------------------------------------------- what the port would provide */

__thread const char *shunt_failed_call;

void *shunt_port_alloc(size_t size)
{
	return calloc(1, size);
}

void *shunt_memory_grow(void *p, size_t from, size_t to)
{
	char *more = realloc(p, to);

	if (more)
		memset(more + from, 0, to - from);
	return more;
}

void shunt_port_free(void *p, size_t size)
{
	(void)size;
	free(p);
}

/* Static branches are found by the module's own records, not by its file. */
uintptr_t shunt_jump_code(const struct static_jump_entry *entry)
{
	(void)entry;
	abort();
}

struct shunt_static_key *shunt_jump_key(const struct static_jump_entry *entry)
{
	(void)entry;
	abort();
}

enum shunt_jump shunt_jump_site(const struct shunt_segments *segments,
				const struct static_jump_entry *entry)
{
	(void)segments;
	(void)entry;
	abort();
}

/* How a mapped module's file is found (image.c) is not what is fuzzed. */
int shunt_file_map(struct shunt_file *file, const char *path)
{
	(void)file;
	(void)path;
	abort();
}

void shunt_file_unmap(struct shunt_file *file)
{
	(void)file;
	abort();
}

bool shunt_mapping_name(uintptr_t addr, char *path, size_t size)
{
	(void)addr;
	(void)path;
	(void)size;
	abort();
}

bool shunt_peek(void *to, const void *from, size_t len)
{
	(void)to;
	(void)from;
	(void)len;
	abort();
}

bool shunt_peek_string(char *to, size_t size, const char *from)
{
	(void)to;
	(void)size;
	(void)from;
	abort();
}

/* Text that the segments have can be read: a look beside them is to be seen by the sanitizer. */
bool shunt_area_are_readable(uintptr_t addr, size_t len)
{
	(void)addr;
	(void)len;
	return true;
}

/* -------------------------------------------------------------------- the module */

#define MAX_SPAN (1u << 20)

struct loaded {
	struct shunt_image image;
	struct shunt_module module;
	Elf64_Phdr *headers;
	uint8_t *memory;
	size_t span;
};

/* Where the segments lie; false where no kernel would take them, or they are too far apart. */
static bool find_span(const struct shunt_elf *elf, struct loaded *m, uint64_t *low)
{
	uint64_t high = 0;

	*low = UINT64_MAX;
	for (uint64_t i = 0; i < elf->segments.count; i++) {
		const Elf64_Phdr *ph = &m->headers[i];

		if (ph->p_type != PT_LOAD)
			continue;
		if (ph->p_filesz > ph->p_memsz || ph->p_memsz > MAX_SPAN ||
		    ph->p_vaddr > UINT64_MAX / 2 || ph->p_offset > elf->size ||
		    ph->p_filesz > elf->size - ph->p_offset)
			return false;
		*low = ph->p_vaddr < *low ? ph->p_vaddr : *low;
		high = ph->p_vaddr + ph->p_memsz > high ? ph->p_vaddr + ph->p_memsz : high;
	}
	if (high <= *low || high - *low > MAX_SPAN)
		return false;
	m->span = high - *low;
	return true;
}

static void map_segments(const struct shunt_elf *elf, struct loaded *m, uint64_t low)
{
	for (uint64_t i = 0; i < elf->segments.count; i++)
		if (m->headers[i].p_type == PT_LOAD)
			memcpy(m->memory + (m->headers[i].p_vaddr - low),
			       elf->image + m->headers[i].p_offset, m->headers[i].p_filesz);
	ASAN_POISON_MEMORY_REGION(m->memory, m->span);
	for (uint64_t i = 0; i < elf->segments.count; i++)
		if (m->headers[i].p_type == PT_LOAD && (m->headers[i].p_flags & (PF_R | PF_X)))
			ASAN_UNPOISON_MEMORY_REGION(m->memory + (m->headers[i].p_vaddr - low),
						    m->headers[i].p_memsz);
}

/* The bounds of the module's keys, which the linker knows: those of their section. */
static void find_keys(const struct shunt_elf *elf, struct loaded *m)
{
	const uint8_t *keys;
	size_t size;

	if (shunt_elf_section(elf, "static_call_keys", &keys, &size))
		return;
	for (uint64_t i = 0; i < elf->segments.count; i++) {
		const Elf64_Phdr *ph = &m->headers[i];
		uint64_t off = (uint64_t)(keys - elf->image) - ph->p_offset;

		if (ph->p_type != PT_LOAD || off >= ph->p_filesz || size > ph->p_filesz - off)
			continue;
		m->module.call_keys = (void *)(m->image.bias + ph->p_vaddr + off);
		m->module.call_keys_end = (char *)m->module.call_keys + size;
	}
}

static bool load(const struct shunt_elf *elf, struct loaded *m)
{
	size_t size = elf->segments.count * sizeof(Elf64_Phdr);
	uint64_t low;

	*m = (struct loaded){.headers = malloc(size ? size : 1)};
	CHECK(m->headers);
	if (size)
		memcpy(m->headers, elf->segments.data, size);
	if (!find_span(elf, m, &low))
		return false;
	m->memory = calloc(1, m->span);
	CHECK(m->memory);
	map_segments(elf, m, low);
	m->image.bias = (uintptr_t)m->memory - low;
	m->image.range = (struct shunt_range){(uintptr_t)m->memory, (uintptr_t)m->memory + m->span};
	m->image.headers = m->headers;
	m->image.nr_headers = elf->segments.count;
	strcpy(m->image.path, "module");
	find_keys(elf, m);
	return true;
}

static void unload(struct loaded *m)
{
	free(m->memory);
	free(m->headers);
}

/* ----------------------------------------------------------------------- the scan */

static bool is_what_it_says(const uint8_t *b, uint8_t kind)
{
	switch (kind & 0xf) {
	case SHUNT_KIND_CALL:
		return b[0] == 0xe8;
	case SHUNT_KIND_JMP:
		return b[0] == 0xe9;
	case SHUNT_KIND_JCC:
		return b[0] == 0x0f && b[1] == (0x80 | kind >> 4);
	case SHUNT_KIND_CALL_GOT:
		return b[0] == 0xff && b[1] == 0x15;
	case SHUNT_KIND_JMP_GOT:
		return b[0] == 0xff && b[1] == 0x25;
	default:
		return false;
	}
}

/* Mods and bindings go together; what is bound later has a slot that can be read. */
static void check_mods(const struct loaded *m, const struct shunt_site_search *s)
{
	const struct shunt_mod *mods = s->mods.data;
	const struct shunt_binding *bindings = s->bindings.of_mod.data;
	uint32_t open = 0;

	CHECK(s->bindings.of_mod.n == s->mods.n);
	for (size_t i = 0; i < s->mods.n; i++) {
		uintptr_t word;

		open += bindings[i].is_open;
		CHECK(bindings[i].by_linker == bindings[i].is_open);
		CHECK(!(bindings[i].by_linker && mods[i].key));
		if (!bindings[i].by_linker)
			continue;
		CHECK(shunt_in_range(m->image.range, mods[i].slot, sizeof(word)));
		memcpy(&word, (const void *)mods[i].slot, sizeof(word));
		sum = sum + word + strlen((const char *)s->bindings.names.data + bindings[i].name);
	}
	CHECK(open == s->bindings.nr_open);
}

/* A site is in text, is the instruction that it should be, and belongs to a key. */
static void check_site(const struct loaded *m, const struct shunt_site_search *s,
		       const struct shunt_site *site)
{
	const struct shunt_mod *mods = s->mods.data;
	uintptr_t addr = s->base + site->off;
	size_t len = shunt_site_len(shunt_site_kind(site));
	int32_t rel;
	uintptr_t target;

	CHECK(site->owner < s->mods.n && site->next == site->owner);
	CHECK(shunt_image_has_text(&m->image, addr, len));
	CHECK(is_what_it_says((const uint8_t *)addr, site->kind));
	memcpy(&rel, (const void *)(addr + len - 4), sizeof(rel));
	target = addr + len + (uintptr_t)(intptr_t)rel;
	CHECK(target == mods[site->owner].tramp || target == mods[site->owner].slot);
	CHECK(mods[site->owner].key ||
	      ((const struct shunt_binding *)s->bindings.of_mod.data)[site->owner].is_open);
	nr_sites++;
}

static void scan_it(const struct shunt_elf *elf, const struct loaded *m)
{
	struct shunt_site_search s = {.image = &m->image, .elf = elf, .module = &m->module};

	sum = sum + shunt_is_mapped_file(elf, &m->image);
	if (shunt_find_call_sites(&s))
		return;
	check_mods(m, &s);
	for (size_t i = 0; i < s.sites.n; i++)
		check_site(m, &s, (const struct shunt_site *)s.sites.data + i);
	shunt_site_search_free(&s);
}

static void read_table(const struct shunt_elf *elf, const struct loaded *m)
{
	struct shunt_site_search s = {.image = &m->image, .elf = elf, .module = &m->module};
	struct shunt_baked_table table = {0};
	const struct shunt_segments segments = {m->headers, elf->segments.count, m->image.bias};
	struct shunt_site *sites;
	uint32_t n;

	if (shunt_baked_open(&s, &table))
		return;
	check_mods(m, &s);
	sites = calloc(table.nr_sites + 1ul, sizeof(*sites));
	CHECK(sites);
	n = shunt_baked_load(&table, &segments, s.mods.data, &s.bindings, sites);
	CHECK(n <= table.nr_sites);
	nr_sites += n;
	for (uint32_t i = 0; i < n; i++)
		CHECK(sites[i].owner < s.mods.n && (!i || sites[i].off > sites[i - 1].off) &&
		      shunt_image_has_text(&m->image, table.base + sites[i].off,
					   shunt_site_len(shunt_site_kind(&sites[i]))));
	free(sites);
	shunt_site_search_free(&s);
}

/* --------------------------------------------------------------------- the reader */

static int on_sym(void *arg, const struct shunt_elf_sym *sym)
{
	*(uint64_t *)arg += sym->value + strlen(sym->name) + shunt_elf_name_len(sym->name);
	return 0;
}

static int on_slot(void *arg, uint64_t slot, const struct shunt_elf_sym *sym)
{
	*(uint64_t *)arg += slot + strlen(sym->name);
	return 0;
}

static void read_it(const struct shunt_elf *elf)
{
	const uint8_t *id;
	uint64_t n = 0, value = 0;
	size_t len;

	if (!shunt_elf_build_id(elf, &id, &len) && len)
		n += id[0] + id[len - 1];
	if (!shunt_elf_for_each_sym(elf, "", on_sym, &n) ||
	    !shunt_elf_for_each_slot(elf, "__SCT__", on_slot, &n))
		n += strlen(shunt_elf_lack_text(shunt_elf_lack(elf)));
	if (!shunt_elf_got_slot(elf, "__SCT__fixture_call", &value) ||
	    !shunt_elf_symbol_value(elf, "__SCT__fixture_call", &value))
		n += value;
	sum = sum + n;
}

/* The index of functions answers as the search does. */
static void compare_functions(const struct shunt_elf *elf)
{
	struct shunt_elf_func_index index;

	CHECK(!shunt_elf_func_index_build(&index, elf));
	for (size_t i = 0; i < index.count && i < 8; i++)
		for (uint64_t at = index.spans[i].begin - 1, k = 0; k < 3; k++, at++) {
			uint64_t start = 0, indexed_start = 0;
			const char *name = shunt_elf_function_at(elf, at, &start);

			CHECK(shunt_elf_func_index_at(&index, at, &indexed_start) == name);
			CHECK(start == indexed_start);
		}
	shunt_elf_func_index_free(&index);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* A copy of just the size: what lies behind it must not be read. */
	uint8_t *file = malloc(size ? size : 1);
	struct shunt_elf elf;
	struct loaded m;

	CHECK(file);
	memcpy(file, data, size);
	if (!shunt_elf_open(&elf, file, size)) {
		read_it(&elf);
		compare_functions(&elf);
		if (load(&elf, &m)) {
			scan_it(&elf, &m);
			read_table(&elf, &m);
		}
		unload(&m);
	}
	free(file);
	return 0;
}
