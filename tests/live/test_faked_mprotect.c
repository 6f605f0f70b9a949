/* SPDX-License-Identifier: MIT */
/*
 * A filter answers 0 to mprotect(), which then has done nothing: pages that are to be opened for
 * a write stay closed, and a changed copy of text stays writable and cannot be executed. By each
 * policy, beside a thread and without: it works in another way, or it is an error with a
 * message that names the call, and nothing has changed.
 *
 * Control: the answer is believed; then the process dies.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>

#include "../common/call_site.h"
#include "../common/child.h"
#include "../common/filter.h"
#include "../common/idle_thread.h"
#include "linux/text/area.h"

#include "../api/tap.h"

/* -------------------------------------------------------------------- control */

int __real_shunt_area_is_writable(uintptr_t addr);
int __wrap_shunt_area_is_writable(uintptr_t addr);

static bool believes;

/* Asked of text that has been opened, and of copies that have been closed. */
int __wrap_shunt_area_is_writable(uintptr_t addr)
{
	uintptr_t text = (uintptr_t)site;

	return believes ? addr / 4096 == text / 4096 : __real_shunt_area_is_writable(addr);
}

/* ----------------------------------------------------------------- situations */

/* Whether pwrite() is answered for too, with EPERM. */
static const struct situation {
	const char *name;
	enum shunt_poke_policy policy;
	bool threads, no_pwrite;
	bool works;
} situations[] = {
	{"alone", SHUNT_POKE_AUTO, false, true, false},
	{"auto, a thread", SHUNT_POKE_AUTO, true, true, false},
	{"int3", SHUNT_POKE_INT3, false, true, false},
	{"int3, a thread", SHUNT_POKE_INT3, true, true, false},
	{"atomic", SHUNT_POKE_ATOMIC, false, true, false},
	{"atomic, a thread", SHUNT_POKE_ATOMIC, true, true, false},
	{"remap", SHUNT_POKE_REMAP, false, true, false},
	{"remap, a thread", SHUNT_POKE_REMAP, true, true, false},
	{"by /proc/self/mem: alone", SHUNT_POKE_AUTO, false, false, true},
	{"by /proc/self/mem: auto, a thread", SHUNT_POKE_AUTO, true, false, true},
	{"by /proc/self/mem: int3, a thread", SHUNT_POKE_INT3, true, false, true},
	{"by /proc/self/mem: not atomic", SHUNT_POKE_ATOMIC, true, false, true},
};

static bool answer(bool no_pwrite)
{
	return answer_syscall(SYS_mprotect, 0) &&
	       (!no_pwrite || answer_syscall(SYS_pwrite64, EPERM));
}

enum { GOOD, NOT_READY = 10, WORKS, FAILS, CHANGED, NO_CALL, LEFT_OPEN };

static int update_under_filter(const struct situation *s)
{
	pthread_t thread;
	int ret;

	/* The thread's stack is made with mprotect(). */
	if (shunt_set_poke(s->policy) ||
	    (s->threads && pthread_create(&thread, NULL, idle, NULL)) || !answer(s->no_pwrite))
		return NOT_READY;
	for (int i = 0; i < 3; i++) {
		int before = site(), (*to)(void) = before == 1 ? two : one;

		ret = static_call_update(call, to);
		if (!ret != s->works)
			return ret ? FAILS : WORKS;
		if (site() != (ret ? before : to()) ||
		    site() != (static_call_query(call) == one ? 1 : 2))
			return CHANGED;
		if (ret && !strstr(shunt_last_error(), "mprotect") &&
		    !strstr(shunt_last_error(), "pwrite"))
			return NO_CALL;
	}
	return __real_shunt_area_is_writable((uintptr_t)site) ? LEFT_OPEN : GOOD;
}

/* Its status, or 1000 + the signal that has killed it. */
static int run_situation(const struct situation *s)
{
	pid_t pid = fork();

	if (!pid)
		_exit(update_under_filter(s));
	return child_status(pid);
}

int main(void)
{
	shunt_set_log(NULL, NULL);
	for (size_t i = 0; i < sizeof(situations) / sizeof(situations[0]); i++) {
		const struct situation *s = &situations[i];
		int status = run_situation(s);

		ok(status == GOOD, "%s: %d", s->name, status);
		if (s->works)
			continue;
		believes = true;
		status = run_situation(s);
		believes = false;
		ok(status == 1000 + SIGSEGV, "control: %s: %d", s->name, status);
	}
	return tap_done();
}
