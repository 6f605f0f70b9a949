/* SPDX-License-Identifier: MIT */
/* How often the library has asked for memory (linked with --wrap=shunt_port_alloc). */
#ifndef SHUNT_TESTS_ALLOCATIONS_H
#define SHUNT_TESTS_ALLOCATIONS_H

#include <stddef.h>

static _Atomic unsigned allocations;

void *__real_shunt_port_alloc(size_t size);
void *__wrap_shunt_port_alloc(size_t size);

void *__wrap_shunt_port_alloc(size_t size)
{
	allocations++;
	return __real_shunt_port_alloc(size);
}

#endif
