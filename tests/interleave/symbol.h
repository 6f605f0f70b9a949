/* SPDX-License-Identifier: MIT */
/*
 * Our own symbol table: where a variable is that has no name outside of its file.
 */
#ifndef INTERLEAVE_SYMBOL_H
#define INTERLEAVE_SYMBOL_H

#include <stddef.h>

/* The one variable of @size bytes of that name; NULL: none, or more than one. */
const void *il_symbol(const char *name, size_t size);

#endif
