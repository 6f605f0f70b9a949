/* SPDX-License-Identifier: MIT */
/*
 * `shunt report`: how often each function of a recorded session was called, and how long that
 * took. The JSON's field names are a promise to scripts; its "version" grows with
 * whatever would break one.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include <jansson.h>

#include "options.h"
#include "print_json.h"
#include "shunt.h"
#include "trace_view.h"

#define USAGE                                                                             \
	"report [--thread] [--sort KEY] [--tid TID] [--json] [FILE]\n"                    \
	"List the functions of the recorded session in FILE (shunt.trace): calls,\n"      \
	"time in all, time of their own, least, average, 99 of 100 below, most;\n"        \
	"'>': some had not returned at the end, and their time until then is in it.\n"    \
	"\n"                                                                              \
	"  -t, --thread     each thread by itself\n"                                      \
	"  -s, --sort KEY   total (the default), self, calls, min, avg, p99, max, name\n" \
	"      --tid TID    this thread alone\n"                                          \
	"  -j, --json       one object of JSON\n"                                         \
	"\n"                                                                              \
	"examples:\n"                                                                     \
	"  shunt trace -o out.trace -- ./program && shunt report --sort self out.trace\n" \
	"  shunt report --json out.trace | jq '.functions[] | select(.p99_ns > 1000000)'"

#define JSON_VERSION 1

struct row {
	uint32_t function;
	uint32_t thread; /* number in the file; 0 where threads are not told apart */
	uint64_t calls, timed, unwound, open, tail, lossy; /* of @calls; open: of @timed */
	uint64_t total, self; /* ticks until finish_row(), then ns: rounded once, in order */
	struct array ns;      /* of uint64_t: of each timed call that has ended */
	uint64_t ended, min, sum, p99, max;
	const char *name;
};

enum sort_key { BY_TOTAL, BY_SELF, BY_CALLS, BY_MIN, BY_AVG, BY_P99, BY_MAX, BY_NAME };
static const char *const sort_names[] = {"total", "self", "calls", "min",
					 "avg",   "p99",  "max",   "name"};

struct report {
	struct trace_file f;
	struct array rows;   /* of struct row */
	struct hash numbers; /* by thread and function: row + 1 */
	uint32_t thread;
	bool by_thread, json;
	enum sort_key sort;
	uint32_t tid;
	uint64_t orphans;
};

/* ----------------------------------------------------------------------- what is counted */

static struct row *row_of(struct report *r, uint32_t function)
{
	struct row row = {.function = function, .thread = r->by_thread ? r->thread : 0};
	uint32_t *number = hash_at(&r->numbers, (uint64_t)row.thread << 32 | function);

	if (!number)
		return NULL;
	if (!*number) {
		if (!array_add(&r->rows, &row, sizeof(row)))
			return NULL;
		*number = (uint32_t)r->rows.n;
	}
	return (struct row *)r->rows.data + *number - 1;
}

static int begin_thread(void *context, const struct file_thread *thread)
{
	struct report *r = context;

	r->thread = (uint32_t)(thread - (const struct file_thread *)r->f.threads.data);
	return 0;
}

static int enter(void *context, struct call *call)
{
	(void)context;
	(void)call;
	return 0;
}

static int leave(void *context, struct call *call, uint64_t ticks, enum call_end how)
{
	struct report *r = context;
	struct row *row = row_of(r, call->function);
	uint64_t ns = trace_ns(&r->f, ticks - call->start);

	if (!row)
		return trace_failed(&r->f, ENOMEM);
	row->calls++;
	row->unwound += how == END_UNWOUND;
	row->open += how == END_OPEN;
	row->tail += how == END_TAIL;
	row->lossy += call->lossy;
	if (!call->timed)
		return 0;
	row->timed++;
	row->self += call->self;
	/* The time of an inner call of a recursion is part of the outer one's. */
	if (!call->recursive)
		row->total += ticks - call->start;
	row->max = ns > row->max ? ns : row->max;
	if (how == END_OPEN)
		return 0;
	return array_add(&row->ns, &ns, sizeof(ns)) ? 0 : trace_failed(&r->f, ENOMEM);
}

