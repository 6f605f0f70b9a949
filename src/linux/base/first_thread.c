/* SPDX-License-Identifier: MIT */
/* A process whose first thread has ended by pthread_exit(), before others. */
#include <errno.h>
#include <fcntl.h>

#include "linux/base/first_thread.h"
#include "linux/base/syscall.h"

bool shunt_first_thread_has_ended(void)
{
	char c;

	return shunt_own_tid() != shunt_own_pid() &&
	       shunt_syscall(SYS_readlinkat, AT_FDCWD, (long)"/proc/self/exe", (long)&c, 1) ==
		       -ENOENT;
}
