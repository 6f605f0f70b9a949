/* SPDX-License-Identifier: MIT */
/*
 * Unwinding from where nobody calls: a thread is stepped, instruction by instruction,
 * through trampolines, veneers and stubs, and at each both unwinders that a program
 * can have, its own and the one that backtrace() loads, have to find the caller.
 *
 * The same in a process of its own whose veneers come from a pool, because the program's
 * own are used up.
 *
 * Controls, where neither must find it: a trampoline without CFI; a pool that is kept from
 * the unwinders (SHUNT_FRAMES=0); and the same program with veneers of its own that lack
 * CFI (area_without_cfi.S; its path is the argument). And for the count of allocations, an
 * unwinder that has been told of a pool but has not been made to look a frame up there.
 */
#include <execinfo.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

#include <shunt/ftrace.h>
#include <shunt/inspect.h>
#include <shunt/static_call.h>

#include "../api/tap.h"
#include "../common/cpu.h"
#include "paths.h"
#ifdef IS_STATIC
#include "arch/process.h"
#endif

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

#if defined(IS_STATIC) && CPU_HAS_TRAPS
KEEP static long iret_call(long arg)
{
	return arg + shunt_iret();
}
#endif

KEEP static long bare_call(long arg)
{
	return bare(arg) | 0x100;
}

/*
 * With an ops: from each instruction between the function's entry and its end, in what the entry
 * calls and in the callback, the unwinder finds the way to who called. Not from the nops
 * themselves, which gcc's table of aarch64 has not.
 */
#define NOPS 5
__attribute__((noinline, patchable_function_entry(NOPS))) long traced(long arg);
__attribute__((noinline, patchable_function_entry(NOPS))) long traced(long arg)
{
	__asm__ volatile("" : "+r"(arg));
	return arg + 1;
}

KEEP static long traced_call(long arg)
{
	return traced(arg) | 0x100;
}

static unsigned long callbacks;

static void on_traced(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
		      struct ftrace_regs *fregs)
{
	(void)ip;
	(void)parent_ip;
	(void)ops;
	(void)fregs;
	callbacks++;
}

static struct {
	bool on;
	unsigned long steps, lost;
} way;

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

#define COUNTS_ALLOCATIONS
#endif

#ifdef IS_STATIC
/* The library's look-up when it has told an unwinder of a pool: there, but for the control. */
static bool no_look_up;
const void *__real__Unwind_Find_FDE(void *ip, void *bases);
const void *__wrap__Unwind_Find_FDE(void *ip, void *bases);
const void *__wrap__Unwind_Find_FDE(void *ip, void *bases)
{
	return no_look_up && !in_handler ? NULL : __real__Unwind_Find_FDE(ip, bases);
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

static void walk_way(uintptr_t ip)
{
	struct walk walk = {.n = 0};
	bool is_found = CPU_HAS_TRAPS ? false : ip - (uintptr_t)traced < 4ul * NOPS;

	(void)_Unwind_Backtrace(note_frame, &walk);
	for (int i = 0; i < walk.n && !is_found; i++)
		is_found = _Unwind_FindEnclosingFunction((void *)(walk.ip[i] - 1)) == caller;
	way.steps++;
	way.lost += !is_found;
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
		{(const void *)__static_call_return0, RETURN0_BYTES, STUB},
		{(const void *)__static_call_nop, NOP_BYTES, STUB},
		{(const void *)path_bare, TRAMPOLINE_BYTES, BARE},
#if defined(IS_STATIC) && CPU_HAS_TRAPS
		{(const void *)shunt_iret, 48, STUB},
#endif
	};
	const void *trampolines[] = {(const void *)ret0_trampoline, (const void *)null_trampoline};

	if (seen.veneer && is_in(ip, (const void *)seen.veneer, VENEER_BYTES))
		return VENEER;
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		if (is_in(ip, parts[i].start, parts[i].size))
			return parts[i].region;
	for (size_t i = 0; i < sizeof(trampolines) / sizeof(trampolines[0]); i++)
		if (is_in(ip, trampolines[i], TRAMPOLINE_BYTES))
			return TRAMPOLINE;
	return path_in_trampoline(ip) ? TRAMPOLINE : REGIONS;
}

static void on_step(int sig, siginfo_t *info, void *context)
{
	uintptr_t ip = context_ip(context);
	enum region region = region_of(ip);
	struct walk walk = {.n = 0};
	void *frames[MAX_FRAMES];

	(void)sig;
	(void)info;
	seen.steps++;
	if (way.on)
		walk_way(ip);
	if (region == REGIONS)
		return;
	seen.in[region]++;
	in_handler = true;
	(void)_Unwind_Backtrace(note_frame, &walk);
	seen.unwound[region] += finds_caller(&walk, ip);
	walk.n = backtrace(frames, MAX_FRAMES);
	for (int i = 0; i < walk.n; i++)
		walk.ip[i] = (uintptr_t)frames[i];
	seen.traced[region] += finds_caller(&walk, ip);
	in_handler = false;
}

static bool pool; /* the program's own veneers have been used up */

static unsigned long veneer_steps(void)
{
	return pool ? POOL_VENEER_STEPS : AREA_VENEER_STEPS;
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
	if (path->far && path_in_area(seen.veneer) == pool)
		ok(false, "%s: a veneer of %s", path->name, pool ? "the program" : "a pool");
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
			check_region(path, VENEER, veneer_steps());
		else if (!strncmp(path->name, "trampoline", 10))
			check_region(path, TRAMPOLINE, TRAMPOLINE_STEPS);
		else
			ok(seen.steps > 4 && !seen.in[TRAMPOLINE] && !seen.in[VENEER],
			   "%s: %lu steps, nothing between", path->name, seen.steps);
	}
}

