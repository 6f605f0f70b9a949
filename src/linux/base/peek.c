/* SPDX-License-Identifier: MIT */
/*
 * Memory that may be unmapped while it is read: a module's, and what the dynamic linker
 * keeps of one, where its lock is not to be had. A copy by the kernel fails, not faults. Many
 * filters kill whoever asks for one, so where a filter is in force it is not asked.
 */
#include <sys/uio.h>

#include "linux/base/alone.h"
#include "linux/base/base.h"
#include "linux/base/syscall.h"

bool shunt_peek(void *to, const void *from, size_t len)
{
	struct iovec local = {to, len}, remote = {(void *)from, len};

	return !shunt_is_filtered() &&
	       shunt_syscall6(SYS_process_vm_readv, shunt_own_pid(), (long)&local, 1, (long)&remote,
			      1, 0) == (long)len;
}

/* Page by page: behind the string's there may be none. */
bool shunt_peek_string(char *to, size_t size, const char *from)
{
	size_t done = 0;

	while (done + 1 < size) {
		size_t len = 4096 - (uintptr_t)(from + done) % 4096;

		if (len > size - 1 - done)
			len = size - 1 - done;
		if (!shunt_peek(to + done, from + done, len))
			return false;
		for (; len; len--, done++)
			if (!to[done])
				return true;
	}
	to[done] = '\0';
	return true;
}
