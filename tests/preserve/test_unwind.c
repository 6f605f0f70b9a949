/* SPDX-License-Identifier: MIT */
/*
 * The stack stays one that can be walked, jumped over and unwound: a call that a
 * trap has emulated looks to its target like any other; out of the trap handler
 * one gets through the signal frame to the trapped function; and at each single
 * instruction of trampolines and stubs one finds the caller.
 */
#include <execinfo.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <unwind.h>

#include <shunt/port.h>

#include "phase.h"
#include "tap.h"
#include "unwind_sites.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif

#if defined(__clang__)
#define ALONE __attribute__((noinline))
#else
#define ALONE __attribute__((noipa))
#endif

#define MAX_FRAMES 64

static long target_a(long arg);
static long target_b(long arg);
DEFINE_STATIC_CALL(unwind, target_a);

enum state { A, B, RET0 };

static int update(int state)
{
	return state == RET0 ? static_call_update(unwind, STATIC_CALL_RET0)
			     : static_call_update(unwind, state == A ? target_a : target_b);
}

/* ------------------------------------------------------------------- walking */

/* The functions on the stack, innermost first, by their first instruction. */
struct walk {
	uintptr_t function[MAX_FRAMES];
	unsigned n;
};

static _Unwind_Reason_Code note_frame(struct _Unwind_Context *context, void *arg)
{
	struct walk *walk = arg;

	if (walk->n == MAX_FRAMES)
		return _URC_END_OF_STACK;
	walk->function[walk->n++] = (uintptr_t)_Unwind_GetRegionStart(context);
	return _URC_NO_REASON;
}

static void take_walk(struct walk *walk)
{
	walk->n = 0;
	(void)_Unwind_Backtrace(note_frame, walk);
}

/* At which frame @function is, from frame @from on; MAX_FRAMES: nowhere. */
static unsigned find_frame(const struct walk *walk, unsigned from, const void *function)
{
	for (unsigned i = from; i < walk->n; i++)
		if (walk->function[i] == (uintptr_t)function)
			return i;
	return MAX_FRAMES;
}

/* --------------------------------------------------- the functions on the stack */

typedef long function_fn(long arg);

static struct {
	void (*at_target)(void);
	void *frames[MAX_FRAMES]; /* what backtrace() said at the target */
	int nr_frames;
	struct walk walk; /* what _Unwind_Backtrace() said there */
	long which;
	jmp_buf jump;
} now;

ALONE static long target_a(long arg)
{
	now.which = 1;
	if (now.at_target)
		now.at_target();
	return arg + now.which;
}

ALONE static long target_b(long arg)
{
	now.which = 2;
	if (now.at_target)
		now.at_target();
	return arg + now.which;
}

ALONE static long call_site(long arg)
{
	return 10 * static_call(unwind)(arg);
}

ALONE static long tail_site(long arg)
{
	return static_call(unwind)(arg);
}

/* Calls the trampoline itself, whose address nobody patches. */
static function_fn *volatile trampoline = static_call(unwind);

ALONE static long trampoline_call(long arg)
{
	return 10 * trampoline(arg);
}

/* The frame that all walks have to reach. */
ALONE static long outer(function_fn *fn, long arg)
{
	long ret = fn(arg);

	__asm__ volatile("" : "+r"(ret)); /* no tail call */
	return ret;
}

/* A function with one site; what it makes of its argument and of the target's result. */
static const struct caller {
	const char *name;
	function_fn *function;
	long arg, factor;
	bool stays; /* on the stack while the target runs */
	bool traps;
	bool jumps; /* to where a RET0 key leads, too; C's tail call need not be one */
} callers[] = {
	{"call", call_site, 7, 10, true, true, false},
	{"tail call", tail_site, 7, 1, false, true, false},
	{"call in a frame", unwind_framed, 7, 1, true, true, false},
	{"jmp", unwind_jmp, 7, 1, false, true, true},
	{"jne", unwind_jcc, 7, 1, false, true, true},
	{"je", unwind_jcc_not, 0, 1, false, true, true},
	{"call of the trampoline", trampoline_call, 7, 10, true, false, true},
};

