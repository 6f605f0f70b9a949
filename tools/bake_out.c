/* SPDX-License-Identifier: MIT */
/* What the parts of a bake share: the new image as it grows, and the reason of a refusal. */
#include "bake_parts.h"

#include <stdlib.h>

int bake_refuse(struct bake *b, const char *why)
{
	b->result->why = why;
	return -EINVAL;
}

uint8_t *bake_bytes(const struct bake *b, uint64_t vaddr, size_t len)
{
	const uint8_t *in = shunt_elf_at(&b->inv.elf, vaddr, len);

	return in ? b->out + (in - b->inv.elf.image) : NULL;
}

/* @size zeroed bytes at the end of the new image; NULL: no memory. */
uint8_t *bake_append(struct bake *b, uint64_t size, uint64_t align)
{
	uint64_t start = (b->out_size + align - 1) & -align;
	uint64_t end = start + size;

	if (end > b->capacity) {
		uint64_t capacity = 2 * b->capacity > end ? 2 * b->capacity : end;
		uint8_t *grown = realloc(b->out, capacity);

		if (!grown)
			return NULL;
		memset(grown + b->capacity, 0, capacity - b->capacity);
		b->out = grown;
		b->capacity = capacity;
	}
	b->out_size = end;
	return b->out + start;
}
