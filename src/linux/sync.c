/* SPDX-License-Identifier: MIT */
/*
 * Core sync by membarrier(2): the kernel interrupts each CPU that runs a thread of
 * this process, and every other one passes a serialising instruction before it
 * returns to user space in it. Linux 4.16.
 */
#include <cpuid.h>
#include <errno.h>
#include <linux/membarrier.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "linux/linux.h"
#include "linux/syscall.h"

/* Guarded by the update lock; read without it only for display. */
static struct {
	bool registered;
	bool skips_caller; /* before Linux 5.10 the calling CPU is not covered */
} state;

static int membarrier(int command)
{
	long ret = shunt_syscall(SYS_membarrier, command, 0, 0, 0);

	if (ret)
		shunt_failed_call = "membarrier";
	return (int)ret;
}

static bool is_older_than_5_10(void)
{
	struct utsname name;
	int major = 0, minor = 0;
	const char *s;

	if (uname(&name))
		return true;
	for (s = name.release; *s >= '0' && *s <= '9'; s++)
		major = major * 10 + *s - '0';
	for (s += *s == '.'; *s >= '0' && *s <= '9'; s++)
		minor = minor * 10 + *s - '0';
	return major < 5 || (major == 5 && minor < 10);
}

static int prepare(void)
{
	int ret = membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE);

	if (ret)
		return ret;
	state.skips_caller = is_older_than_5_10();
	state.registered = true;
	return 0;
}

static void serialise(void)
{
	unsigned eax, ebx, ecx, edx;

	__cpuid(0, eax, ebx, ecx, edx);
}

int shunt_port_core_sync(void)
{
	int ret = state.registered ? 0 : prepare();

	if (!ret)
		ret = membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE);
	if (!ret && state.skips_caller)
		serialise();
	return ret;
}

const char *shunt_sync_way(void)
{
	return state.registered ? "membarrier" : "none";
}
