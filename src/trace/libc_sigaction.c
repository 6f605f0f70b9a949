/* SPDX-License-Identifier: MIT */
/* The C library's sigaction(), behind the one of hidden_actions.c: the recorder's own calls. */
#include <dlfcn.h>
#include <signal.h>

#include "trace/signals.h"

static int (*real_sigaction)(int, const struct sigaction *, struct sigaction *);

__attribute__((constructor)) static void find_real(void)
{
	void *found = dlsym(RTLD_NEXT, "sigaction");

	/* Loaded late, or by another library, this one comes behind the C library. */
	*(void **)&real_sigaction = found ? found : dlsym(RTLD_DEFAULT, "sigaction");
}

int trace_sigaction(int sig, const struct sigaction *action, struct sigaction *before)
{
	if (!real_sigaction)
		find_real();
	return real_sigaction(sig, action, before);
}
