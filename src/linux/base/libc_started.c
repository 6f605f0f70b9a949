/* SPDX-License-Identifier: MIT */
/*
 * Whether the C library has set this thread up. In a static program it runs the resolvers of
 * ifuncs before it does: then there is no thread-local storage, which updates and messages need,
 * nor may any function be called that is chosen by such a resolver itself (memcpy()).
 */
#include <stdatomic.h>

#include "linux/base/base.h"
#include "linux/base/syscall.h"

static _Atomic bool has_started;

/* The kernel is asked before the first constructors only. */
__attribute__((constructor(101))) static void start(void)
{
	atomic_store_explicit(&has_started, true, memory_order_relaxed);
}

bool shunt_libc_has_started(void)
{
	if (atomic_load_explicit(&has_started, memory_order_relaxed))
		return true;
	if (!shunt_thread_pointer())
		return false;
	start();
	return true;
}

void shunt_tell_too_early(void)
{
	static const char message[] =
		"shunt: an update before the C library is set up, in an ifunc's resolver: "
		"Resource temporarily unavailable\n";

	(void)shunt_syscall(SYS_write, 2, (long)message, sizeof(message) - 1, 0);
}