static int orphan(void *context, uint32_t function, uint64_t ticks)
{
	(void)function;
	(void)ticks;
	((struct report *)context)->orphans++;
	return 0;
}

/* The @k-th smallest of @n, which are put in another order (Hoare's selection). */
static uint64_t nth(uint64_t *a, size_t n, size_t k)
{
	size_t low = 0, high = n - 1;

	while (low < high) {
		uint64_t pivot = a[low + (high - low) / 2];
		size_t i = low, j = high;

		for (;; i++, j--) {
			uint64_t swap;

			while (a[i] < pivot)
				i++;
			while (a[j] > pivot)
				j--;
			if (i >= j)
				break;
			swap = a[i];
			a[i] = a[j];
			a[j] = swap;
		}
		if (k <= j)
			high = j;
		else
			low = j + 1;
	}
	return a[low];
}

/* What is known once all calls are there. */
static void finish_row(struct report *r, struct row *row)
{
	const uint64_t *ns = row->ns.data;

	row->name = trace_function_name(&r->f, row->function);
	row->self = trace_ns(&r->f, row->self);
	row->total = trace_ns(&r->f, row->total);
	row->ended = row->ns.n;
	if (!row->ended)
		return;
	row->min = UINT64_MAX;
	for (size_t i = 0; i < row->ended; i++) {
		row->min = ns[i] < row->min ? ns[i] : row->min;
		row->sum += ns[i];
	}
	/* The least one that is not below 99 of 100. */
	row->p99 = nth(row->ns.data, row->ended, (row->ended * 99 + 99) / 100 - 1);
	array_free(&row->ns);
}

static uint64_t average(const struct row *row)
{
	return row->ended ? row->sum / row->ended : 0;
}

static enum sort_key sort_key; /* that qsort() has no room for */

static uint64_t value(const struct row *row)
{
	switch (sort_key) {
	case BY_SELF:
		return row->self;
	case BY_CALLS:
		return row->calls;
	case BY_MIN:
		return row->min;
	case BY_AVG:
		return average(row);
	case BY_P99:
		return row->p99;
	case BY_MAX:
		return row->max;
	default:
		return row->total;
	}
}

static int compare(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	if (x->thread != y->thread)
		return x->thread < y->thread ? -1 : 1;
	if (sort_key != BY_NAME && value(x) != value(y))
		return value(x) < value(y) ? 1 : -1;
	if (sort_key != BY_NAME && x->calls != y->calls)
		return x->calls < y->calls ? 1 : -1;
	return strcmp(x->name, y->name);
}

/* ------------------------------------------------------------------------------- JSON */

/* @ns, which is of @calls; null where these are none. */
static json_t *json_ns(uint64_t calls, uint64_t ns)
{
	return calls ? json_integer((json_int_t)ns) : json_null();
}

static json_t *json_row(struct report *r, const struct row *row)
{
	const struct file_function *fn = trace_function(&r->f, row->function);
	const struct file_thread *thread = trace_thread_at(&r->f, row->thread);
	json_t *object = json_pack(
		"{s:s, s:s, s:s, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:I}",
		"function", row->name, "symbol", fn->symbol, "module", fn->module, "calls",
		(json_int_t)row->calls, "total_ns", (json_int_t)row->total, "self_ns",
		(json_int_t)row->self, "min_ns", json_ns(row->ended, row->min), "avg_ns",
		json_ns(row->ended, average(row)), "p99_ns", json_ns(row->ended, row->p99),
		"max_ns", json_ns(row->timed, row->max), "timed", (json_int_t)row->timed, "unwound",
		(json_int_t)row->unwound, "open", (json_int_t)row->open, "tail_calls",
		(json_int_t)row->tail, "lossy", (json_int_t)row->lossy);

	if (object && r->by_thread &&
	    (json_object_set_new(object, "tid", json_integer(thread->raw.tid)) ||
	     json_object_set_new(object, "thread", json_string(thread->name)))) {
		json_decref(object);
		return NULL;
	}
	return object;
}

static bool json_add(json_t *array, json_t *item)
{
	return item && !json_array_append_new(array, item);
}

