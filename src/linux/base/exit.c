/* SPDX-License-Identifier: MIT */
/* That the process exits: then destructors run, but no module is unmapped. */
#include <stdlib.h>

#include "linux/base/base.h"

static _Atomic bool exiting;

bool shunt_is_exiting(void)
{
	return atomic_load_explicit(&exiting, memory_order_relaxed);
}

static void on_exit_begins(void)
{
	atomic_store_explicit(&exiting, true, memory_order_relaxed);
}

/*
 * Handlers of atexit() run in reverse order. The one in which the dynamic linker runs
 * all destructors is registered when the program starts, behind the constructors of
 * its shared objects and before its own: ours must come behind that.
 */
void shunt_watch_exit(void)
{
	(void)atexit(on_exit_begins);
}
