/* SPDX-License-Identifier: MIT */
#ifndef SHUNT_LINUX_INSPECT_H
#define SHUNT_LINUX_INSPECT_H

#include <stdbool.h>

/* Whether shunt_for_each_key() gives @func this name. Not with the update lock. */
bool shunt_is_function_name(const void *func, const char *name);

#endif
