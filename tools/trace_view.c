/* SPDX-License-Identifier: MIT */
#include "trace_view.h"

#include <inttypes.h>
#include <string.h>

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
		(void)snprintf(buf, 32, "%7llu ns", (unsigned long long)ns);
	else
		(void)snprintf(buf, 32, "%3llu.%03u %s", (unsigned long long)(ns / unit->ns),
			       (unsigned)((unsigned __int128)(ns % unit->ns) * 1000 / unit->ns) %
				       1000,
			       unit->name);
	return buf;
}

const char *trace_parentheses(const char *name)
{
	return strchr(name, '(') ? "" : "()";
}

void trace_say_lossy(const struct trace_file *f)
{
	if (f->lossy_calls)
		tool_complain("%s: %" PRIu64
			      " call%s ran while events were lost: the times of these "
			      "may be wrong",
			      f->path, f->lossy_calls, tool_plural(f->lossy_calls));
}
