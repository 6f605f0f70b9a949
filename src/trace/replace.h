/* SPDX-License-Identifier: MIT */
/*
 * A file that is written in one go in the place of another one: what was there stays until the new
 * one is whole, which has the name "PATH.new-PID" meanwhile. By system calls alone.
 */
#ifndef SHUNT_TRACE_REPLACE_H
#define SHUNT_TRACE_REPLACE_H

#include "trace/file.h"

/*
 * As trace_file_open(). What is empty, or no regular file, is written over. Where the folder takes
 * no new file, or what is there is another user's: an error, and file->is_for_place.
 */
int trace_file_replace(struct trace_file *file, const char *path, enum trace_how how);

/*
 * As trace_file_close(). Where there is an error the new file goes, and what was there stays; also
 * where it cannot be put there (file->is_for_place).
 */
int trace_file_close_replaced(struct trace_file *file);

/*
 * What is there then, if it is a recording: to be written to as to one that is held
 * (trace_file_rewrite()), which leaves it until the new one is whole; nobody else does meanwhile
 * (-EBUSY). -EEXIST: it is no recording. With an error it is as it was.
 */
int trace_file_open_earlier(struct trace_file *there, const char *path);
void trace_file_close_earlier(struct trace_file *there, int error);

#endif
