/* SPDX-License-Identifier: MIT */
/* An array that grows. */
#ifndef SHUNT_TOOLS_ARRAY_H
#define SHUNT_TOOLS_ARRAY_H

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct array {
	void *data;
	size_t n, max; /* elements */
};

/* Add a copy of the element of @size bytes at @element. The new one, or NULL. */
static inline void *array_add(struct array *array, const void *element, size_t size)
{
	if (array->n == array->max) {
		size_t max = array->max ? 2 * array->max : 64;
		void *data = reallocarray(array->data, max, size);

		if (!data)
			return NULL;
		array->data = data;
		array->max = max;
	}
	return memcpy((char *)array->data + array->n++ * size, element, size);
}

static inline void array_free(struct array *array)
{
	free(array->data);
	*array = (struct array){0};
}

#endif
