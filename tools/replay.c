/* SPDX-License-Identifier: MIT */
/*
 * `shunt replay`: the calls of a recorded session as they ran, thread by thread: a line where a
 * function begins and one where it ends, or one for both where nothing was called in between.
 */
#include <fnmatch.h>
#include <inttypes.h>
#include <stdlib.h>

#include "options.h"
#include "quantity.h"
#include "shunt.h"
#include "trace_view.h"

#define USAGE                                                                                \
	"replay [--tid TID] [-F GLOB] [--min TIME] [--json] [FILE]\n"                        \
	"Show the calls of the recorded session in FILE (shunt.trace) as they ran, thread\n" \
	"by thread.\n"                                                                       \
	"\n"                                                                                 \
	"START: seconds since the session began.\n"                                          \
	"\n"                                                                                 \
	"      --tid TID   this thread alone\n"                                              \
	"  -F, --filter GLOB\n"                                                              \
	"                  functions alone whose name matches\n"                             \
	"      --min TIME  leave out shorter calls: 500ns, 20us, 1.5ms, 1s\n"                \
	"  -j, --json      a line of JSON for each call, where it ends\n"                    \
	"\n"                                                                                 \
	"examples:\n"                                                                        \
	"  shunt replay out.trace | less\n"                                                  \
	"  shunt replay --json out.trace | jq -c 'select(.duration_ns > 1000000)'"

/* Deeper levels are indented no further: their number is shown. */
#define MAX_INDENT 48u

#define START_WIDTH 13

struct replay {
	struct trace_file f;
	const struct file_thread *thread;
	struct call *pending; /* it has begun, and is not shown yet */
	uint64_t min_ns;
	const char *glob; /* NULL: all functions */
	bool json;
};

static const char *const json_ends[] = {
	[END_RETURN] = "return", [END_TAIL] = "tail call",  [END_UNWOUND] = "unwound",
	[END_OPEN] = "open",     [END_UNKNOWN] = "unknown",
};

/* Behind the name, within a comment. */
static const char *const text_ends[] = {
	[END_RETURN] = "",
	[END_TAIL] = ": tail call",
	[END_UNWOUND] = ": longjmp or exception",
	[END_OPEN] = ": open at the end",
	[END_UNKNOWN] = ": return not recorded",
};

/* ------------------------------------------------------------------------------- text */

/* What stands before the times, the thread, the stack and the level: when the line's call began. */
static void show_start(const struct replay *r, uint64_t ticks)
{
	uint64_t ns = trace_ns(&r->f, ticks);

	(void)printf("%*" PRIu64 ".%06" PRIu64, START_WIDTH - 7, ns / 1000000000,
		     ns / 1000 % 1000000);
}

static void show_no_start(void)
{
	(void)printf("%*s", START_WIDTH, "");
}

/* Before the name: @time (or NULL), the thread, the stack, the level. */
static void show_margin(const struct replay *r, const char *time, uint32_t track, uint32_t depth)
{
	uint32_t shown = depth < MAX_INDENT ? depth : MAX_INDENT;

	(void)printf(" %*s [%7" PRIu32, TRACE_COLUMN, time ? time : "", r->thread->raw.tid);
	if (track)
		(void)printf("/%" PRIu32, track);
	(void)printf("] | %*s", (int)(2 * shown), "");
	if (depth > shown)
		(void)printf("(%" PRIu32 ") ", depth);
}

static void show_begin(struct replay *r, const struct call *call)
{
	const char *name = trace_function_name(&r->f, call->function);

	show_start(r, call->start);
	show_margin(r, NULL, call->track, call->depth);
	(void)printf("%s%s {%s\n", name, trace_parentheses(name),
		     call->from_tail ? " /* by tail call */" : "");
}

static void show_pending(struct replay *r)
{
	if (r->pending)
		show_begin(r, r->pending);
	r->pending = NULL;
}

static void show_end(struct replay *r, const struct call *call, const char *time, enum call_end how)
{
	const char *name = trace_function_name(&r->f, call->function);

	if (r->pending == call)
		show_start(r, call->start);
	else
		show_no_start();
	show_margin(r, time, call->track, call->depth);
	if (r->pending != call) {
		(void)printf("} /* %s%s%s", name, text_ends[how],
			     call->lossy ? ": events lost meanwhile" : "");
		if (call->returned_in)
			(void)printf(": returned in thread %" PRIu32, call->returned_in);
		(void)puts(" */");
		return;
	}
	r->pending = NULL;
	(void)printf("%s%s;", name, trace_parentheses(name));
	if (call->from_tail)
		(void)fputs(" /* by tail call */", stdout);
	if (how != END_RETURN)
		(void)printf(" /* %s */", text_ends[how] + 2);
	if (call->lossy)
		(void)fputs(" /* events lost meanwhile */", stdout);
	if (call->returned_in)
		(void)printf(" /* returned in thread %" PRIu32 " */", call->returned_in);
	(void)putchar('\n');
}

/* ------------------------------------------------------------------------------- JSON */

