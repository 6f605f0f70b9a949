/* SPDX-License-Identifier: MIT */
/*
 * Return stubs alone, under what programs do to their stacks: functions compiled with -mfentry
 * whose returns a tracer in small (hijack.c) has replaced. Exceptions through 20,000 frames,
 * rethrown, with destructors that are traced; backtrace() from a callee, and from within a return;
 * longjmp(); threads that are cancelled or exit; an uncaught exception, at which the frames are
 * still there.
 *
 * Control: the same program with stubs that lack call frame information (the argument): exceptions
 * end it.
 */
#include <csetjmp>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <execinfo.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../api/tap.h"
#include "../common/child.h"
#include "hijack.h"
#include "thrown.h"

#define UNTRACED __attribute__((no_instrument_function, noinline))

namespace
{

/* ------------------------------------------------------------- backtrace */

void *frames[64];
int nr_frames;

KEEP void take_backtrace()
{
	nr_frames = backtrace(frames, 64);
}

void (*volatile in_third)() = take_backtrace;

KEEP __attribute__((aligned(64))) long third()
{
	in_third();
	return sink = 3;
}

KEEP __attribute__((aligned(64))) long second()
{
	return third() + 2;
}

KEEP __attribute__((aligned(64))) long first()
{
	return second() + 1;
}

bool is_in(void *addr, long (*function)())
{
	auto at = reinterpret_cast<uintptr_t>(addr), start = reinterpret_cast<uintptr_t>(function);

	return at > start && at < start + 64;
}

/* The callers in their order, with at most one frame between two of them. */
UNTRACED bool is_true_backtrace(unsigned from)
{
	long (*const callers[])() = {third, second, first};
	int at = -1;

	for (unsigned i = from; i < 3; i++) {
		int found = 0;

		for (int j = 0; j < nr_frames && !found; j++)
			if (is_in(frames[j], callers[i]))
				found = j + 1;
		if (!found || (at >= 0 && (found <= at || found > at + 2)))
			return false;
		at = found;
	}
	return true;
}

UNTRACED void backtrace_in_return()
{
	hijack_on_return = nullptr;
	nr_frames = backtrace(frames, 64);
}

/* ---------------------------------------------------- longjmp and threads */

jmp_buf place;

KEEP void jump_from(long depth)
{
	if (!depth)
		longjmp(place, 7);
	jump_from(depth - 1);
	sink = sink + 1;
}

UNTRACED bool jumps(long depth)
{
	if (setjmp(place) == 7)
		return recurse(depth) == depth;
	jump_from(depth);
	return false;
}

KEEP void *wait_for_cancel(long depth, long *destroyed)
{
	Counter counter{destroyed};

	if (depth)
		return wait_for_cancel(depth - 1, destroyed);
	pause();
	return nullptr;
}

long thread_destroyed;

KEEP void *cancelled_thread(void *)
{
	return wait_for_cancel(100, &thread_destroyed);
}

KEEP void exit_from(long depth, long *destroyed)
{
	Counter counter{destroyed};

	if (!depth)
		pthread_exit(destroyed);
	exit_from(depth - 1, destroyed);
	sink = sink + 1;
}

KEEP void *exiting_thread(void *)
{
	exit_from(100, &thread_destroyed);
	return nullptr;
}

UNTRACED bool thread_ends(void *(*function)(void *), bool cancel, void *with)
{
	pthread_t thread;
	void *result = nullptr;

	thread_destroyed = 0;
	if (pthread_create(&thread, nullptr, function, nullptr) ||
	    (cancel && pthread_cancel(thread)) || pthread_join(thread, &result))
		return false;
	return result == with && (cancel || thread_destroyed == 101);
}

/* ------------------------------------------------- in processes of its own */

/* What std::terminate() finds of an uncaught exception: the thrower's callers. */
[[noreturn]] UNTRACED void on_terminate()
{
	nr_frames = backtrace(frames, 64);
	_exit(is_true_backtrace(0) ? 3 : 4);
}

KEEP void throw_uncaught()
{
	throw Thrown{1};
}

UNTRACED int die_of_exception(void)
{
	std::set_terminate(on_terminate);
	in_third = throw_uncaught;
	first();
	return 5;
}

UNTRACED int throw_deep(void)
{
	return catches<100>(20000) ? 0 : 1;
}

UNTRACED void *end_quietly(void *)
{
	return nullptr;
}

} // namespace

UNTRACED int main(int argc, char **argv)
{
	const rlimit no_core = {0, 0};
	pthread_t thread;

	setrlimit(RLIMIT_CORE, &no_core);
	if (argc > 1 && !strcmp(argv[1], "throw"))
		return throw_deep();
	/* So that the unwinder is loaded, and its functions bound. */
	take_backtrace();
	if (!pthread_create(&thread, nullptr, end_quietly, nullptr))
		pthread_join(thread, nullptr);

	ok(recurse(20000) == 20000 && hijack_counts.returns > 20000 &&
		   hijack_counts.returns == hijack_counts.entries,
	   "20,000 calls return, each by its stub");
	ok(catches<100>(20000), "an exception through 20,000 frames, rethrown by 200 of them");
	ok(catches<100>(0), "and through one");
	ok(first() == 6 && is_true_backtrace(0), "backtrace() shows the callers (%d frames)",
	   nr_frames);
	hijack_on_return = backtrace_in_return;
	ok(first() == 6 && is_true_backtrace(0),
	   "and from within a return those of the function that has returned");
	ok(jumps(1000), "longjmp() over 1,000 frames, and 1,000 calls behind it");
	ok(thread_ends(exiting_thread, false, &thread_destroyed),
	   "pthread_exit() runs destructors");
	ok(thread_ends(cancelled_thread, true, PTHREAD_CANCELED), "pthread_cancel()");
	ok(in_child(die_of_exception) == 3,
	   "uncaught: std::terminate() finds the callers of the thrower");
	if (argc > 1) {
		pid_t pid = fork();

		if (!pid) {
			close(2);
			execl(argv[1], argv[1], "throw", nullptr);
			_exit(99);
		}
		ok(child_status(pid) == 1000 + SIGABRT,
		   "control: stubs without call frame information: std::terminate()");
	}
	return tap_done();
}
