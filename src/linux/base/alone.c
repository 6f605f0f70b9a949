/* SPDX-License-Identifier: MIT */
/*
 * Whether nobody else runs this text: no other thread, no child of a vfork(), no clone()
 * that shares our memory. The C library knows of its own threads only; the kernel
 * knows of all: it refuses to unshare memory that is shared, and does nothing where it is
 * not. It is not asked where a seccomp filter is in force, which may kill whoever calls
 * unshare(): then it is not known.
 */
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>

#include "linux/base/alone.h"
#include "linux/base/syscall.h"

static bool stays; /* update lock */

void shunt_stays_alone(bool alone)
{
	stays = alone;
}

bool shunt_is_filtered(void)
{
	return shunt_syscall(SYS_prctl, PR_GET_SECCOMP, 0, 0, 0) > 0;
}

extern char __libc_single_threaded __attribute__((weak)); /* glibc 2.32 */

bool shunt_ask_if_alone(const char **why_not)
{
	*why_not = NULL;
	if (stays)
		return true;
	if (&__libc_single_threaded && !__libc_single_threaded)
		return false;
	if (shunt_is_filtered()) {
		*why_not =
			"a seccomp filter is in force, and may kill who asks whether it is alone";
		return false;
	}
	if (!shunt_syscall(SYS_unshare, CLONE_VM, 0, 0, 0))
		return true;
	*why_not = "the kernel says that the memory is shared, or does not say";
	return false;
}

bool shunt_is_alone(void)
{
	const char *why_not;

	return shunt_ask_if_alone(&why_not);
}
