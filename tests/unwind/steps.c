/* SPDX-License-Identifier: MIT */
/*
 * Unwinding from where nobody calls: a thread is stepped, instruction by instruction,
 * through trampolines, veneers and stubs, and at each both unwinders that a program
 * can have, its own and the one that backtrace() loads, have to find the caller.
 *
 * Controls: a trampoline without CFI, and veneers that are kept from the unwinders
 * (SHUNT_FRAMES=0), where neither must find it.
 */
#include <execinfo.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>

#include "../api/tap.h"
#include "paths.h"

#define MAX_FRAMES 64

long path_bare(long arg);

void void_fn(long arg); /* for its type alone */

DEFINE_STATIC_CALL_RET0(steps_ret0, path_bare);
DEFINE_STATIC_CALL_NULL(steps_null, void_fn);

/* By the trampolines, because a site needs no stub, unless it is a tail call. */
static path_fn *volatile ret0_trampoline = static_call(steps_ret0);
static void (*volatile null_trampoline)(long) = static_call(steps_null);
static path_fn *volatile bare = path_bare;

KEEP static long ret0_tail(long arg)
{
	return static_call(steps_ret0)(arg);
}

KEEP static long ret0_call(long arg)
{
	return ret0_trampoline(arg) | 0x100;
}

KEEP static long null_call(long arg)
{
	null_trampoline(arg);
	return arg + 1;
}

KEEP static long bare_call(long arg)
{
	return bare(arg) | 0x100;
}

/* ---------------------------------------------------------------- allocations */

/* Calls of malloc() in the handler, where no unwinder must need any. */
static volatile bool in_handler;
static unsigned long allocations;

#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer) || defined(SUITE_TSAN)
/* It has a malloc() of its own. */
#else
extern void *__libc_malloc(size_t size);

void *malloc(size_t size)
{
	allocations += in_handler;
	return __libc_malloc(size);
}
#endif

/* ------------------------------------------------------------------- walking */

struct walk {
	uintptr_t ip[MAX_FRAMES];
	int n;
};

static _Unwind_Reason_Code note_frame(struct _Unwind_Context *context, void *arg)
{
	struct walk *walk = arg;

	if (walk->n == MAX_FRAMES)
		return _URC_END_OF_STACK;
	walk->ip[walk->n++] = (uintptr_t)_Unwind_GetIP(context);
	return _URC_NO_REASON;
}

static const void *caller; /* the function that has to be the next frame */

/* Whether the frame behind the interrupted one, at @ip, is the caller. */
static bool finds_caller(const struct walk *walk, uintptr_t ip)
{
	for (int i = 0; i + 1 < walk->n; i++)
		if (walk->ip[i] == ip)
			return _Unwind_FindEnclosingFunction((void *)(walk->ip[i + 1] - 1)) ==
			       caller;
	return false;
}

/* ------------------------------------------------------------------ stepping */

enum region { TRAMPOLINE, VENEER, STUB, BARE, REGIONS };

static struct {
	unsigned long steps;
	unsigned long in[REGIONS], unwound[REGIONS], traced[REGIONS];
	uintptr_t veneer; /* 0: none on this path */
} seen;

static bool is_in(uintptr_t ip, const void *start, size_t size)
{
	return ip - (uintptr_t)start < size;
}

static enum region region_of(uintptr_t ip)
{
	static const struct {
		const void *start;
		size_t size;
		enum region region;
	} parts[] = {
		{(const void *)__static_call_return0, 7, STUB},
		{(const void *)__static_call_nop, 5, STUB},
		{(const void *)path_bare, 10, BARE},
	};
	const void *trampolines[] = {(const void *)ret0_trampoline, (const void *)null_trampoline};

	if (seen.veneer && is_in(ip, (const void *)seen.veneer, 6))
		return VENEER;
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		if (is_in(ip, parts[i].start, parts[i].size))
			return parts[i].region;
	for (size_t i = 0; i < sizeof(trampolines) / sizeof(trampolines[0]); i++)
		if (is_in(ip, trampolines[i], 10))
			return TRAMPOLINE;
	return path_in_trampoline(ip) ? TRAMPOLINE : REGIONS;
}

