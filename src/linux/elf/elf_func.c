/* SPDX-License-Identifier: MIT */
/* The ELF reader: the function that an address lies in, by a search or by an index. */
#include <stdlib.h>

#include "linux/elf/elf_read.h"

struct function {
	uint64_t start;
	uint64_t end; /* greater than start */
	const char *name;
	uint64_t order; /* among all symbols */
	size_t below;   /* on the stack of the sweep */
};

/* How many symbols there are in both tables. */
static uint64_t count_symbols(const struct shunt_elf *elf)
{
	return elf->symtab.symbols.count + elf->dynsym.symbols.count;
}

/*
 * Symbol @order, .symtab's before .dynsym's; false where it is no function, or
 * one that covers nothing. A .symtab that strip --strip-unneeded has left may
 * hold nothing but what the relocations name: .dynsym may know more.
 */
static bool load_function(const struct shunt_elf *elf, uint64_t order, struct function *func)
{
	const struct shunt_elf_symtab *tab = &elf->symtab;
	struct shunt_elf_sym sym;
	uint64_t i = order;
	uint64_t size;

	if (i >= tab->symbols.count) {
		i -= tab->symbols.count;
		tab = &elf->dynsym;
	}
	if (!load_symbol(tab, i, &sym) || sym.undefined ||
	    (sym.type != STT_FUNC && sym.type != STT_GNU_IFUNC)) {
		return false;
	}
	size = sym.size != 0 ? sym.size : 1;
	*func = (struct function){.start = sym.value, .name = sym.name, .order = order};
	func->end = size > UINT64_MAX - sym.value ? UINT64_MAX : sym.value + size;
	return func->end > func->start;
}

const char *shunt_elf_function_at(const struct shunt_elf *elf, uint64_t vaddr, uint64_t *start)
{
	uint64_t count = count_symbols(elf);
	struct function best = {0};

	for (uint64_t i = 0; i < count; i++) {
		struct function func;

		if (!load_function(elf, i, &func) || vaddr < func.start || vaddr >= func.end) {
			continue;
		}
		if (best.name == NULL || func.start > best.start ||
		    (func.start == best.start && func.end < best.end)) {
			best = func;
		}
	}
	if (best.name != NULL && start != NULL) {
		*start = best.start;
	}
	return best.name;
}

/* By start; of those with one start, the one that goes before the others comes last. */
static int compare_functions(const void *left, const void *right)
{
	const struct function *a = left;
	const struct function *b = right;

	if (a->start != b->start) {
		return a->start < b->start ? -1 : 1;
	}
	if (a->end != b->end) {
		return a->end > b->end ? -1 : 1;
	}
	return (a->order < b->order) - (a->order > b->order);
}

/* From @begin on, @func is in force (NULL: none). */
static void add_span(struct shunt_elf_func_index *index, uint64_t begin,
		     const struct function *func)
{
	if (index->count == 0 || index->spans[index->count - 1].begin != begin) {
		index->count++;
	}
	index->spans[index->count - 1] = (struct shunt_elf_span){
		.begin = begin,
		.start = func != NULL ? func->start : 0,
		.name = func != NULL ? func->name : NULL,
	};
}

#define NO_FUNCTION SIZE_MAX

/*
 * Take functions that end by @limit off the stack whose top is @top; what they
 * lay upon is in force again. Returns the new top.
 */
static size_t end_functions(struct shunt_elf_func_index *index, const struct function *funcs,
			    size_t top, uint64_t limit)
{
	while (top != NO_FUNCTION && funcs[top].end <= limit) {
		size_t below = funcs[top].below;

		add_span(index, funcs[top].end, below != NO_FUNCTION ? &funcs[below] : NULL);
		top = below;
	}
	return top;
}

/*
 * Sweep over the sorted functions. The stack holds those that cover the current
 * address and may still come to light: each ends after the one above it.
 */
static void sweep(struct shunt_elf_func_index *index, struct function *funcs, size_t count)
{
	size_t top = NO_FUNCTION;

	for (size_t i = 0; i < count; i++) {
		top = end_functions(index, funcs, top, funcs[i].start);
		while (top != NO_FUNCTION && funcs[top].end <= funcs[i].end) {
			top = funcs[top].below;
		}
		funcs[i].below = top;
		top = i;
		add_span(index, funcs[i].start, &funcs[i]);
	}
	end_functions(index, funcs, top, UINT64_MAX);
}

int shunt_elf_func_index_build(struct shunt_elf_func_index *index, const struct shunt_elf *elf)
{
	uint64_t nsymbols = count_symbols(elf);
	struct function *funcs;
	size_t count = 0;

	/* A symbol takes 24 bytes of the image: none of these products overflows. */
	*index = (struct shunt_elf_func_index){0};
	funcs = malloc((nsymbols + 1) * sizeof(*funcs));
	if (funcs == NULL) {
		return -ENOMEM;
	}
	for (uint64_t i = 0; i < nsymbols; i++) {
		if (load_function(elf, i, &funcs[count])) {
			count++;
		}
	}
	/* Each function adds a span where it begins and one where it ends. */
	index->spans = calloc(2 * count + 1, sizeof(*index->spans));
	if (index->spans == NULL) {
		free(funcs);
		return -ENOMEM;
	}
	qsort(funcs, count, sizeof(*funcs), compare_functions);
	sweep(index, funcs, count);
	free(funcs);
	return 0;
}

const char *shunt_elf_func_index_at(const struct shunt_elf_func_index *index, uint64_t vaddr,
				    uint64_t *start)
{
	size_t low = 0;
	size_t high = index->count;

	/* Find how many spans begin by @vaddr. */
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (index->spans[middle].begin <= vaddr) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	if (low == 0 || index->spans[low - 1].name == NULL) {
		return NULL;
	}
	if (start != NULL) {
		*start = index->spans[low - 1].start;
	}
	return index->spans[low - 1].name;
}

void shunt_elf_func_index_free(struct shunt_elf_func_index *index)
{
	free(index->spans);
	*index = (struct shunt_elf_func_index){0};
}
