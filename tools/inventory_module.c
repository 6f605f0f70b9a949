/* SPDX-License-Identifier: MIT */
/*
 * What a file registers with libshunt when it is loaded (struct shunt_module): where its keys and
 * the records of its static branches are. The library goes by that and not by section headers,
 * which may be gone, without names, or say something else. It is known by its size, which it begins
 * with, and by the record that it leads to.
 */
#include <shunt/module.h>

#include "inventory_parts.h"

/* Words of the descriptor. */
enum { CALL_KEYS = 1, CALL_KEYS_END, STATIC_KEYS, STATIC_KEYS_END, JUMPS, RESERVED, WORDS = 9 };

_Static_assert(sizeof(struct shunt_module) == WORDS * sizeof(uint64_t) &&
		       offsetof(struct shunt_module, jumps) == JUMPS * sizeof(uint64_t),
	       "the descriptor is read as words");

static const uint32_t anchor[] = {0, 0, 0, STATIC_JUMP_MAGIC};

/* A pointer, or NULL; false: it is neither. */
static bool load_pointer(const struct inventory *inv, uint64_t vaddr, uint64_t *value)
{
	static const uint8_t null[sizeof(*value)];
	struct pointer pointer = pointers_at(&inv->pointers, vaddr);
	const uint8_t *bytes = shunt_elf_at(&inv->elf, vaddr, sizeof(null));

	*value = pointer.kind == POINTER_ADDRESS ? pointer.address : 0;
	return pointer.kind == POINTER_ADDRESS ||
	       (pointer.kind == POINTER_UNKNOWN && bytes && !memcmp(bytes, null, sizeof(null)));
}

/* How many records of @size there are from @start to @end; false: they are no array in the file. */
static bool count_records(const struct inventory *inv, uint64_t start, uint64_t end, size_t size,
			  uint64_t *n)
{
	*n = (end - start) / size;
	return start <= end && (end - start) % size == 0 &&
	       (start == end || shunt_elf_at(&inv->elf, start, end - start));
}

/* Whether a descriptor is at @vaddr; then @it is what it says. */
static bool read_descriptor(const struct inventory *inv, uint64_t vaddr, struct registered *it)
{
	uint64_t words[WORDS];
	const uint8_t *record;

	for (unsigned i = CALL_KEYS; i < WORDS; i++)
		if (!load_pointer(inv, vaddr + i * sizeof(words[0]), &words[i]))
			return false;
	record = shunt_elf_at(&inv->elf, words[JUMPS], sizeof(anchor));
	it->call_keys = words[CALL_KEYS];
	it->static_keys = words[STATIC_KEYS];
	it->jumps = words[JUMPS];
	return record && !memcmp(record, anchor, sizeof(anchor)) && !words[RESERVED] &&
	       count_records(inv, words[CALL_KEYS], words[CALL_KEYS_END],
			     sizeof(struct static_call_key), &it->nr_call_keys) &&
	       count_records(inv, words[STATIC_KEYS], words[STATIC_KEYS_END],
			     sizeof(struct shunt_static_key), &it->nr_static_keys);
}

/* What the loaded data has of it. */
struct search {
	const struct inventory *inv;
	struct registered first;
	bool has_first, has_other;
	bool has_anchor; /* a record as the descriptor of another version leads to, too */
};

static void look_at(struct search *s, uint64_t vaddr)
{
	struct registered it;

	if (!read_descriptor(s->inv, vaddr, &it))
		return;
	if (!s->has_first)
		s->first = it;
	else if (memcmp(&s->first, &it, sizeof(it)) != 0)
		s->has_other = true;
	s->has_first = true;
}

static void search_segment(struct search *s, const Elf64_Phdr *ph)
{
	const uint8_t *bytes = s->inv->elf.image + ph->p_offset;

	for (uint64_t at = -ph->p_vaddr & 3; in_range(at, sizeof(anchor), ph->p_filesz); at += 4) {
		uint64_t word;

		memcpy(&word, bytes + at, sizeof(word));
		if (!word && !memcmp(bytes + at, anchor, sizeof(anchor)))
			s->has_anchor = true;
		else if (word == sizeof(struct shunt_module) && (ph->p_vaddr + at) % 8 == 0)
			look_at(s, ph->p_vaddr + at);
	}
}

bool inventory_find_registered(const struct inventory *inv, struct registered *it,
			       bool *is_expected)
{
	uint64_t budget = inv->elf.size; /* segments that overlap would make it quadratic */
	struct search s = {.inv = inv};

	for (uint64_t i = 0; i < inv->elf.segments.count; i++) {
		Elf64_Phdr ph = load_segment(&inv->elf, i);

		if (ph.p_type != PT_LOAD || !in_range(ph.p_offset, ph.p_filesz, inv->elf.size) ||
		    ph.p_filesz > budget)
			continue;
		budget -= ph.p_filesz;
		search_segment(&s, &ph);
	}
	*it = s.first;
	*is_expected = s.has_first || s.has_anchor || inv->imports_library;
	return s.has_first && !s.has_other;
}
