/* SPDX-License-Identifier: MIT */
/* Descriptors of the recorder's: above those that programs count on, and closed by an exec. */
#ifndef SHUNT_TRACE_OPEN_H
#define SHUNT_TRACE_OPEN_H

#include "trace/file.h"

/* Each returns a descriptor, or -errno. Any thread; async-signal-safe. */
long trace_fd_copy(long fd);
/* With open(2)'s @flags; a file that is made has the rights that the umask leaves of 0666. */
long trace_fd_open(const char *path, int flags);
/* To be written. What is there and is a pipe or a device is taken as it is. */
long trace_fd_open_as(const char *path, enum trace_how how);

#endif
