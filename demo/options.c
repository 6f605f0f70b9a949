/* SPDX-License-Identifier: MIT */
/*
 * Each option has a letter that only getopt_long() and parse_option() know.
 */
#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

static void print_usage(FILE *out)
{
	fputs("Usage: shunt-demo [OPTION]...\n"
	      "Digest files on several threads through one static call, and switch the\n"
	      "implementation of the digest under them.\n"
	      "\n"
	      "  --seconds N    how long to switch by each way of poking (default 5)\n"
	      "  --rate N       updates a second (default 1000)\n"
	      "  --dir PATH     digest the files under PATH (default /usr/include)\n"
	      "  --threads N    worker threads (default 2)\n"
	      "  --limit-mb N   leave out files beyond N MB in all (default 512)\n"
	      "  --sabotage     add a wrong implementation: the demo must fail\n"
	      "  --help         print this and exit\n"
	      "\n"
	      "The exit status is 0 if all went well and 1 if anything was wrong.\n",
	      out);
}

static bool parse_number(const char *text, unsigned max, unsigned *number)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	/* strtoul() takes a sign and blanks, and turns what is too large into ULONG_MAX. */
	if (text[0] < '0' || text[0] > '9' || *end != '\0' || value < 1 || value > max) {
		fprintf(stderr, "shunt-demo: %s: not a number from 1 to %u\n", text, max);
		return false;
	}
	*number = (unsigned)value;
	return true;
}

static bool parse_option(struct options *options, int letter)
{
	switch (letter) {
	case 's':
		return parse_number(optarg, 1000000, &options->seconds);
	case 'r':
		return parse_number(optarg, 1000000, &options->rate);
	case 't':
		return parse_number(optarg, 1024, &options->threads);
	case 'l':
		return parse_number(optarg, 1000000, &options->limit_mb);
	case 'd':
		options->dir = optarg;
		return true;
	case 'x':
		options->sabotage = true;
		return true;
	default:
		return false;
	}
}

void parse_options(struct options *options, int argc, char **argv)
{
	static const struct option known[] = {
		{"seconds", required_argument, NULL, 's'},
		{"rate", required_argument, NULL, 'r'},
		{"dir", required_argument, NULL, 'd'},
		{"threads", required_argument, NULL, 't'},
		{"limit-mb", required_argument, NULL, 'l'},
		{"sabotage", no_argument, NULL, 'x'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int letter;

	*options = (struct options){
		.dir = "/usr/include", .seconds = 5, .rate = 1000, .threads = 2, .limit_mb = 512};
	while ((letter = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (letter == 'h') {
			print_usage(stdout);
			exit(fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
		}
		if (!parse_option(options, letter))
			exit(EXIT_FAILURE);
	}
	if (optind < argc) {
		print_usage(stderr);
		exit(EXIT_FAILURE);
	}
}
