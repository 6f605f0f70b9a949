/* SPDX-License-Identifier: MIT */
/* The flight recorder's file now: on a signal, or at the end of the process. */
#include <errno.h>

#include "trace/ring.h"
#include "trace/snapshot.h"
#include "trace/state.h"

static _Atomic int is_saving;

/* One at a time: one that comes meanwhile is content with that. */
void trace_save_now(void)
{
	struct trace_ring *own = trace_own_ring;
	int saved = errno;

	if (atomic_exchange(&is_saving, 1))
		return;
	trace_own_ring = &trace_not_here;
	if (trace_is_autostart)
		(void)trace_save_by_environment();
	else if (trace_session.held.fd >= 0)
		(void)trace_snapshot_held();
	else
		(void)trace_snapshot(trace_session.path, -1);
	trace_own_ring = own;
	errno = saved;
	atomic_store(&is_saving, 0);
}
