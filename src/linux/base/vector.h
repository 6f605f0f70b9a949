/* SPDX-License-Identifier: MIT */
/* An array that grows, in memory from shunt_port_alloc(). */
#ifndef SHUNT_LINUX_VECTOR_H
#define SHUNT_LINUX_VECTOR_H

#include <stddef.h>

#define SHUNT_VECTOR_MIN 64

/* Its room is SHUNT_VECTOR_MIN elements, doubled as often as need be. */
struct shunt_vector {
	void *data;
	size_t n, max;
};

/* Room for one more element of @size bytes, zeroed; NULL: no memory. */
void *shunt_vector_add(struct shunt_vector *v, size_t size);
void shunt_vector_free(struct shunt_vector *v, size_t size);

#endif