/*
 * No way is found from @lost instructions; or so many more: of a veneer, where what the entry's
 * stub leads to is far.
 */
static void step_traced(unsigned long lost)
{
	static struct ftrace_ops ops = {.func = on_traced};
	static const struct path path = {"traced", traced_call, false, false};
	bool good = !ftrace_set_filter(&ops, "traced", 0, 1) && !register_ftrace_function(&ops);

	(void)traced(1); /* what is bound lazily is bound */
	way.on = true;
	step(&path);
	way.on = false;
	ok(good && callbacks == 2 && way.steps > 50 && (way.lost == lost || way.lost == 2 * lost) &&
		   !unregister_ftrace_function(&ops),
	   "a traced function: %lu steps, no way to the caller from %lu, which are to be %lu",
	   way.steps, way.lost, lost);
}

#if defined(IS_STATIC) && CPU_HAS_TRAPS
/* How the library serialises its CPU; hidden in a shared one. */
static void step_iret(void)
{
	static const struct path path = {"iret", iret_call, true, false};

	step(&path);
	check_region(&path, STUB, 16);
}
#endif

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
	check_region(&stubs[1], TRAMPOLINE, TRAMPOLINE_STEPS);
	check_region(&stubs[1], STUB, 3);
	step(&stubs[2]);
	check_region(&stubs[2], TRAMPOLINE, TRAMPOLINE_STEPS);
	check_region(&stubs[2], STUB, 2);
}

/* ------------------------------------------------------------------ controls */

static void step_bare(void)
{
	static const struct path path = {"no CFI", bare_call, true, false};

	step(&path);
	ok(seen.in[BARE] == TRAMPOLINE_STEPS && !seen.unwound[BARE] && !seen.traced[BARE],
	   "control: in a trampoline without CFI %lu steps, the caller found from %lu and %lu",
	   seen.in[BARE], seen.unwound[BARE], seen.traced[BARE]);
}

/* In a process of its own: veneers that neither unwinder finds a way out of. */
static void step_lost(void)
{
	for (size_t i = 0; i < nr_paths; i++) {
		if (!paths[i].far)
			continue;
		step(&paths[i]);
		ok(seen.in[VENEER] == veneer_steps() && !seen.unwound[VENEER] &&
			   !seen.traced[VENEER],
		   "%s: %lu steps in the veneer, the caller found from %lu and %lu", paths[i].name,
		   seen.in[VENEER], seen.unwound[VENEER], seen.traced[VENEER]);
	}
}

static void run_children(const char *without_cfi)
{
	int status = path_child(NULL, "pool", "1");

	ok(!status, "veneers of a pool, SHUNT_FRAMES=1: the same (%#x)", (unsigned)status);
	status = path_child(NULL, "traced", "1");
	ok(!status, "a traced function (%#x)", (unsigned)status);
#if !CPU_HAS_TRAPS
	status = path_child(NULL, "traced unknown", "0");
	ok(!status, "control: SHUNT_FRAMES=0: no way out of the entry's stub (%#x)",
	   (unsigned)status);
#endif
	status = path_child(NULL, "pool lost", "0");
	ok(!status, "control: SHUNT_FRAMES=0: no way out of a pool (%#x)", (unsigned)status);
	status = path_child(without_cfi, "lost", NULL);
	ok(!status, "control: no way out of the program's veneers without CFI (%#x)",
	   (unsigned)status);
#if defined(IS_STATIC) && defined(COUNTS_ALLOCATIONS)
	status = path_child(NULL, "pool no-look-up", "1");
	ok(!status, "control: without a look-up, the unwinder allocates in the handler (%#x)",
	   (unsigned)status);
#endif
}

/* What is to be seen in a process of its own. */
static int child(const char *mode)
{
	if (strstr(mode, "lost"))
		step_lost();
	else
		step_paths();
	if (strstr(mode, "no-look-up"))
		ok(allocations, "allocations in the handler: %lu", allocations);
	else
		ok(!allocations, "allocations in the handler: %lu", allocations);
	return tap_failed;
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};
	const char *mode = argc > 1 && argv[1][0] != '/' ? argv[1] : "";
	void *frames[MAX_FRAMES];

#ifdef SUITE_TSAN
	skip("single steps", "with its calls of the runtime, no function has a tail call");
	return tap_done();
#endif
	/* What this loads is not to be loaded in a handler. */
	(void)backtrace(frames, MAX_FRAMES);
	if (!strncmp(mode, "traced", 6)) {
		(void)sigaction(SIGTRAP, &action, NULL);
		step_traced(strstr(mode, "unknown") && !CPU_HAS_TRAPS ? 3 : 0);
		return tap_failed;
	}
	pool = strstr(mode, "pool");
#ifdef IS_STATIC
	no_look_up = strstr(mode, "no-look-up");
#endif
	ok(!sigaction(SIGTRAP, &action, NULL) && (!pool || paths_fill_area()) && !paths_update(1) &&
		   !paths_update(0),
	   "keys have far targets");
	if (*mode)
		return child(mode);
	step_paths();
	step_stubs();
#if defined(IS_STATIC) && CPU_HAS_TRAPS
	step_iret();
#endif
	step_bare();
	ok(!allocations, "the unwinders allocated nothing in the handler (%lu)", allocations);
	run_children(argv[1]);
	return tap_done();
}
