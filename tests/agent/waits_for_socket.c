/* SPDX-License-Identifier: MIT */
/*
 * The tool with another wait for an agent's end: for its socket alone, and not for its thread; with
 * NEVER_ENDS in the environment one that is over at once, as if its time were.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <sys/types.h>

bool __real_remote_wait_for_end(pid_t pid, pid_t agent, unsigned ms);
bool __wrap_remote_wait_for_end(pid_t pid, pid_t agent, unsigned ms);

bool __wrap_remote_wait_for_end(pid_t pid, pid_t agent, unsigned ms)
{
	(void)agent;
	return !getenv("NEVER_ENDS") && __real_remote_wait_for_end(pid, 0, ms);
}
