/* SPDX-License-Identifier: MIT */
/* An array that grows. */

#include <shunt/port.h>

#include "linux/base/base.h"
#include "linux/base/vector.h"

void *shunt_vector_add(struct shunt_vector *v, size_t size)
{
	if (v->n == v->max) {
		size_t max = v->max ? 2 * v->max : SHUNT_VECTOR_MIN;
		void *data = v->data ? shunt_memory_grow(v->data, v->max * size, max * size)
				     : shunt_port_alloc(max * size);

		if (!data)
			return NULL;
		v->data = data;
		v->max = max;
	}
	return (char *)v->data + v->n++ * size;
}

void shunt_vector_free(struct shunt_vector *v, size_t size)
{
	shunt_port_free(v->data, v->max * size);
	*v = (struct shunt_vector){0};
}
