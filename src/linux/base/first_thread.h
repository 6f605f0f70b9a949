/* SPDX-License-Identifier: MIT */
#ifndef SHUNT_LINUX_FIRST_THREAD_H
#define SHUNT_LINUX_FIRST_THREAD_H

#include <stdbool.h>

/*
 * Whether the first thread has ended before this one. Then /proc/thread-self is opened where
 * /proc/self is asked for, and what was opened by it leads nowhere when this thread has ended, too.
 */
bool shunt_first_thread_has_ended(void);

#endif
