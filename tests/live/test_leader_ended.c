/* SPDX-License-Identifier: MIT */
/*
 * main() has ended by pthread_exit(), and with it what /proc/self/mem and /proc/self/maps are of;
 * the program goes on in other threads, and has closed all descriptors. Updates work, by each
 * policy, with the kernel's answer of what is mapped and (Linux before 6.11) without it; also when
 * the thread that has opened these files has ended as well.
 *
 * Control: that the first thread has ended is not seen; then they fail, or what is mapped is found
 * by trial alone, because nothing lists it.
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/port.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "../common/branch_site.h"
#include "../common/call_site.h"
#include "../common/child.h"
#include "../common/filter.h"
#include "../common/idle_thread.h"
#include "linux/base/first_thread.h"
#include "linux/text/area.h"

#include "../api/tap.h"

/* -------------------------------------------------------------------- control */

bool __real_shunt_first_thread_has_ended(void);
bool __wrap_shunt_first_thread_has_ended(void);

static bool is_control;

bool __wrap_shunt_first_thread_has_ended(void)
{
	return !is_control && __real_shunt_first_thread_has_ended();
}

/* ----------------------------------------------------------------- the program */

enum { GOOD, NOT_READY = 10, FAILS, CHANGED, NOT_LISTED };

static struct program {
	const char *name;
	enum shunt_poke_policy policy;
	bool no_question; /* PROCMAP_QUERY is refused */
} programs[] = {
	{"auto", SHUNT_POKE_AUTO, false},
	{"int3", SHUNT_POKE_INT3, false},
	{"remap", SHUNT_POKE_REMAP, false},
	{"atomic", SHUNT_POKE_ATOMIC, false},
	{"auto, maps are read", SHUNT_POKE_AUTO, true},
	{"int3, maps are read", SHUNT_POKE_INT3, true},
};

static pthread_t leader;

static bool is_listed(void)
{
	struct shunt_area area = {.is_listed = false};

	if (shunt_port_lock())
		return false;
	(void)shunt_area_find((uintptr_t)&site, &area);
	shunt_port_unlock();
	return area.is_listed;
}

static void *update(void *arg)
{
	int *status = arg;

	for (int i = 0; i < 3 && *status == GOOD; i++) {
		int before = site(), was_on = branch();

		if (static_call_update(call, before == 1 ? two : one) ||
		    (was_on ? static_branch_disable(&key) : static_branch_enable(&key)))
			*status = FAILS;
		else if (site() != 3 - before || branch() == was_on)
			*status = CHANGED;
	}
	if (*status == GOOD && !is_listed())
		*status = NOT_LISTED;
	return NULL;
}

static void *go_on(void *arg)
{
	const struct program *p = arg;
	int status = GOOD;
	pthread_t thread;

	if (pthread_join(leader, NULL) || close_range(3, ~0u, 0) ||
	    (p->no_question && !answer_syscall(SYS_ioctl, ENOTTY)))
		_exit(NOT_READY);
	for (int i = 0; i < 2; i++) /* each a thread of its own, and then this one */
		if (pthread_create(&thread, NULL, update, &status) || pthread_join(thread, NULL))
			_exit(NOT_READY);
	(void)update(&status);
	_exit(status);
}

static int run(struct program *p)
{
	pthread_t thread;
	pid_t pid = fork();

	if (pid)
		return child_status(pid);
	leader = pthread_self();
	if (shunt_set_poke(p->policy) || pthread_create(&thread, NULL, idle, NULL) ||
	    pthread_create(&thread, NULL, go_on, p))
		_exit(NOT_READY);
	pthread_exit(NULL);
}

int main(void)
{
	shunt_set_log(NULL, NULL);
	for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++) {
		int status = run(&programs[i]);

		ok(status == GOOD, "%s: %d", programs[i].name, status);
		is_control = true;
		status = run(&programs[i]);
		is_control = false;
		ok(status == FAILS || status == NOT_LISTED, "control: %s: %d", programs[i].name,
		   status);
	}
	return tap_done();
}
