/* SPDX-License-Identifier: MIT */
/*
 * A pause by what locks wait with: a filter (seccomp) that refuses poll() to all threads may refuse
 * clock_nanosleep(), too, and who came back at once from both would take a CPU.
 */
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "agent/agent.h"

void agent_nap(unsigned ms)
{
#ifdef AGENT_NAPS /* the tests' control */
	(void)usleep(ms * 1000);
#else
	static unsigned never; /* woken */
	const struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};

	(void)syscall(SYS_futex, &never, FUTEX_WAIT_PRIVATE, 0, &time, NULL, 0);
#endif
}
