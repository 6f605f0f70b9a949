/* SPDX-License-Identifier: MIT */
/*
 * The command line of the demo.
 */
#ifndef DEMO_OPTIONS_H
#define DEMO_OPTIONS_H

#include <stdbool.h>

struct options {
	const char *dir;
	unsigned seconds; /* how long to switch */
	unsigned rate;    /* updates a second */
	unsigned threads; /* workers */
	unsigned limit_mb;
	bool sabotage; /* let a wrong implementation in */
};

/* Ends the process for --help, and with status 1 for options that it does not understand. */
void parse_options(struct options *options, int argc, char **argv);

#endif
