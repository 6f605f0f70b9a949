/* SPDX-License-Identifier: MIT */
/* Threads of our own libraries, which block the program's signals: they answer the core sync. */
#include <signal.h>

#include <shunt/port.h>

#include "linux/base/base.h"
#include "linux/base/syscall.h"
#include "linux/sync/sync.h"
#include "linux/sync/sync_handler.h"

static void let_in(int sig)
{
	const uint64_t set = sig ? (uint64_t)1 << (sig - 1) : 0;

	(void)shunt_syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, (long)&set, 0, sizeof(set));
}

/* First the signal that is known: who has the lock may be waiting for this thread's answer. */
int shunt_open_to_sync(int open)
{
	int sig = __atomic_load_n(&shunt_sync_signal, __ATOMIC_RELAXED);

	if (sig && sig == open)
		return open;
	let_in(sig);
	if (shunt_port_lock())
		return open;
	sig = shunt_choose_sync_signal() ? 0 : shunt_sync_signal;
	shunt_port_unlock();
	if (!sig)
		return open;
	let_in(sig);
	return sig;
}
