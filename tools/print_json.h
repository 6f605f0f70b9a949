/* SPDX-License-Identifier: MIT */
#ifndef SHUNT_TOOL_PRINT_JSON_H
#define SHUNT_TOOL_PRINT_JSON_H

#include <jansson.h>

/*
 * Print @root, of which NULL is that there was no memory, and drop the reference. 0, or -1: having
 * complained, or, where standard output takes no more, for main() to say.
 */
int tool_print_json(const char *what, json_t *root);

#endif
