/* SPDX-License-Identifier: MIT */
/*
 * A copy of the process by a raw clone(), which no handler of fork() sees, and whose first update a
 * child of its vfork() makes: the memory is the copy's all the same. So the copy's own updates
 * work, and where that child is killed in its update they take that back. With SHUNT_SYNC=signal
 * the child's is refused, and the copy's are not.
 *
 * Control: the child is not seen to have its parent's memory.
 */
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/port.h>
#include <shunt/static_call.h>

#include "../common/child.h"
#include "../common/one_two.h"
#include "linux/text/robust.h"

#include "../api/tap.h"

DEFINE_STATIC_CALL(call, one);

KEEP static int site(void)
{
	return static_call(call)() + 0;
}

static bool is_control, is_killed, is_refused;

int32_t __real_shunt_parent_in_memory(void);
int32_t __wrap_shunt_parent_in_memory(void);
int32_t __wrap_shunt_parent_in_memory(void)
{
	return is_control ? 0 : __real_shunt_parent_in_memory();
}

int __real_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void)
{
	if (is_killed)
		(void)kill(getpid(), SIGKILL);
	return __real_shunt_port_core_sync();
}

static bool update(int (*to)(void), int value)
{
	return !static_call_update(call, to) && site() == value;
}

static bool child_updates(void)
{
	pid_t pid = vfork();

	if (!pid)
		_exit(!update(two, 2));
	return child_status(pid) == (is_killed ? 1000 + SIGKILL : is_refused);
}

/* Of the copy. */
static bool updates_on(void)
{
	bool good = child_updates();

	is_killed = false;
	return good && update(one, 1) && update(two, 2) && !shunt_set_poke(SHUNT_POKE_INT3) &&
	       update(one, 1);
}

static bool copy_updates(bool killed, bool control)
{
	long pid;

	is_killed = killed;
	is_control = control;
	pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (!pid) {
		(void)alarm(10);
		_exit(!updates_on());
	}
	return child_status((pid_t)pid) == 0;
}

int main(void)
{
	shunt_set_log(NULL, NULL);
	is_refused = getenv("SHUNT_SYNC");
	ok(update(two, 2) && update(one, 1), "the process updates");
	ok(copy_updates(false, false), "a copy updates behind its child of vfork()");
	ok(copy_updates(true, false), "a copy updates behind its child of vfork() that was killed");
	ok(!is_refused || !copy_updates(false, true),
	   "control: the child is taken for the memory's own process");
	ok(!copy_updates(true, true), "control: the same, and it is killed");
	return tap_done();
}
