/* SPDX-License-Identifier: MIT */
/* The paths (paths.h). */
#include <string.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>

#include "../api/tap.h"
#include "paths.h"

long far_a(long arg);
long far_b(long arg);

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
	return ip - (uintptr_t)near_trampoline < 10 || ip - (uintptr_t)far_trampoline < 10;
}

struct look {
	const struct path *path;
	uintptr_t veneer;
};

/* The function has one site, and no other lies between its start and that. */
static int look_at(const struct shunt_site_info *info, void *arg)
{
	struct look *look = arg;
	size_t offset = (size_t)((uintptr_t)info->addr - (uintptr_t)look->path->function);
	int32_t displacement;

	if (info->state != SHUNT_SITE_FAR || offset > 24)
		return 0;
	memcpy(&displacement, (const char *)info->addr + 1, sizeof(displacement));
	look->veneer = (uintptr_t)info->addr + 5 + (uintptr_t)(intptr_t)displacement;
	return 1;
}

bool path_veneer(const struct path *path, uintptr_t *veneer)
{
	struct look look = {path, 0};

	(void)shunt_for_each_site("path_far", look_at, &look);
	*veneer = look.veneer;
	return look.veneer;
}
