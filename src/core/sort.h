/* SPDX-License-Identifier: MIT */
/*
 * Heapsort: in place, without recursion, never quadratic. What it sorts here
 * (sites and batches of them, by address) mostly comes in order, which costs one
 * pass.
 */
#ifndef SHUNT_CORE_SORT_H
#define SHUNT_CORE_SORT_H

#include <stddef.h>
#include <stdint.h>

/*
 * Sort @n elements of @size bytes (a multiple of 8, aligned to 8) at @base by
 * @key, ascending. Not stable.
 */
void shunt_sort(void *base, size_t n, size_t size, uintptr_t (*key)(const void *element));

#endif
