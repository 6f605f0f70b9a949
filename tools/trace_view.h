/* SPDX-License-Identifier: MIT */
/*
 * What the commands that read a trace file have in common: how numbers and names are
 * shown, and the merged call tree. (Their options: options.h.)
 */
#ifndef SHUNT_TOOLS_TRACE_VIEW_H
#define SHUNT_TOOLS_TRACE_VIEW_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "trace_calls.h"
#include "trace_file.h"

#define TRACE_TIME_WIDTH 10

/* What is read where no file is named: what `shunt trace` writes without --output. */
#define TRACE_FILE "shunt.trace"

/* "  1.234 us": @ns in three digits or more, TRACE_TIME_WIDTH wide. @buf is of 32 bytes. */
const char *trace_show_ns(uint64_t ns, char *buf);

/* When the session began, in local time, to the second; "" where that is not known. */
const char *trace_show_date(const struct trace_file *f, char *buf, size_t size);

/* A function as it is called: "name()", or a C++ name, which has its arguments. */
const char *trace_parentheses(const char *name);

/*
 * The same behind a space, and with a '>' before the number where @is_open: it may have grown
 * behind the end of the recording. TRACE_COLUMN wide.
 */
#define TRACE_COLUMN (TRACE_TIME_WIDTH + 1)
const char *trace_show_bound(uint64_t ns, bool is_open, char *buf);

/* How many calls are open at the end, if any; as a note below a table, or on standard error. */
void trace_note_open(const struct trace_file *f, const char *where);
void trace_say_open(const struct trace_file *f);

/* How many calls have no time, for their returns are not recorded: of the threads that were read;
 * as a note below a table, or on standard error. */
uint64_t trace_without_return(const struct trace_file *f);
void trace_note_no_return(const struct trace_file *f);
void trace_say_no_return(const struct trace_file *f);

/* On standard error: how many calls' times may be wrong, for events were lost while they ran. */
void trace_say_lossy(const struct trace_file *f);

/* ------------------------------------------------------------------------ call tree */

/* Calls of one function by the same callers, merged. Ticks. */
struct tree_node {
	uint32_t function; /* TRACE_NONE: the root, or what is deeper than TREE_DEPTH */
	uint32_t parent, first_child, next; /* numbers of nodes; TRACE_NONE: none */
	uint32_t depth;
	uint64_t calls, timed, open, total, self; /* timed, open: of the calls */
	uint64_t inner;                           /* of what it calls, in all */
	/*
	 * @total, @self, @inner. Rounded so that they add up: a total is what it and all below it
	 * took themselves, and what passed while its stack was left.
	 */
	uint64_t total_ns, self_ns, inner_ns;
};

/* Calls that are deeper are summed in one node: recursion makes no tree of a million levels. */
#define TREE_DEPTH 512u

struct tree {
	struct array nodes; /* of struct tree_node; 0 is the root */
};

/* Make it of all calls; children are in order of their totals. Returns 0; -1, having complained. */
int tree_build(struct tree *tree, struct trace_file *f, uint32_t tid);
void tree_free(struct tree *tree);

static inline struct tree_node *tree_node(const struct tree *tree, uint32_t i)
{
	return (struct tree_node *)tree->nodes.data + i;
}

/* The name of @node's function, or "[deeper]". */
const char *tree_name(struct trace_file *f, const struct tree_node *node);

/* The next one in depth-first order; TRACE_NONE behind the last. */
uint32_t tree_next(const struct tree *tree, uint32_t i);

#endif
