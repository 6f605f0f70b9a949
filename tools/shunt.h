/* SPDX-License-Identifier: MIT */
/*
 * What the files of the shunt program tell each other: one function for each
 * subcommand, and how they complain.
 *
 * A subcommand gets its own arguments, argv[0] being its name, and returns the
 * exit status: 0; 1 where it failed; 2 where it was called wrongly.
 */
#ifndef SHUNT_TOOLS_SHUNT_H
#define SHUNT_TOOLS_SHUNT_H

#include <stddef.h>

int cmd_sites(int argc, char **argv);
int cmd_bake(int argc, char **argv);
int cmd_selftest(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_trace(int argc, char **argv);
int cmd_attach(int argc, char **argv);
int cmd_detach(int argc, char **argv);
int cmd_report(int argc, char **argv);
int cmd_replay(int argc, char **argv);
int cmd_graph(int argc, char **argv);
int cmd_export(int argc, char **argv);
int cmd_ps(int argc, char **argv);
int cmd_list(int argc, char **argv);
int cmd_set(int argc, char **argv);
int cmd_stats(int argc, char **argv);
int cmd_snapshot(int argc, char **argv);

enum { EXIT_USAGE = 2 };

/* A line on standard error, "shunt: ...". */
void tool_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same without "shunt: " before it. */
void tool_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Say on standard error how a subcommand is called; returns EXIT_USAGE. */
int tool_usage(const char *usage);

/* The same where there is not one argument from argv[index] on, @what; says what is wrong. */
int tool_want_one(int argc, char **argv, int index, const char *what, const char *usage);

/*
 * Read the regular file at @path into memory of malloc(): a copy, because a file
 * that is mapped can be cut off under its reader.
 *
 * Returns 0 or -errno.
 */
int tool_read_file(const char *path, void **image, size_t *size);

/* In pointers, why inventory_open() or shunt_bake() did not take a file: error, or @why. */
const char *tool_why(int error, const char *why);

/* What makes the plural of a noun behind @n. */
static inline const char *tool_plural(size_t n)
{
	return n == 1 ? "" : "s";
}

#endif
