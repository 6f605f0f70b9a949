/* SPDX-License-Identifier: MIT */
/*
 * Where functions start: by .symtab and .dynsym, of which either may know more, and by the table of
 * .eh_frame_hdr, which a stripped file still has.
 */
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "arch/arch.h"
#include "core/sort.h"
#include "linux/elf/elf_read.h"
#include "linux/entry/finder.h"

/* Parts that a compiler has moved away are called FUNCTION.cold, with a number perhaps. */
static bool is_cold(const char *name)
{
	const char *at = strstr(name, ".cold");

	return at && (at[5] == '\0' || at[5] == '.');
}

/* Global before weak before local; .symtab before .dynsym. */
static uint8_t rank_of(const struct shunt_elf_sym *sym, bool dynamic)
{
	uint8_t rank = sym->binding == STB_LOCAL ? 2 : sym->binding == STB_WEAK ? 1 : 0;

	return (uint8_t)(rank + (dynamic ? 4 : 0));
}

static int add_symbols(struct shunt_find *f, const struct shunt_elf_symtab *tab, bool dynamic)
{
	for (uint64_t i = 1; i < tab->symbols.count; i++) {
		struct shunt_found_function *to;
		struct shunt_elf_sym sym;

		if (!load_symbol(tab, i, &sym) || sym.undefined ||
		    (sym.type != STT_FUNC && sym.type != STT_GNU_IFUNC) ||
		    !shunt_find_code(f, sym.value, 1))
			continue;
		to = shunt_vector_add(&f->functions, sizeof(*to));
		if (!to)
			return -ENOMEM;
		to->start = sym.value;
		to->size = sym.size;
		to->name = sym.name;
		to->rank = rank_of(&sym, dynamic);
		to->is_cold = is_cold(sym.name);
		to->is_variant = (sym.other & SHUNT_VARIANT_CALLS) != 0;
	}
	return 0;
}

static uintptr_t by_start(const void *function)
{
	const struct shunt_found_function *fn = function;

	return fn->start << 3 | fn->rank;
}

/* The table of .eh_frame_hdr, in the form that all linkers write: sorted, 4 bytes each. */
static void open_fdes(struct shunt_find *f)
{
	for (uint64_t i = 0; i < f->elf->segments.count; i++) {
		Elf64_Phdr ph = load_segment(f->elf, i);
		const uint8_t *hdr;
		uint32_t n;

		if (ph.p_type != PT_GNU_EH_FRAME)
			continue;
		if (ph.p_filesz < 12 || !in_range(ph.p_offset, ph.p_filesz, f->elf->size))
			return;
		hdr = f->elf->image + ph.p_offset;
		if (hdr[0] != 1 || hdr[1] != 0x1b || hdr[2] != 0x03 || hdr[3] != 0x3b)
			return;
		memcpy(&n, hdr + 8, sizeof(n));
		if (n > (ph.p_filesz - 12) / 8)
			return;
		f->fdes = hdr + 12;
		f->nr_fdes = n;
		f->fdes_base = ph.p_vaddr;
		return;
	}
}

int shunt_find_functions(struct shunt_find *f)
{
	int ret = add_symbols(f, &f->elf->symtab, false);

	if (!ret)
		ret = add_symbols(f, &f->elf->dynsym, true);
	shunt_sort(f->functions.data, f->functions.n, sizeof(struct shunt_found_function),
		   by_start);
	open_fdes(f);
	return ret;
}

/* ---------------------------------------------------------------------- searches */

size_t shunt_find_index(const struct shunt_find *f, uint64_t vaddr)
{
	const struct shunt_found_function *fn = f->functions.data;
	size_t low = 0, high = f->functions.n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (fn[middle].start < vaddr)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static uint64_t fde_start(const struct shunt_find *f, uint64_t i)
{
	int32_t off;

	memcpy(&off, f->fdes + 8 * i, sizeof(off));
	return f->fdes_base + (uint64_t)(int64_t)off;
}

static uint64_t fde_lower_bound(const struct shunt_find *f, uint64_t vaddr)
{
	uint64_t low = 0, high = f->nr_fdes;

	while (low < high) {
		uint64_t middle = low + (high - low) / 2;

		if (fde_start(f, middle) < vaddr)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool shunt_find_next_start(const struct shunt_find *f, uint64_t vaddr, uint64_t limit,
			   uint64_t *start)
{
	const struct shunt_found_function *fn = f->functions.data;
	size_t i = shunt_find_index(f, vaddr);
	uint64_t fde = fde_lower_bound(f, vaddr);

	*start = UINT64_MAX;
	if (i < f->functions.n)
		*start = fn[i].start;
	if (fde < f->nr_fdes && fde_start(f, fde) < *start)
		*start = fde_start(f, fde);
	return *start <= limit;
}

bool shunt_find_starts_at(const struct shunt_find *f, uint64_t vaddr)
{
	uint64_t start;

	return shunt_find_next_start(f, vaddr, vaddr, &start);
}

bool shunt_find_is_variant(const struct shunt_find *f, uint64_t start)
{
	const struct shunt_found_function *fn = f->functions.data;
	size_t i = SHUNT_VARIANT_CALLS ? shunt_find_index(f, start) : f->functions.n;

	for (; i < f->functions.n && fn[i].start == start; i++)
		if (fn[i].is_variant)
			return true;
	return false;
}

const struct shunt_found_function *shunt_find_function_of(const struct shunt_find *f,
							  uint64_t vaddr)
{
	const struct shunt_found_function *fn = f->functions.data;
	size_t i = shunt_find_index(f, vaddr + 1);

	if (!i)
		return NULL;
	i = shunt_find_index(f, fn[i - 1].start);
	return vaddr - fn[i].start < fn[i].size ? &fn[i] : NULL;
}

#define COLD_LOOKUPS 2000 /* each looks at all functions */

const struct shunt_found_function *shunt_find_by_name(struct shunt_find *f, const char *name,
						      size_t len)
{
	const struct shunt_found_function *fn = f->functions.data;

	if (f->cold_lookups++ >= COLD_LOOKUPS)
		return NULL;
	for (size_t i = 0; i < f->functions.n; i++)
		if (!strncmp(fn[i].name, name, len) && fn[i].name[len] == '\0')
			return &fn[i];
	return NULL;
}
