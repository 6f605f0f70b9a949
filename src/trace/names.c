/* SPDX-License-Identifier: MIT */
/*
 * A thread that gives itself a name may have ended before the consumer looks. Before the C
 * library's, as in exits.c.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "trace/ring.h"

#define EXPORT __attribute__((visibility("default")))

static int (*real_setname)(pthread_t, const char *);

__attribute__((constructor)) static void find_real(void)
{
	*(void **)&real_setname = dlsym(RTLD_NEXT, "pthread_setname_np");
}

EXPORT int pthread_setname_np(pthread_t thread, const char *name)
{
	struct trace_ring *own = trace_own_ring;
	int ret;

	if (!real_setname)
		find_real();
	ret = real_setname ? real_setname(thread, name) : ENOSYS;
	if (!ret && pthread_equal(thread, pthread_self()) && own != &trace_no_ring &&
	    own != &trace_not_here)
		(void)strncpy(own->name, name, sizeof(own->name) - 1);
	return ret;
}