static void json_line(struct replay *r, const struct call *call, uint64_t ticks, enum call_end how)
{
	(void)printf("{\"version\":1,\"tid\":%" PRIu32 ",\"stack\":%" PRIu32 ",\"depth\":%" PRIu32
		     ",\"function\":%s",
		     r->thread->raw.tid, call->track, call->depth,
		     trace_function_json(&r->f, call->function));
	(void)printf(",\"start_ns\":%" PRIu64, trace_ns(&r->f, call->start));
	if (call->timed)
		(void)printf(",\"duration_ns\":%" PRIu64 ",\"self_ns\":%" PRIu64,
			     trace_ns(&r->f, ticks - call->start), trace_ns(&r->f, call->self));
	else
		(void)fputs(",\"duration_ns\":null,\"self_ns\":null", stdout);
	if (call->returned_in)
		(void)printf(",\"returned_in\":%" PRIu32, call->returned_in);
	(void)printf(",\"by_tail_call\":%s,\"end\":\"%s\",\"events_lost\":%s}\n",
		     call->from_tail ? "true" : "false", json_ends[how],
		     call->lossy ? "true" : "false");
}

/* ---------------------------------------------------------------------------- visitor */

static int begin_thread(void *context, const struct file_thread *thread)
{
	struct replay *r = context;

	if (!r->json)
		(void)printf("\n# thread %" PRIu32 " %s\n#     START    DURATION    TID      "
			     "FUNCTION\n",
			     thread->raw.tid, thread->name);
	r->thread = thread;
	return 0;
}

/* As the tool shows it, or as it stands in the symbol table. */
static bool is_left_out(struct replay *r, const struct call *call)
{
	return r->glob && fnmatch(r->glob, trace_function_name(&r->f, call->function), 0) &&
	       fnmatch(r->glob, trace_function(&r->f, call->function)->symbol, 0);
}

static int enter(void *context, struct call *call)
{
	struct replay *r = context;

	if (r->json || is_left_out(r, call))
		return 0;
	show_pending(r);
	r->pending = call;
	return 0;
}

static int leave(void *context, struct call *call, uint64_t ticks, enum call_end how)
{
	struct replay *r = context;
	char buf[32] = "-   ";

	if (is_left_out(r, call))
		return 0;
	if (r->json) {
		json_line(r, call, ticks, how);
		return 0;
	}
	if (r->pending != call)
		show_pending(r);
	if (call->timed)
		(void)trace_show_bound(trace_ns(&r->f, ticks - call->start), how == END_OPEN, buf);
	show_end(r, call, buf, how);
	return 0;
}

static int lost(void *context, uint64_t lost, uint64_t ticks)
{
	struct replay *r = context;

	if (r->json) {
		(void)printf("{\"tid\":%" PRIu32 ",\"lost\":%" PRIu64 ",\"start_ns\":%" PRIu64
			     "}\n",
			     r->thread->raw.tid, lost, trace_ns(&r->f, ticks));
		return 0;
	}
	show_pending(r);
	show_start(r, ticks);
	show_margin(r, NULL, 0, 0);
	(void)printf("/* %" PRIu64 " event%s lost */\n", lost, tool_plural(lost));
	return 0;
}

static int orphan(void *context, uint32_t function, uint64_t ticks)
{
	struct replay *r = context;

	if (r->json)
		return 0;
	show_pending(r);
	show_start(r, ticks);
	show_margin(r, NULL, 0, 0);
	(void)printf("} /* %s: entry not recorded */\n",
		     function == TRACE_NONE ? "?" : trace_function_name(&r->f, function));
	return 0;
}

static void show_head(const struct replay *r)
{
	char date[64];

	(void)printf("# %s, process %" PRIu32 "\n# began %s\n", r->f.command, r->f.session.pid,
		     trace_show_date(&r->f, date, sizeof(date)));
	if (!r->f.events)
		(void)puts("# no call is recorded");
}

static int replay(struct replay *r, const char *path, uint32_t tid)
{
	const struct trace_visitor visitor = {.context = r,
					      .thread = begin_thread,
					      .enter = enter,
					      .leave = leave,
					      .lost = lost,
					      .orphan = orphan};
	int ret = trace_open(&r->f, path);

	r->f.min_ns = r->min_ns;
	if (!ret && !r->json)
		show_head(r);
	if (!ret)
		ret = trace_walk(&r->f, tid, &visitor);
	trace_close(&r->f);
	return ret ? 1 : 0;
}

static int parse_min(const char *text, void *to)
{
	unsigned long long ns;

	if (!tool_read_time(text, &ns)) {
		tool_complain("--min %s: not a time with its unit, as 500ns, 20us, 1.5ms, 1s",
			      text);
		return -1;
	}
	*(uint64_t *)to = ns;
	return 0;
}

int cmd_replay(int argc, char **argv)
{
	struct replay r = {0};
	uint32_t tid = TRACE_ALL_THREADS;
	const struct tool_option options[] = {{"tid", 0, tool_parse_tid, &tid},
					      {"filter", 'F', tool_parse_text, &r.glob},
					      {"min", 0, parse_min, &r.min_ns},
					      {"json", 'j', NULL, &r.json},
					      {0}};
	int status;
	const char *path = tool_parse_or(argc, argv, USAGE, options, TRACE_FILE, &status);

	return path ? replay(&r, path, tid) : status;
}
