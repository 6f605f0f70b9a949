/* SPDX-License-Identifier: MIT */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "shunt.h"

#define MOST 8 /* options of a command, --help beside */

/* What getopt_long() returns for options[i], spelt out. */
#define BY_NAME(i) (256 + (int)(i))

static const struct tool_option *find(const struct tool_option *options, int c)
{
	for (size_t i = 0; options[i].name; i++)
		if (c == BY_NAME(i) || (options[i].letter && c == options[i].letter))
			return &options[i];
	return NULL;
}

/* For getopt_long(). */
static void list(const struct tool_option *options, struct option names[MOST + 2],
		 char letters[2 * MOST + 2])
{
	*letters++ = 'h';
	*names++ = (struct option){"help", no_argument, NULL, 'h'};
	for (size_t i = 0; options[i].name && i < MOST; i++) {
		bool takes = options[i].parse;

		*names++ = (struct option){options[i].name, takes ? required_argument : no_argument,
					   NULL, BY_NAME(i)};
		if (options[i].letter)
			*letters++ = options[i].letter;
		if (options[i].letter && takes)
			*letters++ = ':';
	}
}

const char *tool_parse(int argc, char **argv, const char *usage, const struct tool_option *options,
		       int *status)
{
	return tool_parse_one(argc, argv, usage, options, "FILE", status);
}

/* All options: 0; -1 where the command is to return *@status. */
static int take_options(int argc, char **argv, const char *usage, const struct tool_option *options,
			int *status)
{
	struct option names[MOST + 2] = {0};
	char letters[2 * MOST + 2] = "";
	int c;

	list(options, names, letters);
	*status = EXIT_USAGE;
	while ((c = getopt_long(argc, argv, letters, names, NULL)) != -1) {
		const struct tool_option *option = find(options, c);

		if (c == 'h') {
			(void)printf("usage: shunt %s\n", usage);
			*status = 0;
			return -1;
		}
		if (!option) {
			(void)tool_usage(usage);
			return -1;
		}
		if (!option->parse)
			*(bool *)option->to = true;
		else if (option->parse(optarg, option->to))
			return -1;
	}
	return 0;
}

const char *tool_parse_one(int argc, char **argv, const char *usage,
			   const struct tool_option *options, const char *what, int *status)
{
	if (take_options(argc, argv, usage, options, status))
		return NULL;
	if (optind == argc - 1)
		return argv[optind];
	*status = tool_want_one(argc, argv, optind, what, usage);
	return NULL;
}

const char *tool_parse_or(int argc, char **argv, const char *usage,
			  const struct tool_option *options, const char *otherwise, int *status)
{
	if (take_options(argc, argv, usage, options, status))
		return NULL;
	if (optind >= argc - 1)
		return optind == argc ? otherwise : argv[optind];
	*status = tool_want_one(argc, argv, optind, "FILE", usage);
	return NULL;
}

int tool_parse_text(const char *text, void *to)
{
	*(const char **)to = text;
	return 0;
}

int tool_parse_tid(const char *text, void *to)
{
	char *end;
	unsigned long value;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || !value || value > UINT32_MAX) {
		tool_complain("%s: not the number of a thread", text);
		return -1;
	}
	*(uint32_t *)to = (uint32_t)value;
	return 0;
}
