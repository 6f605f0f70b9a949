/* SPDX-License-Identifier: MIT */
/*
 * What `shunt trace -- COMMAND` asks for by the environment, and how a session ends that nobody has
 * stopped: in order, when the process exits.
 *
 *	SHUNT_TRACE_FILE      the path: a session starts before the program's constructors
 *	SHUNT_TRACE_FILTER    as in struct shunt_trace_options, and so are
 *	SHUNT_TRACE_NOTRACE
 *	SHUNT_TRACE_MIN_NS
 *	SHUNT_TRACE_RING      bytes
 *	SHUNT_TRACE_AUTO_OFF  ns; 0: none
 *	SHUNT_TRACE_FLIGHT    1: saved to the path on a fatal signal and at the exit
 *	SHUNT_TRACE_SIGNAL    its number: saves, too
 *	SHUNT_TRACE_ENTRIES   1: entries alone
 *	SHUNT_TRACE_PID       the process that says so when it exits and nothing could be traced
 *
 * Not in programs that run with other rights than their user's.
 */
#include "trace/autostart.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "trace/hooks.h"
#include "trace/session.h"

static uint64_t number(const char *name)
{
	const char *text = secure_getenv(name);

	return text ? strtoull(text, NULL, 10) : 0;
}

static void start_by_environment(const char *path)
{
	struct shunt_trace_options options = {.size = sizeof(options), .path = path};
	const char *auto_off = secure_getenv("SHUNT_TRACE_AUTO_OFF");

	options.filter = secure_getenv("SHUNT_TRACE_FILTER");
	options.notrace = secure_getenv("SHUNT_TRACE_NOTRACE");
	options.min_ns = number("SHUNT_TRACE_MIN_NS");
	options.ring_size = number("SHUNT_TRACE_RING");
	options.entry_only = number("SHUNT_TRACE_ENTRIES") != 0;
	if (auto_off)
		options.auto_off_ns = number("SHUNT_TRACE_AUTO_OFF")
					      ? number("SHUNT_TRACE_AUTO_OFF")
					      : UINT64_MAX;
	if (number("SHUNT_TRACE_FLIGHT")) {
		options.mode = SHUNT_TRACE_FLIGHT;
		options.save_on_crash = 1;
		options.save_signal = (int)number("SHUNT_TRACE_SIGNAL");
	}
	trace_is_autostart = true;
	/* The library has said what was wrong; the program runs all the same. */
	if (shunt_trace_start(&options))
		trace_is_autostart = false;
}

__attribute__((constructor)) static void start(void)
{
	const char *path = secure_getenv("SHUNT_TRACE_FILE");

	if (path && *path)
		start_by_environment(path);
}

/* The path, of the process that was asked for, is there by now if anything was recorded. */
static void say_if_nothing(void)
{
	if (number("SHUNT_TRACE_PID") != (uint64_t)getpid() || trace_session.totals.functions ||
	    !access(trace_session.path, F_OK))
		return;
	(void)trace_failed(-ENOENT,
			   "trace: no function of %s can be traced: it was compiled without "
			   "-fpatchable-function-entry, -mfentry, -fxray-instrument or "
			   "-finstrument-functions",
			   trace_session.command_size ? trace_session.command : "this program");
}

/* exit() without a stop. */
__attribute__((destructor)) static void end(void)
{
	if (!atomic_load(&trace_session.is_running))
		return;
	/* Where it fails, the library has said so. */
	if (trace_is_autostart && trace_shape.is_flight && shunt_trace_save(trace_session.path))
		trace_is_autostart = false;
	(void)shunt_trace_stop();
	if (trace_is_autostart)
		say_if_nothing();
}
