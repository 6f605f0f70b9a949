/* SPDX-License-Identifier: MIT */
/* A module that a test makes: many functions with the same code, at addresses of its own. */
#ifndef TESTS_TRACE_MADE_MODULE_H
#define TESTS_TRACE_MADE_MODULE_H

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "core/ftrace.h"

enum { MADE_EACH = 32 /* bytes of text for each function */ };

/*
 * Map @module->n functions, g0, g1, ..., at @place, or where the kernel likes (NULL), and add them.
 * @code: of @size bytes, 5 of which are the entry. @made and @text_of_names: of @module; 8 bytes a
 * name. Their text; NULL: not.
 */
static inline uint8_t *load_made(struct shunt_entries *module, struct shunt_entry *made,
				 char *text_of_names, void *place, const uint8_t *code, size_t size)
{
	uint8_t *text =
		mmap(place, module->n * MADE_EACH, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | (place ? MAP_FIXED_NOREPLACE : 0), -1, 0);
	char *name = text_of_names + 1;
	int ret;

	if (text == MAP_FAILED)
		return NULL;
	for (size_t i = 0; i < module->n; i++) {
		uint8_t *at = text + i * MADE_EACH;

		memcpy(at, code, size);
		made[i] = (struct shunt_entry){.ip = (uintptr_t)at,
					       .func = (uintptr_t)at,
					       .len = 5,
					       .kind = SHUNT_ENTRY_PATCHABLE,
					       .name = (uint32_t)(name - text_of_names)};
		memcpy(made[i].old, code, 5);
		name += sprintf(name, "g%zu", i) + 2;
	}
	if (mprotect(text, module->n * MADE_EACH, PROT_READ | PROT_EXEC) ||
	    shunt_port_trace_lock("test", NULL))
		return NULL;
	ret = shunt_entries_add(module);
	shunt_port_trace_unlock();
	return ret ? NULL : text;
}

#endif
