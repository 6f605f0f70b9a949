/* SPDX-License-Identifier: MIT */
/* Keys that an executable exports and that no plugin will find. */
#ifndef SHUNT_TOOLS_UNSEEN_EXPORTS_H
#define SHUNT_TOOLS_UNSEEN_EXPORTS_H

#include <jansson.h>

#include "linux/elf/elf.h"

/*
 * The names of the keys that the executable at @elf defines for other modules (EXPORT_STATIC_CALL,
 * EXPORT_STATIC_KEY) and that are not in its dynamic symbol table, where the dynamic linker looks
 * for what a plugin refers to: it was linked without -rdynamic. A shared object, and a static
 * executable, have none. As a new array of strings, null where one is no UTF-8; or NULL, without
 * memory.
 */
json_t *unseen_exports_json(const struct shunt_elf *elf);

/* Print a line for each on standard output. */
void unseen_exports_show(const struct shunt_elf *elf, const char *path);

#endif
