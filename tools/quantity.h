/* SPDX-License-Identifier: MIT */
/* Numbers with a unit, as options take them. All return false where the text is none. */
#ifndef SHUNT_TOOLS_QUANTITY_H
#define SHUNT_TOOLS_QUANTITY_H

#include <stdbool.h>

/* A time with its unit: 500ns, 20us, 1.5ms, 1s; in ns. */
bool tool_read_time(const char *text, unsigned long long *ns);

/* The same, or a number alone, which is of seconds. */
bool tool_read_seconds(const char *text, unsigned long long *ns);

/* 4096, 64K, 64KiB, 16M, 1G; in bytes. */
bool tool_read_size(const char *text, unsigned long long *bytes);

#endif
