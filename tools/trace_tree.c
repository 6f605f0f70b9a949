/* SPDX-License-Identifier: MIT */
/* The merged call tree. */
#include <errno.h>
#include <stdlib.h>

#include "trace_view.h"

struct builder {
	struct tree *tree;
	struct trace_file *f;
	struct hash children; /* by node and function: the child's number */
};

static uint32_t child_of(struct builder *b, uint32_t parent, uint32_t function)
{
	struct tree_node node = {.function = function,
				 .parent = parent,
				 .first_child = TRACE_NONE,
				 .next = tree_node(b->tree, parent)->first_child,
				 .depth = tree_node(b->tree, parent)->depth + 1};
	uint32_t *number;

	if (node.depth > TREE_DEPTH + 1)
		return parent; /* it is [deeper] itself */
	if (node.depth > TREE_DEPTH)
		node.function = TRACE_NONE;
	number = hash_at(&b->children, (uint64_t)parent << 32 | node.function);
	if (number && *number)
		return *number;
	if (!number || b->tree->nodes.n >= TRACE_NONE ||
	    !array_add(&b->tree->nodes, &node, sizeof(node)))
		return TRACE_NONE;
	*number = (uint32_t)b->tree->nodes.n - 1;
	tree_node(b->tree, parent)->first_child = *number;
	return *number;
}

static int enter(void *context, struct call *call)
{
	struct builder *b = context;
	uint32_t parent = call->parent ? (uint32_t)(uintptr_t)call->parent->data : 0;
	uint32_t node = child_of(b, parent, call->function);

	if (node == TRACE_NONE)
		return trace_failed(b->f, ENOMEM);
	call->data = (void *)(uintptr_t)node;
	return 0;
}

static int leave(void *context, struct call *call, uint64_t ticks, enum call_end how)
{
	struct builder *b = context;
	uint32_t number = (uint32_t)(uintptr_t)call->data;
	struct tree_node *node = tree_node(b->tree, number);

	node->calls++;
	node->open += how == END_OPEN;
	if (!call->timed)
		return 0;
	node->timed++;
	node->self += call->self;
	/* Within [deeper], what is called there is part of what called it. */
	if (!call->parent || (uint32_t)(uintptr_t)call->parent->data != number)
		node->total += ticks - call->start;
	return 0;
}

static const struct tree *sorted; /* of which the numbers are that qsort() has */

static int by_total(const void *a, const void *b)
{
	const struct tree_node *x = tree_node(sorted, *(const uint32_t *)a);
	const struct tree_node *y = tree_node(sorted, *(const uint32_t *)b);

	if (x->total != y->total)
		return x->total < y->total ? 1 : -1;
	if (x->calls != y->calls)
		return x->calls < y->calls ? 1 : -1;
	return x < y ? -1 : x > y;
}

/* Put the children of @parent in order. @list has room for all. */
static void sort_children(const struct tree *tree, uint32_t parent, uint32_t *list)
{
	uint32_t *link = &tree_node(tree, parent)->first_child;
	size_t n = 0;

	for (uint32_t i = *link; i != TRACE_NONE; i = tree_node(tree, i)->next)
		list[n++] = i;
	sorted = tree;
	qsort(list, n, sizeof(*list), by_total);
	for (size_t i = 0; i < n; i++) {
		*link = list[i];
		link = &tree_node(tree, list[i])->next;
	}
	*link = TRACE_NONE;
}

/* What calls is before what it calls. */
static void round_times(struct tree *tree, const struct trace_file *f)
{
	for (size_t i = tree->nodes.n; i--;) {
		struct tree_node *node = tree_node(tree, (uint32_t)i), *parent;
		uint64_t sum = node->self + node->inner;

		node->self_ns = trace_ns(f, node->self);
		node->total_ns = node->total < sum ? trace_ns(f, node->total)
						   : node->self_ns + node->inner_ns +
							     trace_ns(f, node->total - sum);
		if (node->parent == TRACE_NONE)
			continue;
		parent = tree_node(tree, node->parent);
		parent->inner += node->total;
		parent->inner_ns += node->total_ns;
	}
}

int tree_build(struct tree *tree, struct trace_file *f, uint32_t tid)
{
	struct builder b = {.tree = tree, .f = f};
	const struct trace_visitor visitor = {.context = &b, .enter = enter, .leave = leave};
	const struct tree_node root = {.function = TRACE_NONE,
				       .parent = TRACE_NONE,
				       .first_child = TRACE_NONE,
				       .next = TRACE_NONE};
	uint32_t *list;
	int ret;

	*tree = (struct tree){0};
	if (!array_add(&tree->nodes, &root, sizeof(root)))
		return trace_failed(f, ENOMEM);
	ret = trace_walk(f, tid, &visitor);
	hash_free(&b.children);
	if (ret)
		return ret;
	round_times(tree, f);
	list = malloc(tree->nodes.n * sizeof(*list));
	if (!list)
		return trace_failed(f, ENOMEM);
	for (uint32_t i = 0; i < tree->nodes.n; i++)
		sort_children(tree, i, list);
	free(list);
	return 0;
}

void tree_free(struct tree *tree)
{
	array_free(&tree->nodes);
}

const char *tree_name(struct trace_file *f, const struct tree_node *node)
{
	return node->function == TRACE_NONE ? "[deeper]" : trace_function_name(f, node->function);
}

uint32_t tree_next(const struct tree *tree, uint32_t i)
{
	if (tree_node(tree, i)->first_child != TRACE_NONE)
		return tree_node(tree, i)->first_child;
	while (i != TRACE_NONE && tree_node(tree, i)->next == TRACE_NONE)
		i = tree_node(tree, i)->parent;
	return i == TRACE_NONE ? TRACE_NONE : tree_node(tree, i)->next;
}
