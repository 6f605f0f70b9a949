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
 *	SHUNT_TRACE_PID       the process that must not run where its session is refused
 *	SHUNT_TRACE_SINCE     ns of CLOCK_REALTIME: when the command began
 *	SHUNT_TRACE_TELL      whom to tell what becomes of it (tell.h)
 *
 * Not in programs that run with other rights than their user's.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <shunt/inspect.h>

#include "linux/base/base.h"
#include "trace/finish.h"
#include "trace/handed.h"
#include "trace/ring.h"
#include "trace/state.h"
#include "trace/tell.h"

static void end_quickly(void)
{
	trace_finish(true);
}

static uint64_t number(const char *name)
{
	const char *text = secure_getenv(name);

	return text ? strtoull(text, NULL, 10) : 0;
}

struct count {
	uint64_t good, bad; /* entries: that can be used, that cannot */
	char first[120];    /* of these, and why */
};

static int count_function(const struct shunt_function_info *info, void *arg)
{
	struct count *c = arg;

	c->good += info->entry && !info->why;
	if (info->entry && info->why && !c->bad++)
		(void)snprintf(c->first, sizeof(c->first), "%.40s: %s",
			       info->name ? info->name : "without a name", info->why);
	return 0;
}

static void tell_unusable(const struct count *c)
{
	char text[200];

	if (!c->bad)
		return;
	(void)snprintf(text, sizeof(text), "%llu entr%s cannot be used (%s)",
		       (unsigned long long)c->bad, c->bad == 1 ? "y" : "ies", c->first);
	trace_tell(TRACE_WORD_UNUSABLE, 0, c->bad, text);
}

static void tell_nothing(const struct count *c)
{
	trace_tell(TRACE_WORD_NOTHING, 0, c->good, NULL);
	if (!c->good)
		tell_unusable(c);
}

/*
 * A launcher that has no traceable function goes on, for the sake of what it runs; the command
 * itself does not where it was to be traced otherwise than it can be.
 */
static void tell_of_start(const struct shunt_trace_options *options, int err)
{
	bool is_filtered = options->filter || options->notrace;
	uint64_t functions = trace_session.totals.functions, all;
	struct count c = {.good = functions};

	if (!functions && (!err || err == -EINVAL))
		(void)shunt_for_each_function(count_function, &c);
	all = c.good;
	if (!err && (functions || !all || !is_filtered)) {
		if (functions)
			trace_tell(TRACE_WORD_STARTED, 0, all, NULL);
		else
			tell_nothing(&c);
		return;
	}
	if (!err)
		(void)shunt_trace_stop();
	trace_is_autostart = false;
	if (err == -EINVAL && !all && is_filtered) {
		tell_nothing(&c);
		return;
	}
	trace_tell(TRACE_WORD_REFUSED, err, all,
		   err ? shunt_last_error() : "the filters leave no function to trace");
	if (number("SHUNT_TRACE_PID") == (uint64_t)getpid() && trace_has_listener())
		_exit(EXIT_FAILURE);
}

/* Of entries that others had changed before: they are found, but none of them is taken. */
static void tell_why_no_call(void)
{
	const struct trace_totals *totals = &trace_session.totals;
	struct count c = {.good = 0};

	if (!trace_is_autostart || !trace_has_listener() || !totals->functions || totals->events ||
	    totals->lost || atomic_load(&trace_lost_without_ring))
		return;
	if (!shunt_for_each_function(count_function, &c))
		tell_unusable(&c);
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
	trace_session.since = number("SHUNT_TRACE_SINCE");
	/* What fails is told to `shunt trace`, not to the command's standard error. */
	shunt_log_hold(trace_has_listener());
	tell_of_start(&options, shunt_trace_start(&options));
	shunt_log_hold(false);
}

__attribute__((constructor)) static void start(void)
{
	const char *path = secure_getenv("SHUNT_TRACE_FILE");

	if (!path || !*path)
		return;
	trace_handed_keep();
	trace_tell_to(secure_getenv("SHUNT_TRACE_TELL"));
	start_by_environment(path);
	(void)at_quick_exit(end_quickly);
}

/* exit() without a stop. */
__attribute__((destructor)) static void end(void)
{
	int err;

	trace_tell_rest();
	if (!atomic_load(&trace_session.is_running))
		return;
	/* What is saved to a descriptor says itself that a save has failed. */
	shunt_log_hold((trace_is_autostart && trace_has_listener()) || trace_session.held.fd >= 0);
	if (trace_shape.is_flight && (trace_is_autostart || trace_session.held.fd >= 0)) {
		trace_look_again();
		trace_finish(true);
	}
	err = shunt_trace_stop();
	/* An entry that is not the engine's any more, say. */
	if (err && atomic_load(&trace_session.is_running) && trace_is_autostart)
		trace_tell(TRACE_WORD_REFUSED, err, 0, shunt_last_error());
	if (!err && !trace_shape.is_flight)
		tell_why_no_call();
	shunt_log_hold(false);
}