#define CALLERS (sizeof(callers) / sizeof(callers[0]))

/* What a caller returns in a phase of an update from @from to @to. */
static enum state from_state, to_state;

static long expected(const struct caller *c, enum phase phase)
{
	enum state state = phase_is_new(phase) ? to_state : from_state;

	return state == RET0 ? 0 : c->factor * (c->arg + (state == A ? 1 : 2));
}

/* Execute the caller's site once and check what comes back. */
static uint64_t execute(const struct caller *c, enum phase phase)
{
	uint64_t traps = phase_count_traps();
	long ret = outer(c->function, c->arg);

	traps = phase_count_traps() - traps;
	phase_check_traps(phase, traps, c->traps, c->name);
	tap_check(ret == expected(c, phase), "%s, %s: returned %ld", c->name, phase_name(phase),
		  ret);
	return traps;
}

/* All threads that phase.h knows, there and back, for @what. */
static void run_phases(const char *what, void (*on_phase)(enum phase phase),
		       void (*at_target)(void), unsigned long *count)
{
	for (int thread = 0; thread < PHASE_THREADS; thread++) {
		*count = 0;
		tap_check(!update(A), "static_call_update");
		now.at_target = at_target;
		phase_begin((enum phase_thread)thread, on_phase);
		from_state = A;
		to_state = B;
		phase_update(update, B);
		from_state = B;
		to_state = A;
		phase_update(update, A);
		phase_end();
		now.at_target = NULL;
		tap_check(*count, "%s: nothing has trapped", what);
		tap_case("%s, %s: %lu traps", what, phase_thread_name((enum phase_thread)thread),
			 *count);
	}
}

static unsigned long trapped;

/* ------------------------------------------------------------ from the target */

static void walk_at_target(void)
{
	take_walk(&now.walk);
	now.nr_frames = backtrace(now.frames, MAX_FRAMES);
}

static bool has_return_into(const void *function)
{
	for (int i = 0; i < now.nr_frames; i++)
		if (_Unwind_FindEnclosingFunction((char *)now.frames[i] - 1) == function)
			return true;
	return false;
}

static void walk_in(enum phase phase)
{
	for (unsigned i = 0; i < CALLERS; i++) {
		const struct caller *c = &callers[i];
		unsigned at, target;

		memset(&now.walk, 0, sizeof(now.walk));
		trapped += execute(c, phase);
		target = find_frame(&now.walk, 0, now.which == 1 ? target_a : target_b);
		at = find_frame(&now.walk, target, c->function);
		tap_check(target != MAX_FRAMES, "%s, %s: no frame of the target", c->name,
			  phase_name(phase));
		if (c->stays)
			tap_check(at == target + 1, "%s, %s: the caller is at frame %u, not %u",
				  c->name, phase_name(phase), at, target + 1);
		tap_check(find_frame(&now.walk, target, outer) != MAX_FRAMES &&
				  has_return_into(outer),
			  "%s, %s: the walk does not get to the caller's caller", c->name,
			  phase_name(phase));
	}
}

/* ----------------------------------------------------------- from the handler */

enum shunt_trap __real_shunt_trap(struct shunt_regs *regs);
enum shunt_trap __wrap_shunt_trap(struct shunt_regs *regs);

/* What was seen from the last trap, where that is asked for. */
static struct {
	bool wanted;
	struct walk walk;
} handler;

/* libgcc's unwinder has been used before, so it allocates nothing here. */
__attribute__((no_sanitize("address", "undefined", "thread"))) enum shunt_trap
__wrap_shunt_trap(struct shunt_regs *regs)
{
	if (handler.wanted)
		take_walk(&handler.walk);
	return __real_shunt_trap(regs);
}

