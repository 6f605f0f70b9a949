/* SPDX-License-Identifier: MIT */
/* The paths (paths.h). */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>

#include "../api/tap.h"
#include "paths.h"
#include "veneers.h"

long far_a(long arg);
long far_b(long arg);
void *far_room(unsigned i);

static long identity(long arg)
{
	return arg;
}
path_fn *volatile path_hook = identity;

KEEP static long near_a(long arg)
{
	return path_hook(arg) + 1;
}

KEEP static long near_b(long arg)
{
	return path_hook(arg + 1);
}

DEFINE_STATIC_CALL(path_near, near_a);
DEFINE_STATIC_CALL(path_far, near_a);

KEEP static long call(long arg)
{
	return static_call(path_near)(arg) | 0x100;
}

KEEP static long tail(long arg)
{
	return static_call(path_near)(arg);
}

KEEP static long far_call(long arg)
{
	return static_call(path_far)(arg) | 0x100;
}

KEEP static long far_tail(long arg)
{
	return static_call(path_far)(arg);
}

/* Calls of the trampolines themselves, whose addresses nobody patches. */
static path_fn *volatile near_trampoline = static_call(path_near);
static path_fn *volatile far_trampoline = static_call(path_far);

KEEP static long trampoline(long arg)
{
	return near_trampoline(arg) | 0x100;
}

KEEP static long trampoline_tail(long arg)
{
	return near_trampoline(arg);
}

KEEP static long trampoline_far(long arg)
{
	return far_trampoline(arg) | 0x100;
}

const struct path paths[] = {
	{"inline", call, true, false},
	{"tail", tail, false, false},
	{"veneer", far_call, true, true},
	{"veneer, tail", far_tail, false, true},
	{"trampoline", trampoline, true, false},
	{"trampoline, tail", trampoline_tail, false, false},
	{"trampoline, far", trampoline_far, true, false},
};
const size_t nr_paths = sizeof(paths) / sizeof(paths[0]);

int paths_update(unsigned round)
{
	int ret = static_call_update(path_near, round % 2 ? near_b : near_a);

	return ret ? ret : static_call_update(path_far, round % 2 ? far_b : far_a);
}

bool path_in_trampoline(uintptr_t ip)
{
	return ip - (uintptr_t)near_trampoline < TRAMPOLINE_BYTES ||
	       ip - (uintptr_t)far_trampoline < TRAMPOLINE_BYTES;
}

bool path_veneer(const struct path *path, uintptr_t *veneer)
{
	*veneer = veneer_of("path_far", path->function);
	return *veneer;
}

bool path_in_area(uintptr_t addr)
{
	return veneer_is_of(&__shunt_module, addr);
}

bool paths_fill_area(void)
{
	size_t n = (size_t)(__shunt_module.veneers_end - __shunt_module.veneers) /
		   AREA_VENEER_BYTES,
	       used = 0;

	for (unsigned i = 0; i < n; i++)
		if (static_call_update(path_far, far_room(i)))
			return false;
	for (size_t i = 0; i < n; i++)
		used += *veneer_word(&__shunt_module, i) != NULL;
	return n && used == n && !static_call_update(path_far, near_a);
}

#ifdef __x86_64__
void path_step_stop(void *context)
{
	((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~0x100L;
}
#endif

int path_child(const char *program, const char *mode, const char *frames)
{
	int status = 0;
	pid_t pid = fork();

	if (!pid) {
		if (frames)
			(void)setenv("SHUNT_FRAMES", frames, 1);
		else
			(void)unsetenv("SHUNT_FRAMES");
		(void)dup2(STDERR_FILENO, STDOUT_FILENO);
		(void)execl(program ? program : "/proc/self/exe", "child", mode, (char *)NULL);
		_exit(127);
	}
	(void)waitpid(pid, &status, 0);
	return status;
}
