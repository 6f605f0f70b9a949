/* SPDX-License-Identifier: MIT */
/*
 * A program that asks what is to be done on a signal whose default action signals.c does itself is
 * told that it is the default: some install their own handler only then. Before the C library's,
 * as in exits.c.
 */
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "trace/signals.h"

#define EXPORT __attribute__((visibility("default")))

static __sighandler_t (*real_signal)(int, __sighandler_t);

__attribute__((constructor)) static void find_real(void)
{
	*(void **)&real_signal = dlsym(RTLD_NEXT, "signal");
}

EXPORT int sigaction(int sig, const struct sigaction *action, struct sigaction *before)
{
	int ret = trace_sigaction(sig, action, before);

	if (!ret && before && trace_is_own_handler(before)) {
		memset(before, 0, sizeof(*before));
		before->sa_handler = SIG_DFL;
	}
	return ret;
}

EXPORT __sighandler_t signal(int sig, __sighandler_t handler)
{
	struct sigaction before = {.sa_flags = SA_SIGINFO};

	if (!real_signal)
		find_real();
	before.sa_handler = real_signal(sig, handler);
	return trace_is_own_handler(&before) ? SIG_DFL : before.sa_handler;
}
