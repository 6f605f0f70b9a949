/* SPDX-License-Identifier: MIT */
/* Why a filter matches nothing that can be traced. */
#ifndef SHUNT_TRACE_UNMATCHED_H
#define SHUNT_TRACE_UNMATCHED_H

#include <stddef.h>

/*
 * In @why, of @size bytes: no function of the process has a name that @glob, of @len bytes,
 * matches; or how many have, and why the first of them cannot be traced. No lock of the library's
 * held.
 */
void trace_say_unmatched(const char *glob, size_t len, char *why, size_t size);

#endif
