/* SPDX-License-Identifier: MIT */
/* What a call fails with: its message, for shunt_last_error(). */
#ifndef SHUNT_TRACE_FAILED_H
#define SHUNT_TRACE_FAILED_H

/* Returns @error. */
int trace_failed(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
