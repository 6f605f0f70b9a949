/* SPDX-License-Identifier: MIT */
/*
 * The process under test. The updater makes three updates and stops before and
 * after each; the runner waits, and is the tracer's from then on: its registers and its
 * stack are what the tracer writes there.
 */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "interleave.h"

_Alignas(4096) uint8_t il_stack[IL_STACK];
_Atomic pid_t il_runner;

static void *run(void *arg)
{
	static const stack_t none = {.ss_flags = SS_DISABLE};

	(void)arg;
	/* A sanitizer gives each thread an alternate stack, which would be state too. */
	if (sigaltstack(&none, NULL))
		_exit(2);
	il_runner = gettid();
	for (;;)
		(void)syscall(SYS_pause);
}

/* Every page that a poke copies has been copied, every descriptor is open. */
static void warm_up(const struct il_case *c)
{
	il_case = NULL;
	/* What is off is so with another target than it is to have: that takes an int3. */
	if (il_update(c, 1) || il_update(c, IL_VERSIONS - 1) || il_update(c, 0))
		_exit(2);
	for (size_t i = 0; i < IL_STACK; i += 512)
		((volatile uint8_t *)il_stack)[i] = 0;
	il_case = c;
}

_Noreturn void il_tracee(void)
{
	const struct il_case *c = il_case;
	pthread_t runner;

	warm_up(c);
	if (pthread_create(&runner, NULL, run, NULL))
		_exit(2);
	while (!il_runner)
		;
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
		_exit(IL_NO_PTRACE);
	il_stop();
	for (unsigned version = 1; version < IL_VERSIONS; version++) {
		if (il_update(c, version))
			_exit(2);
		il_step++;
		il_stop();
	}
	_exit(0);
}
