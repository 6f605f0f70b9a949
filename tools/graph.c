/* SPDX-License-Identifier: MIT */
/* `shunt graph`: the call tree of a recorded session, calls by the same callers merged. */
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>

#include "shunt.h"
#include "trace_view.h"

#define USAGE                                                                     \
	"graph [--tid TID] [--depth N] FILE\n"                                    \
	"Show the call tree of the recorded session in FILE, calls by the same\n" \
	"callers merged: how many, their time in all, and what is their own.\n"   \
	"\n"                                                                      \
	"      --tid TID   this thread alone\n"                                   \
	"  -d, --depth N   no more than N levels\n"                               \
	"\n"                                                                      \
	"examples:\n"                                                             \
	"  shunt graph out.trace\n"                                               \
	"  shunt graph --depth 3 --tid 4711 out.trace"

#define MAX_INDENT 48u /* levels; of deeper ones the number is shown */

static void show_node(struct trace_file *f, const struct tree_node *node)
{
	uint32_t level = node->depth - 1;
	uint32_t shown = level < MAX_INDENT ? level : MAX_INDENT;
	char total[32], self[32];

	(void)printf(
		"%10s %10s %10" PRIu64 " | %*s", trace_show_ns(trace_ns(f, node->total), total),
		trace_show_ns(trace_ns(f, node->self), self), node->calls, (int)(2 * shown), "");
	if (level > shown)
		(void)printf("(%" PRIu32 ") ", level);
	(void)printf("%s\n", tree_name(f, node));
}

static int graph(const char *path, uint32_t tid, unsigned long depth)
{
	struct trace_file f;
	struct tree tree = {0};
	int ret = trace_open(&f, path);

	if (!ret)
		ret = tree_build(&tree, &f, tid);
	if (!ret) {
		(void)printf("%10s %10s %10s   %s\n", "TOTAL   ", "SELF   ", "CALLS", "FUNCTION");
		for (uint32_t i = tree_next(&tree, 0); i != TRACE_NONE; i = tree_next(&tree, i))
			if (tree_node(&tree, i)->depth <= depth)
				show_node(&f, tree_node(&tree, i));
	}
	if (!ret)
		trace_say_lossy(&f);
	tree_free(&tree);
	trace_close(&f);
	return ret ? 1 : 0;
}

int cmd_graph(int argc, char **argv)
{
	static const struct option options[] = {
		{"tid", required_argument, NULL, 'T'},
		{"depth", required_argument, NULL, 'd'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	uint32_t tid = TRACE_ALL_THREADS;
	unsigned long depth = TREE_DEPTH + 1;
	char *end;
	int c;

	while ((c = getopt_long(argc, argv, "d:h", options, NULL)) != -1) {
		switch (c) {
		case 'T':
			if (trace_parse_tid(optarg, &tid))
				return EXIT_USAGE;
			break;
		case 'd':
			depth = strtoul(optarg, &end, 10);
			if (*optarg < '0' || *optarg > '9' || *end || !depth) {
				tool_complain("%s: not a number of levels", optarg);
				return EXIT_USAGE;
			}
			break;
		case 'h':
			(void)puts("usage: shunt " USAGE);
			return 0;
		default:
			return tool_usage(USAGE);
		}
	}
	if (optind != argc - 1)
		return tool_usage(USAGE);
	return graph(argv[optind], tid, depth);
}
