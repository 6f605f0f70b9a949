/* SPDX-License-Identifier: MIT */
/*
 * Chrome's trace events: a B and an E for each call, so that what began and ended at the same time
 * nests as it ran. Each stack has a tid of its own; a thread's own stack the kernel's.
 * A B has no args: speedscope takes those for a part of the function's name.
 */
#include <inttypes.h>

#include "export.h"
#include "trace_calls.h"

struct chrome {
	struct export *e;
	const struct file_thread *thread;
	uint32_t tracks; /* of which the names are written */
	bool any;
};

/* tids of the kernel's are below 2^22. */
static uint64_t tid_of(const struct chrome *c, uint32_t track)
{
	return c->thread->raw.tid + ((uint64_t)track << 22);
}

static void begin_event(struct chrome *c, char phase, uint64_t ns, uint32_t track)
{
	(void)fprintf(c->e->out,
		      "%s\n{\"ph\":\"%c\",\"pid\":%" PRIu32 ",\"tid\":%" PRIu64 ",\"ts\":%" PRIu64
		      ".%03u",
		      c->any ? "," : "", phase, c->thread->raw.pid, tid_of(c, track), ns / 1000,
		      (unsigned int)(ns % 1000));
	c->any = true;
}

/* The name of a thread, or of a stack of it. */
static int name_track(struct chrome *c, uint32_t track)
{
	char *name = trace_json_string(c->thread->name);

	if (!name)
		return -1;
	begin_event(c, 'M', 0, track);
	(void)fprintf(c->e->out, ",\"name\":\"thread_name\",\"args\":{\"name\":%.*s",
		      (int)strlen(name) - 1, name);
	if (track)
		(void)fprintf(c->e->out, " stack %" PRIu32, track);
	(void)fputs("\"}}", c->e->out);
	free(name);
	return 0;
}

static int begin_thread(void *context, const struct file_thread *thread)
{
	struct chrome *c = context;

	c->thread = thread;
	c->tracks = 0;
	return 0;
}

static int enter(void *context, struct call *call)
{
	struct chrome *c = context;
	struct trace_file *f = c->e->f;

	for (; c->tracks <= call->track; c->tracks++)
		if (name_track(c, c->tracks))
			return -1;
	begin_event(c, call->timed ? 'B' : 'i', trace_ns(f, call->start), call->track);
	(void)fprintf(c->e->out, ",\"cat\":\"function%s\",\"name\":%s%s}",
		      call->from_tail ? ",by tail call" : "",
		      trace_function_json(f, call->function), call->timed ? "" : ",\"s\":\"t\"");
	return 0;
}

static int leave(void *context, struct call *call, uint64_t ticks, enum call_end how)
{
	struct chrome *c = context;
	static const char *const ends[] = {
		[END_RETURN] = "return",
		[END_TAIL] = "tail call",
		[END_UNWOUND] = "longjmp or exception",
		[END_OPEN] = "open at the end",
	};

	if (!call->timed)
		return 0;
	begin_event(c, 'E', trace_ns(c->e->f, ticks), call->track);
	(void)fprintf(c->e->out, ",\"name\":%s", trace_function_json(c->e->f, call->function));
	if (how != END_RETURN || call->lossy)
		(void)fprintf(c->e->out, ",\"args\":{\"end\":\"%s\"%s}", ends[how],
			      call->lossy ? ",\"events lost\":true" : "");
	(void)fputc('}', c->e->out);
	return 0;
}

static int lost(void *context, uint64_t lost, uint64_t ticks)
{
	struct chrome *c = context;

	begin_event(c, 'i', trace_ns(c->e->f, ticks), 0);
	(void)fprintf(c->e->out,
		      ",\"cat\":\"lost\",\"name\":\"events "
		      "lost\",\"s\":\"t\",\"args\":{\"count\":%" PRIu64 "}}",
		      lost);
	return 0;
}

int export_chrome(struct export *e)
{
	struct chrome c = {.e = e};
	const struct trace_visitor visitor = {.context = &c,
					      .thread = begin_thread,
					      .enter = enter,
					      .leave = leave,
					      .lost = lost};
	int ret;

	(void)fputs("{\"displayTimeUnit\":\"ns\",\"otherData\":{\"format\":\"shunt "
		    "1\"},\"traceEvents\":[",
		    e->out);
	ret = trace_walk(e->f, e->tid, &visitor);
	(void)fputs("\n]}\n", e->out);
	return ret;
}