/* The trapped function itself, even where it has given up its frame for a tail call. */
static void check_handler_walk(const struct caller *c, enum phase phase)
{
	unsigned at = find_frame(&handler.walk, 0, c->function);

	tap_check(at != MAX_FRAMES, "%s, %s: no way from the handler to the trapped function",
		  c->name, phase_name(phase));
	tap_check(at >= 3, "%s: no frames of handler and signal", c->name);
	tap_check(find_frame(&handler.walk, at, outer) == at + 1,
		  "%s, %s: from the trapped function, the walk does not get to its caller", c->name,
		  phase_name(phase));
}

static void walk_handler_in(enum phase phase)
{
	for (unsigned i = 0; i < CALLERS; i++) {
		uint64_t traps;

		memset(&handler.walk, 0, sizeof(handler.walk));
		handler.wanted = true;
		traps = execute(&callers[i], phase);
		handler.wanted = false;
		trapped += traps;
		if (traps)
			check_handler_walk(&callers[i], phase);
	}
}

/* -------------------------------------------------------------- single steps */

/* What is seen at each instruction, by a SIGTRAP handler of the program's own. */
static struct {
	const void *caller;
	bool from_trampoline; /* expect to come through it */
	unsigned long steps, in_trampoline, in_stub, in_target, astray, no_caller;
} steps;

static bool is_within(uintptr_t ip, const void *start, size_t size)
{
	return ip - (uintptr_t)start < size;
}

static bool is_in_detour(uintptr_t ip)
{
	bool tramp = is_within(ip, (const void *)static_call(unwind), 10);
	bool stub = is_within(ip, (const void *)__static_call_return0, 7);

	steps.in_trampoline += tramp;
	steps.in_stub += stub;
	return tramp || stub;
}

static void on_step(int sig, siginfo_t *info, void *context)
{
	uintptr_t ip = (uintptr_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
	struct walk walk;

	(void)sig;
	if (info->si_code != TRAP_TRACE)
		return;
	take_walk(&walk);
	steps.steps++;
	if (find_frame(&walk, 0, outer) == MAX_FRAMES)
		steps.astray++;
	steps.in_target += ip == (uintptr_t)target_a || ip == (uintptr_t)target_b ||
			   find_frame(&walk, 0, now.which == 1 ? target_a : target_b) != MAX_FRAMES;
	if (is_in_detour(ip) && steps.caller && find_frame(&walk, 0, steps.caller) == MAX_FRAMES)
		steps.no_caller++;
}

static function_fn *stepped;

ALONE static long step(long arg)
{
	return unwind_step(stepped, arg);
}

static void step_over(const struct caller *c, enum phase phase)
{
	uint64_t traps = phase_count_traps();
	long ret;

	memset(&steps, 0, sizeof(steps));
	steps.caller = c->stays ? (const void *)c->function : NULL;
	stepped = c->function;
	ret = outer(step, c->arg);
	traps = phase_count_traps() - traps;
	phase_check_traps(phase, traps, c->traps, c->name);
	trapped += traps;
	tap_check(ret == expected(c, phase), "%s stepped, %s: returned %ld", c->name,
		  phase_name(phase), ret);
	tap_check(steps.steps > 4 && !steps.astray && !steps.no_caller,
		  "%s stepped, %s: %lu steps, at %lu no way out, at %lu no caller", c->name,
		  phase_name(phase), steps.steps, steps.astray, steps.no_caller);
	/* The emulated call leaves the trap flag on. */
	if (expected(c, phase))
		tap_check(steps.in_target > 2, "%s stepped, %s: the steps end at the site", c->name,
			  phase_name(phase));
	if (!c->traps)
		tap_check(steps.in_trampoline == 2, "%lu steps in the trampoline",
			  steps.in_trampoline);
	if (!expected(c, phase) && c->jumps)
		tap_check(steps.in_stub >= 2, "%s, %s: %lu steps in the stub", c->name,
			  phase_name(phase), steps.in_stub);
}

static void step_in(enum phase phase)
{
	for (unsigned i = 0; i < CALLERS; i++)
		step_over(&callers[i], phase);
}

static void check_steps(void)
{
	static const enum state round[] = {A, B, RET0, B, A, RET0, A};
	struct sigaction action = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};

#if defined(__SANITIZE_THREAD__) && defined(__clang__)
	tap_skip("single steps", "clang's runtime is stepped through too, and hangs at times");
	return;
#endif
	trapped = 0;
	now.at_target = NULL;
	tap_check(!sigaction(SIGTRAP, &action, NULL), "sigaction");
	/* The next update puts Shunt's handler in front of ours. */
	tap_check(!update(B) && !update(A), "static_call_update");
	phase_begin(PHASE_HERE, step_in);
	for (unsigned i = 1; i < sizeof(round) / sizeof(round[0]); i++) {
		from_state = round[i - 1];
		to_state = round[i];
		phase_update(update, (int)round[i]);
	}
	phase_end();
	tap_case("single steps through sites, trampoline and stubs: %lu traps", trapped);
}

