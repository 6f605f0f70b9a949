/* SPDX-License-Identifier: MIT */
/*
 * What others have written to pages since they were copied for a remap. What a remap compares is
 * large, and a thread that is preempted in it compares again: so it is done in wide words.
 */
#include "linux/text/page_run.h"

/*
 * Text is not read by memcmp() and the like: ThreadSanitizer has no writable shadow for it.
 */
#define READS_TEXT __attribute__((no_sanitize("thread")))

typedef uint64_t chunk_t __attribute__((vector_size(16), aligned(1), may_alias));
typedef uint64_t word_t __attribute__((aligned(1), may_alias));
typedef uint32_t half_t __attribute__((aligned(1), may_alias));

/* Up to 16 bytes: the first and the last ones, which may overlap. */
READS_TEXT static inline bool few_differ(const uint8_t *a, const uint8_t *b, size_t len)
{
	const uint8_t *c = a + len, *d = b + len;
	uint8_t rest = 0;

	if (len >= 8)
		return (*(const word_t *)a ^ *(const word_t *)b) |
		       (*(const word_t *)(c - 8) ^ *(const word_t *)(d - 8));
	if (len >= 4)
		return (*(const half_t *)a ^ *(const half_t *)b) |
		       (*(const half_t *)(c - 4) ^ *(const half_t *)(d - 4));
	while (len--)
		rest |= *a++ ^ *b++;
	return rest;
}

READS_TEXT static inline bool differ(const uint8_t *a, const uint8_t *b, size_t len)
{
	chunk_t sum = {0, 0};

	for (; len >= 64; len -= 64, a += 64, b += 64) {
		const chunk_t *x = (const chunk_t *)a, *y = (const chunk_t *)b;

		sum |= (x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3]);
	}
	for (; len > 16; len -= 16, a += 16, b += 16)
		sum |= *(const chunk_t *)a ^ *(const chunk_t *)b;
	return sum[0] | sum[1] | few_differ(a, b, len);
}

/* As a number, whose low bytes are nought. */
READS_TEXT static inline uint64_t bytes_at(const struct shunt_write *one)
{
	unsigned spare = 8u * (8u - one->len) % 64;
	uint64_t bytes = 0;

	if ((uintptr_t)one->addr % SHUNT_PAGE <= SHUNT_PAGE - 8)
		return *(const word_t *)one->addr << spare;
	for (size_t b = one->len; b-- > 0;)
		bytes = bytes << 8 | one->addr[b];
	return bytes << spare;
}

READS_TEXT uint64_t shunt_sum_of_sites(struct shunt_writes w)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < w.n; i++)
		sum = (sum ^ bytes_at(shunt_nth_write(w, i))) * 0x9e3779b97f4a7c15u;
	return sum;
}

READS_TEXT bool shunt_texts_differ(const uint8_t *a, const uint8_t *b, size_t len)
{
	return differ(a, b, len);
}

READS_TEXT bool shunt_is_true_copy(const struct shunt_page_run *run)
{
	const uint8_t *text = (const uint8_t *)run->start, *copy = run->copy;
	size_t at = 0;

	for (size_t i = 0; i < run->w.n; i++) {
		const struct shunt_write *one = shunt_nth_write(run->w, i);
		size_t off = (size_t)(one->addr - text);

		if (off - at <= 16 ? few_differ(text + at, copy + at, off - at)
				   : differ(text + at, copy + at, off - at))
			return false;
		at = off + one->len;
	}
	return !differ(text + at, copy + at, run->len - at);
}
