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

/* Where a thread has no other event there are no times that theirs could be in. */
static bool has_times(const struct trace_file *f)
{
	for (size_t i = 0; i < f->threads.n; i++) {
		const struct file_thread *t = trace_thread_at(f, i);

		if (t->no_return && t->events > t->no_return)
			return true;
	}
	return false;
}

static void put_no_return(const struct trace_file *f, char *text, size_t size)
{
	uint64_t n = trace_without_return(f);
	const char *they = n == 1 ? "it" : "they";
	int len = snprintf(text, size, "%" PRIu64 " call%s recorded without a return: ", n,
			   n == 1 ? " is" : "s are");

	(void)snprintf(text + len, size - (size_t)len,
		       has_times(f) ? "what %s took is in the time of the callers' own"
				    : "how long %s took is not known",
		       they);
}

enum { NO_RETURN_MAX = 160 };

void trace_note_no_return(const struct trace_file *f)
{
	char text[NO_RETURN_MAX];

	put_no_return(f, text, sizeof(text));
	if (trace_without_return(f))
		(void)printf("%s\n", text);
}

void trace_say_no_return(const struct trace_file *f)
{
	char text[NO_RETURN_MAX];

	put_no_return(f, text, sizeof(text));
	if (trace_without_return(f))
		tool_complain("%s: %s", f->path, text);
}

void trace_say_lossy(const struct trace_file *f)
{
	if (f->lossy_calls)
		tool_complain("%s: %" PRIu64
			      " call%s ran while events were lost: the times of these "
			      "may be wrong",
			      f->path, f->lossy_calls, tool_plural(f->lossy_calls));
}
