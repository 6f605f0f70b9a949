/* SPDX-License-Identifier: MIT */
/*
 * The C library's functions by which a process ends without its destructors: they stand before the
 * C library's, by names without a version, which match what any program asks for. Those by which
 * it becomes another program: execs.c.
 */
#include <stdlib.h>
#include <unistd.h>

#include "linux/base/syscall.h"
#include "trace/finish.h"

#define EXPORT __attribute__((visibility("default")))

static _Noreturn void exit_now(int status)
{
	trace_finish(true);
	for (;;)
		(void)shunt_syscall(SYS_exit_group, status, 0, 0, 0);
}

EXPORT void _exit(int status)
{
	exit_now(status);
}

EXPORT void _Exit(int status)
{
	exit_now(status);
}
