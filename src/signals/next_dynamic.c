/* SPDX-License-Identifier: MIT */
/*
 * The next definition, in a program that is linked dynamically: whoever comes behind us in
 * the order of search. That is the C library, or another interposer that passes on to it. A
 * sanitizer's runtime stands before us, and calls us as its next.
 */
#include <dlfcn.h>

#include "signals/signals.h"

struct shunt_next shunt_next;

static void *next(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}

/* POSIX has it that a function's address fits there. */
#define FIND(name) (*(void **)(void *)&shunt_next.name = next(#name))

void shunt_next_init(void)
{
	FIND(sigaction);
	FIND(pthread_sigmask);
	FIND(sigsuspend);
	FIND(sigpending);
	FIND(sigtimedwait);
	FIND(signalfd);
	FIND(ppoll);
	FIND(pselect);
	FIND(epoll_pwait);
	FIND(epoll_pwait2);
	FIND(pthread_attr_setsigmask_np);
	FIND(pthread_attr_getsigmask_np);
	FIND(setcontext);
	FIND(swapcontext);
	FIND(timer_create);
}
