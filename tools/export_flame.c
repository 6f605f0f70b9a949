/* SPDX-License-Identifier: MIT */
/*
 * A flame graph: flame.html with the call tree in it, as JSON. Widths are the nanoseconds that
 * ran in a function and what it called, so that what waits for a coroutine is not counted twice.
 */
#include <errno.h>
#include <inttypes.h>

#include "export.h"
#include "trace_view.h"

extern const char flame_page[], flame_page_end[];

#define MARK "@DATA@" /* in the page: where the data goes */

/* The names once, then the nodes in depth-first order: depth, name, self, calls. */
static int put_tree(struct export *e, const struct tree *tree)
{
	char *title = trace_json_string(e->f->command), date[64];

	if (!title)
		return trace_failed(e->f, ENOMEM);
	(void)fprintf(e->out,
		      "{\"title\":%s,\"date\":\"%s\",\"open\":%" PRIu64 ",\"names\":[\"[deeper]\"",
		      title, trace_show_date(e->f, date, sizeof(date)), e->f->open_calls);
	free(title);
	for (uint32_t i = 0; i < e->f->functions.n; i++)
		(void)fprintf(e->out, ",%s", trace_function_json(e->f, i));
	(void)fputs("],\n\"nodes\":[0", e->out);
	for (uint32_t i = tree_next(tree, 0); i != TRACE_NONE; i = tree_next(tree, i)) {
		const struct tree_node *node = tree_node(tree, i);

		(void)fprintf(e->out, ",%" PRIu32 ",%" PRIu32 ",%" PRIu64 ",%" PRIu64 "%s",
			      node->depth, node->function + 1, trace_ns(e->f, node->self),
			      node->calls, i % 8 ? "" : "\n");
	}
	(void)fputs("]}", e->out);
	return 0;
}

int export_flame(struct export *e)
{
	const char *mark =
		memmem(flame_page, (size_t)(flame_page_end - flame_page), MARK, sizeof(MARK) - 1);
	struct tree tree;
	int ret = tree_build(&tree, e->f, e->tid);

	if (!ret) {
		(void)fwrite(flame_page, 1, (size_t)(mark - flame_page), e->out);
		ret = put_tree(e, &tree);
		mark += sizeof(MARK) - 1;
		(void)fwrite(mark, 1, (size_t)(flame_page_end - mark), e->out);
	}
	tree_free(&tree);
	return ret;
}
