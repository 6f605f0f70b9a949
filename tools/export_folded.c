/* SPDX-License-Identifier: MIT */
/* Folded stacks: "main;f;g 1234": the nanoseconds that were g's own, called so. */
#include <errno.h>
#include <inttypes.h>

#include "export.h"
#include "trace_view.h"

/* The frames of @node, the outermost first. A semicolon would end a frame. */
static void put_stack(struct export *e, const struct tree *tree, uint32_t node)
{
	uint32_t stack[TREE_DEPTH + 2];
	uint32_t n = 0;

	for (; node; node = tree_node(tree, node)->parent)
		stack[n++] = node;
	while (n--) {
		for (const char *c = tree_name(e->f, tree_node(tree, stack[n])); *c; c++)
			(void)fputc(*c == ';' ? ':' : *c, e->out);
		if (n)
			(void)fputc(';', e->out);
	}
}

int export_folded(struct export *e)
{
	struct tree tree;
	int ret = tree_build(&tree, e->f, e->tid);

	for (uint32_t i = ret ? TRACE_NONE : tree_next(&tree, 0); i != TRACE_NONE;
	     i = tree_next(&tree, i)) {
		uint64_t ns = trace_ns(e->f, tree_node(&tree, i)->self);

		if (!ns)
			continue;
		put_stack(e, &tree, i);
		(void)fprintf(e->out, " %" PRIu64 "\n", ns);
	}
	tree_free(&tree);
	return ret;
}
