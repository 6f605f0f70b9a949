/* SPDX-License-Identifier: MIT */
#ifndef SHUNT_LINUX_INSPECT_H
#define SHUNT_LINUX_INSPECT_H

/*
 * Whether shunt_for_each_key() gives @func this name: 1, 0, or an error where its file cannot be
 * read. Not with the update lock.
 */
int shunt_is_function_name(const void *func, const char *name);

#endif
