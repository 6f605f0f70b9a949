/* SPDX-License-Identifier: MIT */
/* `shunt graph`: the call tree of a recorded session, calls by the same callers merged. */
#include <inttypes.h>
#include <stdlib.h>

#include <jansson.h>

#include "options.h"
#include "print_json.h"
#include "shunt.h"
#include "trace_view.h"

#define USAGE                                                                               \
	"graph [--tid TID] [--depth N] [--json] [FILE]\n"                                   \
	"Show the call tree of the recorded session in FILE (shunt.trace), calls\n"         \
	"by the same callers merged: how many, their time in all, and what is their own.\n" \
	"\n"                                                                                \
	"      --tid TID   this thread alone\n"                                             \
	"  -d, --depth N   no more than N levels; with --json 80 where this is not given\n" \
	"  -j, --json      one object of JSON\n"                                            \
	"\n"                                                                                \
	"examples:\n"                                                                       \
	"  shunt graph out.trace\n"                                                         \
	"  shunt graph --depth 3 --tid 4711 out.trace"

#define MAX_INDENT 48u /* levels; of deeper ones the number is shown */

static void show_node(struct trace_file *f, const struct tree_node *node)
{
	uint32_t level = node->depth - 1;
	uint32_t shown = level < MAX_INDENT ? level : MAX_INDENT;
	char total[32] = "-", self[32] = "-";

	if (node->timed) {
		(void)trace_show_bound(node->total_ns, node->open, total);
		(void)trace_show_bound(node->self_ns, node->open, self);
	}
	(void)printf("%*s %*s %10" PRIu64 " | %*s", TRACE_COLUMN, total, TRACE_COLUMN, self,
		     node->calls, (int)(2 * shown), "");
	if (level > shown)
		(void)printf("(%" PRIu32 ") ", level);
	(void)printf("%s\n", tree_name(f, node));
}

/* ------------------------------------------------------------------------------- JSON */

#define JSON_VERSION 1
/* An array and a member of an object: jq 1.6 reads 84 levels of these. */
#define JSON_DEPTH 80u

static json_t *json_children(struct trace_file *f, const struct tree *tree, uint32_t parent,
			     unsigned long depth);

static json_t *json_time(const struct tree_node *node, uint64_t ns)
{
	return node->timed ? json_integer((json_int_t)ns) : json_null();
}

static json_t *json_node(struct trace_file *f, const struct tree *tree, uint32_t i,
			 unsigned long depth)
{
	const struct tree_node *node = tree_node(tree, i);
	const char *module =
		node->function == TRACE_NONE ? "" : trace_function_module(f, node->function);
	json_t *children = json_children(f, tree, i, depth);

	if (!children)
		return NULL;
	return json_pack("{s:s, s:s, s:I, s:o, s:o, s:I, s:o}", "function", tree_name(f, node),
			 "module", module, "calls", (json_int_t)node->calls, "total_ns",
			 json_time(node, node->total_ns), "self_ns", json_time(node, node->self_ns),
			 "open", (json_int_t)node->open, "children", children);
}

static json_t *json_children(struct trace_file *f, const struct tree *tree, uint32_t parent,
			     unsigned long depth)
{
	uint32_t i = tree_node(tree, parent)->first_child;
	json_t *array = json_array();

	for (; array && i != TRACE_NONE && tree_node(tree, i)->depth <= depth;
	     i = tree_node(tree, i)->next) {
		json_t *node = json_node(f, tree, i, depth);

		if (node && !json_array_append_new(array, node))
			continue;
		json_decref(array);
		return NULL;
	}
	return array;
}

/* How many levels there are that are not shown. */
static unsigned long levels_left_out(const struct tree *tree, unsigned long depth)
{
	unsigned long deepest = depth;

	for (uint32_t i = tree_next(tree, 0); i != TRACE_NONE; i = tree_next(tree, i))
		if (tree_node(tree, i)->depth > deepest)
			deepest = tree_node(tree, i)->depth;
	return deepest - depth;
}

static int show_json(struct trace_file *f, const struct tree *tree, unsigned long depth)
{
	json_t *calls = json_children(f, tree, 0, depth), *root = NULL;

	if (calls)
		root = json_pack("{s:i, s:s, s:I, s:I, s:I, s:I, s:o}", "version", JSON_VERSION,
				 "command", f->command, "pid", (json_int_t)f->session.pid, "lost",
				 (json_int_t)f->lost, "open", (json_int_t)f->open_calls,
				 "levels_left_out", (json_int_t)levels_left_out(tree, depth),
				 "calls", calls);
	return tool_print_json(f->path, root);
}

/* ------------------------------------------------------------------------------- text */

static void show_tree(struct trace_file *f, const struct tree *tree, unsigned long depth)
{
	(void)printf("%11s %11s %10s   %s\n", "TOTAL   ", "SELF   ", "CALLS", "FUNCTION");
	for (uint32_t i = tree_next(tree, 0); i != TRACE_NONE; i = tree_next(tree, i))
		if (tree_node(tree, i)->depth <= depth)
			show_node(f, tree_node(tree, i));
	trace_note_open(f, "TOTAL and SELF");
}

static int graph(const char *path, uint32_t tid, unsigned long depth, bool json)
{
	struct trace_file f;
	struct tree tree = {0};
	int ret = trace_open(&f, path);

	if (!ret)
		ret = tree_build(&tree, &f, tid);
	if (!ret && json)
		ret = show_json(&f, &tree, depth);
	else if (!ret)
		show_tree(&f, &tree, depth);
	if (!ret) {
		trace_say_lossy(&f);
		trace_say_no_return(&f);
	}
	tree_free(&tree);
	trace_close(&f);
	return ret ? 1 : 0;
}

static int parse_depth(const char *text, void *to)
{
	char *end;
	unsigned long depth = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || !depth) {
		tool_complain("%s: not a number of levels", text);
		return -1;
	}
	*(unsigned long *)to = depth;
	return 0;
}

int cmd_graph(int argc, char **argv)
{
	uint32_t tid = TRACE_ALL_THREADS;
	unsigned long depth = 0;
	bool json = false;
	const struct tool_option options[] = {{"tid", 0, tool_parse_tid, &tid},
					      {"depth", 'd', parse_depth, &depth},
					      {"json", 'j', NULL, &json},
					      {0}};
	int status;
	const char *path = tool_parse_or(argc, argv, USAGE, options, TRACE_FILE, &status);

	if (!depth)
		depth = json ? JSON_DEPTH : TREE_DEPTH + 1;
	return path ? graph(path, tid, depth, json) : status;
}
