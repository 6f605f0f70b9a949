/* SPDX-License-Identifier: MIT */
/* An array that grows. */
#ifndef SHUNT_TOOLS_LIST_H
#define SHUNT_TOOLS_LIST_H

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct list {
	void *data;
	size_t n, max; /* elements */
};

/* Add a copy of the element of @size bytes at @element. The new one, or NULL. */
static inline void *list_add(struct list *list, const void *element, size_t size)
{
	if (list->n == list->max) {
		size_t max = list->max ? 2 * list->max : 64;
		void *data = reallocarray(list->data, max, size);

		if (!data)
			return NULL;
		list->data = data;
		list->max = max;
	}
	return memcpy((char *)list->data + list->n++ * size, element, size);
}

static inline void list_free(struct list *list)
{
	free(list->data);
	*list = (struct list){0};
}

#endif
