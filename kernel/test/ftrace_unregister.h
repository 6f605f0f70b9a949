/* SPDX-License-Identifier: MIT */
/* One ops alone, registered and unregistered (ftrace_unregister.c). */
#ifndef KERNEL_FTRACE_UNREGISTER_H
#define KERNEL_FTRACE_UNREGISTER_H

/* Reports by ok(). Two CPUs or more; the timer's handler is another afterwards. */
void ftrace_unregister_test(void);

#endif