static bool json_lists(struct report *r, json_t *functions, json_t *threads, json_t *offs)
{
	bool good = functions && threads && offs;

	for (size_t i = 0; i < r->rows.n && good; i++)
		good = json_add(functions, json_row(r, (struct row *)r->rows.data + i));
	for (size_t i = 0; i < r->f.threads.n && good; i++) {
		const struct file_thread *t = trace_thread_at(&r->f, i);

		if (r->tid == TRACE_ALL_THREADS || r->tid == t->raw.tid)
			good = json_add(threads, json_pack("{s:I, s:I, s:s, s:I, s:I}", "tid",
							   (json_int_t)t->raw.tid, "pid",
							   (json_int_t)t->raw.pid, "name", t->name,
							   "events", (json_int_t)t->events, "lost",
							   (json_int_t)t->lost));
	}
	for (size_t i = 0; i < r->f.offs.n && good; i++) {
		const struct file_off *off = (struct file_off *)r->f.offs.data + i;

		good = json_add(offs, json_pack("{s:s, s:s, s:I, s:I}", "function",
						trace_function_name(&r->f, off->function), "module",
						trace_function_module(&r->f, off->function),
						"calls", (json_int_t)off->raw.calls, "total_ns",
						(json_int_t)trace_ns(&r->f, off->raw.total_ticks)));
	}
	return good;
}

static int show_json(struct report *r)
{
	json_t *functions = json_array(), *threads = json_array(), *offs = json_array();
	bool good = json_lists(r, functions, threads, offs);
	json_t *root = NULL;

	if (good)
		root = json_pack(
			"{s:i, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:s?, s:O, s:O, s:O}",
			"version", JSON_VERSION, "command", r->f.command, "pid",
			(json_int_t)r->f.session.pid, "events", (json_int_t)r->f.events, "lost",
			(json_int_t)r->f.lost, "returns_without_entry", (json_int_t)r->orphans,
			"open", (json_int_t)r->f.open_calls, "no_return",
			(json_int_t)trace_without_return(&r->f), "start_realtime_ns",
			(json_int_t)r->f.session.start_realtime_ns, "complete",
			(r->f.ended && !r->f.has_failed) || r->f.at_exec, "failure",
			r->f.has_failed ? strerror((int)r->f.failure.error) : NULL, "functions",
			functions, "threads", threads, "switched_off", offs);
	json_decref(functions);
	json_decref(threads);
	json_decref(offs);
	return tool_print_json(r->f.path, root);
}

/* ------------------------------------------------------------------------------ tables */

/* A column that is of @calls. */
static void show_ns(bool is_open, uint64_t calls, uint64_t ns)
{
	char buf[32] = "-";

	if (calls)
		(void)trace_show_bound(ns, is_open, buf);
	(void)printf(" %*s", TRACE_COLUMN, buf);
}

static void show_row(const struct report *r, const struct row *row)
{
	const char *module = trace_base_name(trace_function_module(&r->f, row->function));

	(void)printf("%10" PRIu64, row->calls);
	show_ns(row->open, row->timed, row->total);
	show_ns(row->open, row->timed, row->self);
	show_ns(false, row->ended, row->min);
	show_ns(false, row->ended, average(row));
	show_ns(false, row->ended, row->p99);
	show_ns(row->open, row->timed, row->max);
	(void)printf("  %s%s%s%s%s\n", row->name, *module ? " [" : "", module, *module ? "]" : "",
		     row->lossy ? " ~" : "");
}

static void show_rows(const struct report *r)
{
	for (size_t i = 0; i < r->rows.n; i++) {
		const struct row *row = (const struct row *)r->rows.data + i;

		if (r->by_thread && (i == 0 || row[-1].thread != row->thread)) {
			const struct file_thread *t = trace_thread_at(&r->f, row->thread);

			(void)printf("%sthread %" PRIu32 " %s: %" PRIu64 " event%s, %" PRIu64
				     " lost\n",
				     i ? "\n" : "", t->raw.tid, t->name, t->events,
				     tool_plural(t->events), t->lost);
		}
		if (i == 0 || (r->by_thread && row[-1].thread != row->thread))
			(void)printf("%10s %11s %11s %11s %11s %11s %11s  %s\n", "CALLS",
				     "TOTAL   ", "SELF   ", "MIN   ", "AVG   ", "P99   ", "MAX   ",
				     "FUNCTION");
		show_row(r, row);
	}
}

