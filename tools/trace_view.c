/* SPDX-License-Identifier: MIT */
#include "trace_view.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "shunt.h"

const char *trace_show_ns(uint64_t ns, char *buf)
{
	static const struct unit {
		const char *name;
		uint64_t ns;
	} units[] = {{"ns", 1},          {"us", 1000},        {"ms", 1000000},
		     {"s ", 1000000000}, {"m ", 60000000000}, {"h ", 3600000000000}};
	const struct unit *unit = units;

	/* Up to 999 of a unit; of minutes up to 59. */
	while (unit < units + 5 && ns >= unit[1].ns)
		unit++;
	if (unit->ns == 1)
		(void)snprintf(buf, 31, "%7llu ns", (unsigned long long)ns);
	else
		(void)snprintf(buf, 31, "%3llu.%03u %s", (unsigned long long)(ns / unit->ns),
			       (unsigned)((unsigned __int128)(ns % unit->ns) * 1000 / unit->ns) %
				       1000,
			       unit->name);
	return buf;
}

const char *trace_show_bound(uint64_t ns, bool is_open, char *buf)
{
	buf[0] = ' ';
	(void)trace_show_ns(ns, buf + 1);
	if (is_open)
		buf[strspn(buf, " ") - 1] = '>';
	return buf;
}

const char *trace_show_date(const struct trace_file *f, char *buf, size_t size)
{
	time_t seconds = (time_t)(f->session.start_realtime_ns / 1000000000);
	struct tm tm;

	if (!seconds || !localtime_r(&seconds, &tm) ||
	    !strftime(buf, size, "%Y-%m-%d %H:%M:%S %z", &tm))
		*buf = '\0';
	return buf;
}

const char *trace_parentheses(const char *name)
{
	return strchr(name, '(') ? "" : "()";
}

#define OPEN                                                                                \
	"%" PRIu64 " call%s had not returned when the session, or the thread, ended: what " \
	"they took until then"

void trace_note_open(const struct trace_file *f, const char *where)
{
	if (f->open_calls)
		(void)printf("> " OPEN " is in %s\n", f->open_calls, tool_plural(f->open_calls),
			     where);
}

void trace_say_open(const struct trace_file *f)
{
	if (f->open_calls)
		tool_complain("%s: " OPEN " counts", f->path, f->open_calls,
			      tool_plural(f->open_calls));
}

uint64_t trace_without_return(const struct trace_file *f)
{
	uint64_t n = 0;

	for (size_t i = 0; i < f->threads.n; i++)
		n += trace_thread_at(f, i)->no_return;
	return n;
}

#define NO_RETURN                                                           \
	"%" PRIu64 " call%s recorded without a return: what %s took is in " \
	"the time of the callers' own"

void trace_note_no_return(const struct trace_file *f)
{
	uint64_t n = trace_without_return(f);

	if (n)
		(void)printf(NO_RETURN "\n", n, n == 1 ? " is" : "s are", n == 1 ? "it" : "they");
}

void trace_say_no_return(const struct trace_file *f)
{
	uint64_t n = trace_without_return(f);

	if (n)
		tool_complain("%s: " NO_RETURN, f->path, n, n == 1 ? " is" : "s are",
			      n == 1 ? "it" : "they");
}

void trace_say_lossy(const struct trace_file *f)
{
	if (f->lossy_calls)
		tool_complain("%s: %" PRIu64
			      " call%s ran while events were lost: the times of these "
			      "may be wrong",
			      f->path, f->lossy_calls, tool_plural(f->lossy_calls));
}
