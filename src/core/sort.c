/* SPDX-License-Identifier: MIT */
/* Heapsort over elements of any size (sort.h). */
#include "core/sort.h"

#include <stdbool.h>

/* A word of any type of element. */
typedef uint64_t __attribute__((may_alias)) word_t;

struct array {
	word_t *base;
	size_t n;
	size_t words; /* of an element */
	uintptr_t (*key)(const void *element);
};

static uintptr_t key(const struct array *a, size_t i)
{
	return a->key(a->base + i * a->words);
}

static void swap(const struct array *a, size_t i, size_t j)
{
	word_t *x = a->base + i * a->words, *y = a->base + j * a->words;

	for (size_t w = 0; w < a->words; w++) {
		word_t t = x[w];

		x[w] = y[w];
		y[w] = t;
	}
}

static bool is_sorted(const struct array *a)
{
	for (size_t i = 1; i < a->n; i++)
		if (key(a, i - 1) > key(a, i))
			return false;
	return true;
}

static void sift_down(const struct array *a, size_t root, size_t n)
{
	for (size_t child; (child = 2 * root + 1) < n; root = child) {
		if (child + 1 < n && key(a, child) < key(a, child + 1))
			child++;
		if (key(a, root) >= key(a, child))
			return;
		swap(a, root, child);
	}
}

void shunt_sort(void *base, size_t n, size_t size, uintptr_t (*keyfn)(const void *element))
{
	struct array a = {base, n, size / sizeof(word_t), keyfn};

	if (is_sorted(&a))
		return;
	for (size_t i = n / 2; i-- > 0;)
		sift_down(&a, i, n);
	for (size_t end = n; end-- > 1;) {
		swap(&a, 0, end);
		sift_down(&a, 0, end);
	}
}
