/* SPDX-License-Identifier: MIT */
/*
 * The negative control of the programs: interposers that do no more than to take SIGTRAP
 * out of masks. Nothing dies of a poke with them, and no program is told the truth.
 */
#include <dlfcn.h>
#include <signal.h>
#include <stddef.h>

static const sigset_t *strip(sigset_t *stripped, const sigset_t *set)
{
	if (!set)
		return NULL;
	*stripped = *set;
	sigdelset(stripped, SIGTRAP);
	return stripped;
}

int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
	int (*next)(int, const sigset_t *, sigset_t *);
	sigset_t stripped;

	*(void **)(void *)&next = dlsym(RTLD_NEXT, "pthread_sigmask");
	return next(how, strip(&stripped, set), old);
}

int sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
	return pthread_sigmask(how, set, old);
}

int sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	int (*next)(int, const struct sigaction *, struct sigaction *);
	struct sigaction stripped;

	*(void **)(void *)&next = dlsym(RTLD_NEXT, "sigaction");
	if (act) {
		stripped = *act;
		sigdelset(&stripped.sa_mask, SIGTRAP);
	}
	return next(sig, act ? &stripped : NULL, old);
}