static void on_step(int sig, siginfo_t *info, void *context)
{
	uintptr_t ip = (uintptr_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
	enum region region = region_of(ip);
	struct walk walk = {.n = 0};
	void *frames[MAX_FRAMES];

	(void)sig;
	(void)info;
	seen.steps++;
	if (region == REGIONS)
		return;
	seen.in[region]++;
	in_handler = true;
	(void)_Unwind_Backtrace(note_frame, &walk);
	seen.unwound[region] += finds_caller(&walk, ip);
	walk.n = backtrace(frames, MAX_FRAMES);
	in_handler = false;
	for (int i = 0; i < walk.n; i++)
		walk.ip[i] = (uintptr_t)frames[i];
	seen.traced[region] += finds_caller(&walk, ip);
}

KEEP static long outer(path_fn *fn, long arg)
{
	long ret = path_step(fn, arg);

	__asm__ volatile("" : "+r"(ret)); /* no tail call */
	return ret;
}

static void step(const struct path *path)
{
	memset(&seen, 0, sizeof(seen));
	/* Where its own frame does not stay, it is its caller's. */
	caller = path->stays ? (const void *)path->function : (const void *)path_step;
	if (path->far && !path_veneer(path, &seen.veneer))
		ok(false, "%s: the call is not far", path->name);
	(void)outer(path->function, 7);
}

/* Both unwinders found the caller at each of the instructions, which are @n. */
static void check_region(const struct path *path, enum region region, unsigned long n)
{
	static const char *const names[] = {"trampoline", "veneer", "stub", "bare"};

	ok(seen.in[region] == n && seen.unwound[region] == n && seen.traced[region] == n,
	   "%s: %lu steps, of them in the %s %lu; the caller was found by _Unwind_Backtrace() "
	   "from %lu, by backtrace() from %lu",
	   path->name, seen.steps, names[region], seen.in[region], seen.unwound[region],
	   seen.traced[region]);
}

static void step_paths(void)
{
	for (size_t i = 0; i < nr_paths; i++) {
		const struct path *path = &paths[i];

		step(path);
		if (path->far)
			check_region(path, VENEER, 1);
		else if (!strncmp(path->name, "trampoline", 10))
			check_region(path, TRAMPOLINE, 2);
		else
			ok(seen.steps > 4 && !seen.in[TRAMPOLINE] && !seen.in[VENEER],
			   "%s: %lu steps, nothing between", path->name, seen.steps);
	}
}

static void step_stubs(void)
{
	static const struct path stubs[] = {
		{"return 0, tail", ret0_tail, false, false},
		{"return 0, trampoline", ret0_call, true, false},
		{"NULL, trampoline", null_call, true, false},
	};

	step(&stubs[0]);
	check_region(&stubs[0], STUB, 3);
	step(&stubs[1]);
	check_region(&stubs[1], TRAMPOLINE, 2);
	check_region(&stubs[1], STUB, 3);
	step(&stubs[2]);
	check_region(&stubs[2], TRAMPOLINE, 2);
	check_region(&stubs[2], STUB, 2);
}

/* ------------------------------------------------------------------ controls */

static void step_bare(void)
{
	static const struct path path = {"no CFI", bare_call, true, false};

	step(&path);
	ok(seen.in[BARE] == 2 && !seen.unwound[BARE] && !seen.traced[BARE],
	   "control: in a trampoline without CFI %lu steps, the caller found from %lu and %lu",
	   seen.in[BARE], seen.unwound[BARE], seen.traced[BARE]);
}

/* In a process of its own, whose veneers are kept from the unwinders. */
static int without_frames(void)
{
	for (size_t i = 0; i < nr_paths; i++) {
		if (!paths[i].far)
			continue;
		step(&paths[i]);
		ok(seen.in[VENEER] == 1 && !seen.unwound[VENEER] && !seen.traced[VENEER],
		   "control: SHUNT_FRAMES=0, %s: %lu steps in the veneer, the caller found from "
		   "%lu and %lu",
		   paths[i].name, seen.in[VENEER], seen.unwound[VENEER], seen.traced[VENEER]);
	}
	return tap_failed;
}

static void run_control(void)
{
	int status = 0;
	pid_t pid = fork();

	if (!pid) {
		(void)setenv("SHUNT_FRAMES", "0", 1);
		(void)dup2(STDERR_FILENO, STDOUT_FILENO); /* its lines are no part of ours */
		(void)execl("/proc/self/exe", "steps", "without-frames", (char *)NULL);
		_exit(127);
	}
	(void)waitpid(pid, &status, 0);
	ok(status == 0, "control: SHUNT_FRAMES=0: no way out of a veneer (%d)", status);
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};
	void *frames[MAX_FRAMES];

	(void)argv;
#ifdef SUITE_TSAN
	skip("single steps", "with its calls of the runtime, no function has a tail call");
	return tap_done();
#endif
	/* What this loads is not to be loaded in a handler. */
	(void)backtrace(frames, MAX_FRAMES);
	ok(!sigaction(SIGTRAP, &action, NULL) && !paths_update(1) && !paths_update(0),
	   "keys have far targets");
	if (argc > 1)
		return without_frames();
	step_paths();
	step_stubs();
	step_bare();
	ok(!allocations, "the unwinders allocated nothing in the handler (%lu)", allocations);
	run_control();
	return tap_done();
}
