/* SPDX-License-Identifier: MIT */
/*
 * A profiler in a program with far calls: a signal handler walks the stack of a thread
 * that is throwing an exception, at each instruction of that. It does so with the
 * program's own veneers, of which no unwinder needs to be told. Before gcc 13, libgcc
 * waits for itself there once it has been told of a pool of them, so by default it is not.
 *
 * Control: with such a libgcc, a pool and SHUNT_FRAMES=1 hang.
 */
#include <csignal>
#include <cstring>
#include <dlfcn.h>
#include <execinfo.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../api/tap.h"
#include "../common/cpu.h"
#include "paths.h"

namespace
{

enum {
	STEPS = CPU_HAS_TRAPS ? 4000 : 1000
}; /* into the throw, past the first look-ups of frames */

volatile unsigned long steps, walks;

/* The trap flag in the context: whether there is a next step. */
void on_step(int, siginfo_t *, void *context)
{
	void *frames[32];

	walks = walks + (backtrace(frames, 32) > 2);
	steps = steps + 1;
	if (steps == STEPS)
		path_step_stop(context);
}

long same(long arg)
{
	return arg;
}

long throw_it(long arg)
{
	throw arg;
}

/* In a process of its own: 0 where it gets to the end, SIGALRM where it does not. */
int throw_stepped(bool pool)
{
	struct sigaction action = {};
	void *frames[8];

	action.sa_sigaction = on_step;
	action.sa_flags = SA_SIGINFO;
	path_hook = same;
	if (backtrace(frames, 8) < 1 || sigaction(SIGTRAP, &action, nullptr) ||
	    (pool && !paths_fill_area()) || paths_update(1) || paths_update(0))
		return 1;
	alarm(CPU_HAS_TRAPS ? 5 : 60);
	try {
		throw_it(1); /* so that symbols are bound when it counts */
	} catch (long) {
	}
	try {
		path_step(throw_it, 1);
	} catch (long thrown) {
		return thrown == 1 && steps == STEPS && walks > STEPS / 2 ? 0 : 2;
	}
	return 3;
}

bool is_before_gcc_13()
{
	void *libgcc = dlopen("libgcc_s.so.1", RTLD_LAZY);

	return libgcc && !dlvsym(libgcc, "__truncsfbf2", "GCC_13.0.0");
}

} // namespace

int main(int argc, char **argv)
{
	int status;

#if defined(SUITE_TSAN) || defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
	skip("a profiler", "the runtime is stepped through too");
	return tap_done();
#endif
	if (argc > 1)
		return throw_stepped(!strcmp(argv[1], "pool"));
	status = path_child(nullptr, "area", nullptr);
	ok(!status, "%d backtraces in a handler, one at each step of a throw (%#x)", STEPS, status);
	status = path_child(nullptr, "area", "1");
	ok(!status, "SHUNT_FRAMES=1: the same, because there is no pool (%#x)", status);
	status = path_child(nullptr, "pool", nullptr);
	ok(!status, "a pool: the same (%#x)", status);
	status = path_child(nullptr, "pool", "0");
	ok(!status, "a pool, SHUNT_FRAMES=0: the same (%#x)", status);
	status = path_child(nullptr, "pool", "1");
	if (is_before_gcc_13())
		ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM,
		   "control: a pool, SHUNT_FRAMES=1, libgcc before 13: hangs (%#x)", status);
	else
		ok(!status, "a pool, SHUNT_FRAMES=1, libgcc 13 or later: the same (%#x)", status);
	return tap_done();
}
