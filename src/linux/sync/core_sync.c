/* SPDX-License-Identifier: MIT */
/*
 * Core sync, by membarrier(2): the kernel interrupts each CPU that runs a thread of
 * this process, and every other one passes a serialising instruction before it
 * returns to user space in it. Linux 4.16. Where that is not to be had (an older
 * kernel, gVisor, a seccomp filter), by signals: sync_signal.c.
 *
 * In a process with one thread this CPU alone is left, and a serialising instruction of
 * our own does: of a process that is registered, the kernel lets no thread out on another
 * CPU that has not executed one since it last ran that memory.
 */
#include <errno.h>
#include <linux/membarrier.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/utsname.h>

#include <shunt/port.h>

#include "linux/base/alone.h"
#include "linux/base/base.h"
#include "linux/base/environment.h"
#include "linux/base/syscall.h"
#include "linux/sync/serialise.h"
#include "linux/sync/sync.h"
#include "linux/sync/sync_signal.h"

/* Guarded by the update lock. */
static struct {
	enum { UNKNOWN, MEMBARRIER, SIGNALS } method;
	bool forced; /* SHUNT_SYNC names the method: no other is tried */
	bool registered;
	bool skips_caller; /* before Linux 5.10 the calling CPU is not covered */
	/* How the last one was made; read without the lock, for display. */
	const char *_Atomic last;
} state = {.last = "none"};

/* ------------------------------------------------------------------ membarrier */

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

static int sync_by_membarrier(void)
{
	int ret = state.registered ? 0 : prepare();

	if (!ret)
		ret = membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE);
	if (!ret && state.skips_caller)
		shunt_serialise();
	atomic_store_explicit(&state.last, "membarrier", memory_order_relaxed);
	return ret;
}

/* Where nobody else runs this text: whether that was all. */
static bool sync_alone(void)
{
	if (!state.registered || state.forced || !shunt_is_alone() || !shunt_serialise_alone())
		return false;
	atomic_store_explicit(&state.last, SHUNT_SERIALISE_ALONE, memory_order_relaxed);
	return true;
}

/* ------------------------------------------------------------------- the choice */

static void choose(void)
{
	int value = shunt_environment_value(SHUNT_ENV_SYNC);

	state.method = value == SHUNT_ENV_SIGNAL ? SIGNALS : MEMBARRIER;
	state.forced = value >= 0;
}

static int sync_by_signals(void)
{
	int ret = shunt_signal_sync();

	atomic_store_explicit(&state.last, "signals", memory_order_relaxed);
	return ret;
}

/*
 * Register with the kernel while that is quick: with one thread. With more it waits for all
 * CPUs, some milliseconds, which an update would spend with its signals blocked.
 */
void shunt_sync_prepare(void)
{
	if (state.method == UNKNOWN)
		choose();
	if (state.method == MEMBARRIER && !state.registered && prepare())
		shunt_failed_call = NULL; /* the first sync says so, if it has to */
}

static int sync_now(void)
{
	int error, ret;

	if (state.method == SIGNALS)
		return sync_by_signals();
	if (sync_alone())
		return 0;
	error = sync_by_membarrier();
	if (!error || state.forced)
		return error;
	ret = sync_by_signals();
	if (!ret && error != -ENOMEM) /* which passes */
		state.method = SIGNALS;
	return ret;
}

int shunt_port_core_sync(void)
{
	const char *earlier = shunt_failed_call;
	int saved = errno, ret;

	if (state.method == UNKNOWN)
		choose();
	ret = sync_now();
	if (!ret)
		shunt_failed_call = earlier; /* what failed before did no harm */
	errno = saved;
	return ret;
}

const char *shunt_sync_method(void)
{
	return atomic_load_explicit(&state.last, memory_order_relaxed);
}
