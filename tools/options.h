/* SPDX-License-Identifier: MIT */
/* The options of a command whose one argument is a file. */
#ifndef SHUNT_TOOLS_OPTIONS_H
#define SHUNT_TOOLS_OPTIONS_H

#include <stdint.h>

struct tool_option {
	const char *name; /* "--name"; NULL: behind the last */
	char letter;      /* "-l"; 0: none */
	/* Its argument into *@to: returns 0, or -1 having complained. NULL: it has none. */
	int (*parse)(const char *text, void *to);
	void *to; /* where there is no argument a bool, which becomes true */
};

/*
 * Returns the file's name; or NULL, where the command is to return *@status: they are called
 * wrongly, which has been said, or with --help or -h, which has been answered by @usage.
 */
const char *tool_parse(int argc, char **argv, const char *usage, const struct tool_option *options,
		       int *status);

/* The same where the argument is no file but @what. */
const char *tool_parse_one(int argc, char **argv, const char *usage,
			   const struct tool_option *options, const char *what, int *status);

/* The same where there need be none: then it is @otherwise. */
const char *tool_parse_or(int argc, char **argv, const char *usage,
			  const struct tool_option *options, const char *otherwise, int *status);

/* A text as it is, *(const char **)@to. */
int tool_parse_text(const char *text, void *to);

/* The kernel's number of a thread, *(uint32_t *)@to; 0 is none. */
int tool_parse_tid(const char *text, void *to);

#endif
