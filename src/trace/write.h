/* SPDX-License-Identifier: MIT */
/* Writing to the file's descriptor, whatever the file's error. Any thread; async-signal-safe. */
#ifndef SHUNT_TRACE_WRITE_H
#define SHUNT_TRACE_WRITE_H

#include "trace/file.h"

/*
 * All of the @n parts, which are changed; all signals are blocked meanwhile. 0 or -errno, and in
 * *@done the bytes that were written.
 */
long trace_file_write(const struct trace_file *file, struct iovec *parts, int n, uint64_t *done);
/* Whole chunks of @size bytes, with so many events in them, have been. */
void trace_file_added(struct trace_file *file, uint64_t size, uint64_t events);

#endif