/* ------------------------------------------------------------------- jumping */

static void jump_out(void)
{
	longjmp(now.jump, 1);
}

static void jump_over(const struct caller *c, enum phase phase)
{
	uint64_t traps = phase_count_traps();

	now.which = 0;
	if (!setjmp(now.jump)) {
		(void)outer(c->function, c->arg);
		tap_check(false, "%s, %s: returned from longjmp", c->name, phase_name(phase));
	}
	traps = phase_count_traps() - traps;
	phase_check_traps(phase, traps, c->traps, c->name);
	trapped += traps;
	tap_check(now.which == (expected(c, phase) == c->factor * (c->arg + 1) ? 1 : 2),
		  "%s, %s: target %ld", c->name, phase_name(phase), now.which);
}

static void jump_in(enum phase phase)
{
	for (unsigned i = 0; i < CALLERS; i++)
		jump_over(&callers[i], phase);
}

/* ----------------------------------------------------------------- unwinding */

static int cleanups;

static void clean_up(int *what)
{
	cleanups += *what;
}

static void exit_thread(void)
{
	pthread_exit(&cleanups);
}

/* pthread_exit() unwinds the stack, and runs the cleanups of the frames on its way. */
static void *thread_main(void *arg)
{
	const struct caller *c = arg;
	int one __attribute__((cleanup(clean_up), unused)) = 1;

	(void)outer(c->function, c->arg);
	return NULL;
}

ALONE static long cleaning_site(long arg)
{
	int ten __attribute__((cleanup(clean_up))) = 10;

	return ten * static_call(unwind)(arg);
}

static void unwind_over(const struct caller *c, enum phase phase, int cleanups_expected)
{
	uint64_t traps = phase_count_traps();
	pthread_t thread;
	void *result = NULL;

	cleanups = 0;
	if (!tap_check(!pthread_create(&thread, NULL, thread_main, (void *)c) &&
			       !pthread_join(thread, &result),
		       "pthread_create"))
		return;
	traps = phase_count_traps() - traps;
	phase_check_traps(phase, traps, c->traps, c->name);
	trapped += traps;
	tap_check(result == &cleanups && cleanups == cleanups_expected,
		  "%s, %s: the cleanups that were run are %d", c->name, phase_name(phase),
		  cleanups);
}

static void unwind_in(enum phase phase)
{
	static const struct caller cleaning = {"cleaning", cleaning_site, 7, 10, true, true, false};

	unwind_over(&cleaning, phase, 11);
	for (unsigned i = 0; i < CALLERS; i++)
		unwind_over(&callers[i], phase, 1);
}

int main(void)
{
	/* Let the unwinders load and allocate what they need. */
	walk_at_target();
	run_phases("backtrace at the target", walk_in, walk_at_target, &trapped);
	run_phases("backtrace in the handler", walk_handler_in, NULL, &trapped);
	run_phases("longjmp out of the target", jump_in, jump_out, &trapped);
	run_phases("pthread_exit in the target", unwind_in, exit_thread, &trapped);
	check_steps();
	return tap_done();
}