static void show_offs(struct report *r)
{
	char buf[32];

	if (r->f.offs.n)
		(void)printf("%sSwitched off while the session ran, as they are short and were "
			     "called very often;\ntheir later calls are not counted, and what "
			     "these took is in SELF of the callers:\n%10s %10s  %s\n",
			     r->rows.n ? "\n" : "", "CALLS", "AVG   ", "FUNCTION");
	for (size_t i = 0; i < r->f.offs.n; i++) {
		const struct file_off *off = (struct file_off *)r->f.offs.data + i;
		uint64_t ns = trace_ns(&r->f, off->raw.total_ticks);

		(void)printf("%10" PRIu64 " %10s  %s\n", off->raw.calls,
			     trace_show_ns(off->raw.calls ? ns / off->raw.calls : 0, buf),
			     trace_function_name(&r->f, off->function));
	}
}

static void show_notes(const struct report *r)
{
	trace_note_open(&r->f, "TOTAL, SELF and MAX, and not in MIN, AVG and P99");
	if (r->f.lossy_calls)
		(void)printf("~ %" PRIu64
			     " call%s ran while events were lost: the times of these may "
			     "be wrong\n",
			     r->f.lossy_calls, tool_plural(r->f.lossy_calls));
	trace_note_no_return(&r->f);
	if (r->f.lost)
		(void)printf("Calls whose events were lost are not counted: CALLS may be too low "
			     "for any function\n");
}

static int show_tables(struct report *r)
{
	show_rows(r);
	show_offs(r);
	if (!r->rows.n && !r->f.offs.n)
		(void)puts("No call is recorded.");
	(void)printf("\n%zu thread%s, %" PRIu64 " event%s, %" PRIu64 " lost", r->f.threads.n,
		     tool_plural(r->f.threads.n), r->f.events, tool_plural(r->f.events), r->f.lost);
	if (r->orphans)
		(void)printf("; %" PRIu64 " return%s without a recorded entry", r->orphans,
			     tool_plural(r->orphans));
	(void)putchar('\n');
	show_notes(r);
	return 0;
}

static int report(struct report *r, const char *path)
{
	const struct trace_visitor visitor = {.context = r,
					      .thread = begin_thread,
					      .enter = enter,
					      .leave = leave,
					      .orphan = orphan};
	int ret = trace_open(&r->f, path);

	if (!ret)
		ret = trace_walk(&r->f, r->tid, &visitor);
	for (size_t i = 0; i < r->rows.n; i++) {
		if (!ret)
			finish_row(r, (struct row *)r->rows.data + i);
		else
			array_free(&((struct row *)r->rows.data)[i].ns);
	}
	if (!ret) {
		sort_key = r->sort;
		if (r->rows.n)
			qsort(r->rows.data, r->rows.n, sizeof(struct row), compare);
		ret = r->json ? show_json(r) : show_tables(r);
	}
	array_free(&r->rows);
	hash_free(&r->numbers);
	trace_close(&r->f);
	return ret ? 1 : 0;
}

static int parse_sort(const char *name, void *to)
{
	for (size_t i = 0; i < sizeof(sort_names) / sizeof(sort_names[0]); i++)
		if (!strcmp(name, sort_names[i])) {
			*(enum sort_key *)to = (enum sort_key)i;
			return 0;
		}
	tool_complain("--sort %s: total, self, calls, min, avg, p99, max or name", name);
	return -1;
}

int cmd_report(int argc, char **argv)
{
	struct report r = {0};
	const struct tool_option options[] = {{"thread", 't', NULL, &r.by_thread},
					      {"sort", 's', parse_sort, &r.sort},
					      {"tid", 0, tool_parse_tid, &r.tid},
					      {"json", 'j', NULL, &r.json},
					      {0}};
	int status;
	const char *path = tool_parse_or(argc, argv, USAGE, options, TRACE_FILE, &status);

	return path ? report(&r, path) : status;
}
