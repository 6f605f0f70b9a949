/* SPDX-License-Identifier: MIT */
/* The C library's sigaction(), behind the one of hidden_actions.c: the recorder's own calls. */
#include <dlfcn.h>
#include <signal.h>

#include "trace/session.h"

static int (*real_sigaction)(int, const struct sigaction *, struct sigaction *);

__attribute__((constructor)) static void find_real(void)
{
	*(void **)&real_sigaction = dlsym(RTLD_NEXT, "sigaction");
}

int trace_sigaction(int sig, const struct sigaction *action, struct sigaction *before)
{
	if (!real_sigaction)
		find_real();
	return real_sigaction(sig, action, before);
}
