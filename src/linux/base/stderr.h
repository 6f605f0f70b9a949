/* SPDX-License-Identifier: MIT */
/* Messages to standard error (stderr.c). */
#ifndef SHUNT_LINUX_STDERR_H
#define SHUNT_LINUX_STDERR_H

/*
 * Write @message there as a line of its own. It is lost where it would have to be waited
 * for, where nobody reads it, and where descriptor 2 is not the file any more that it was
 * when the library was loaded. Raises no signal; async-signal-safe.
 */
void shunt_write_stderr(const char *message);

#endif
