/* SPDX-License-Identifier: MIT */
/*
 * Signals in the middle of shunt_trace_start(), _stop() and _save(), at each call of the engine
 * that these make, and at each part of the file: what their handlers call while there are hooks is
 * recorded.
 *
 * *Control:* SHUNT_CONTROL=open (by the linker's --wrap): handlers are not held meanwhile.
 */
#include <pthread.h>
#include <signal.h>

#include <shunt/trace.h>

#include "../api/tap.h"
#include "fake_engine.h"
#include "trace/state.h"
#include "trace_reader.h"

static struct trace_read r;
static char path[64], other_path[80];

uint64_t __real_trace_hold_handlers(void);
uint64_t __wrap_trace_hold_handlers(void);
uint64_t __wrap_trace_hold_handlers(void)
{
	uint64_t mask = __real_trace_hold_handlers();

	if (getenv("SHUNT_CONTROL"))
		trace_let_go_handlers(mask);
	return mask;
}

static unsigned raised;
static volatile unsigned traced; /* calls that have been made while there were hooks */

static void handler(int sig)
{
	(void)sig;
	traced += fake.raw != NULL;
	fake_call(1, (uintptr_t)__builtin_frame_address(0) - 64);
}

static void interrupt(void)
{
	raised++;
	raise(SIGUSR1);
}

static int start(enum shunt_trace_mode mode)
{
	return shunt_trace_start(&(struct shunt_trace_options){
		.size = sizeof(struct shunt_trace_options),
		.path = path,
		.mode = mode,
		.auto_off_ns = UINT64_MAX,
	});
}

static bool is_in_file(const char *name)
{
	bool good = read_trace(&r, name) && r.events + r.lost == 2ul * traced;

	if (!good)
		diag("%s: %llu events, %llu lost, of %u calls; %u signals",
		     r.wrong ? r.wrong : "well-formed", (unsigned long long)r.events,
		     (unsigned long long)r.lost, traced, raised);
	return good;
}

/* The mask of the caller is as it was. */
static bool mask_is(const sigset_t *before)
{
	sigset_t now;

	(void)pthread_sigmask(SIG_SETMASK, NULL, &now);
	for (int sig = 1; sig < 32; sig++)
		if (sigismember(&now, sig) != sigismember(before, sig) ||
		    (atomic_load(&trace_session.is_running) &&
		     sigismember(&trace_session.mask, sig) != sigismember(before, sig)))
			return false;
	return true;
}

static void test(enum shunt_trace_mode mode)
{
	const char *name = mode == SHUNT_TRACE_ALL ? "all" : "flight recorder";
	sigset_t before;
	bool good;

	(void)pthread_sigmask(SIG_SETMASK, NULL, &before);
	raised = traced = 0;
	fake.in_middle = interrupt;
	good = !start(mode) && mask_is(&before) && raised && traced;
	ok(good, "%s: start: %u signals, %u calls", name, raised, traced);
	if (mode == SHUNT_TRACE_FLIGHT) {
		good = !shunt_trace_save(other_path) && mask_is(&before);
		ok(good && is_in_file(other_path), "%s: a save has what was called", name);
		good = !shunt_trace_save(other_path);
		ok(good && is_in_file(other_path), "%s: and in the middle of one", name);
	}
	good = !shunt_trace_stop() && mask_is(&before);
	fake.in_middle = NULL;
	ok(good && is_in_file(mode == SHUNT_TRACE_ALL ? path : other_path),
	   "%s: stop: %u signals, %u calls, all recorded", name, raised, traced);
}

int main(void)
{
	snprintf(path, sizeof(path), "/tmp/shunt-handlers.%d", (int)getpid());
	snprintf(other_path, sizeof(other_path), "%s.saved", path);
	(void)signal(SIGUSR1, handler);
	test(SHUNT_TRACE_ALL);
	test(SHUNT_TRACE_FLIGHT);
	(void)unlink(path);
	(void)unlink(other_path);
	return tap_done();
}
