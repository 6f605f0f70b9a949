/* SPDX-License-Identifier: MIT */
/*
 * A file that is written in one go in the place of another one: what was there stays until the new
 * one is whole, which has the name "PATH.new-PID" meanwhile. By system calls alone.
 */
#ifndef SHUNT_TRACE_REPLACE_H
#define SHUNT_TRACE_REPLACE_H

#include "trace/file.h"

/*
 * As trace_file_open(). It is written over where the folder takes no new file, where it is another
 * user's, is empty, or is no regular file.
 */
int trace_file_replace(struct trace_file *file, const char *path, enum trace_how how);

/* As trace_file_close(). Where there is an error the new file goes, and what was there stays. */
int trace_file_close_replaced(struct trace_file *file);

#endif
