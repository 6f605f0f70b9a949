/* SPDX-License-Identifier: MIT */
/* `shunt bench`: its options. The benchmark itself is in bench/. */
#include "bench.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

static const char usage[] =
	"usage: shunt bench [trace] [--quick] [--json FILE] [--svg FILE]\n"
	"\n"
	"Measures what calls, branches and updates cost on this machine, each against a\n"
	"floor or a peer measured in the same rounds, and prints a table; with the word\n"
	"trace, what function tracing costs.\n"
	"\n"
	"  --quick      fewer rounds: under 30 s on a quiet machine, instead of 3 minutes\n"
	"  --json FILE  all rows with minimum, quartiles, median and maximum\n"
	"  --svg FILE   a plot of the calls, of what updates cost others, and of many sites\n"
	"\n"
	"  -h, --help   say this\n"
	"\n"
	"Calls through the PLT of a shared object (shunt-bench-plugin.so), what 100,000 sites "
	"cost,\n"
	"XRay, and tracing are measured with files of the build folder, while it is there, or of "
	"the\n"
	"folder that SHUNT_BENCH_DIR names. All but the first are built with -Dbench=enabled "
	"only.\n"
	"Rows whose files are missing say that they were left out.\n"
	"\n"
	"Exit status: 0; 1 where something could not be measured or written; 2 where it\n"
	"was called wrongly.\n"
	"\n"
	"example:\n"
	"  shunt bench --quick --json rows.json --svg calls.svg\n";

int cmd_bench(int argc, char **argv)
{
	static const struct option options[] = {{"quick", no_argument, NULL, 'q'},
						{"json", required_argument, NULL, 'j'},
						{"svg", required_argument, NULL, 's'},
						{"help", no_argument, NULL, 'h'},
						{NULL, 0, NULL, 0}};
	const char *json = NULL, *svg = NULL;
	bool quick = false, trace = false;
	int option;

	optind = 1;
	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (option == 'q') {
			quick = true;
		} else if (option == 'j') {
			json = optarg;
		} else if (option == 's') {
			svg = optarg;
		} else {
			fputs(usage, option == 'h' ? stdout : stderr);
			return option == 'h' ? 0 : 2;
		}
	}
	if (optind < argc && !strcmp(argv[optind], "trace")) {
		trace = true;
		optind++;
	}
	if (optind < argc) {
		fprintf(stderr, "shunt: no argument is expected: %s\n%s", argv[optind], usage);
		return 2;
	}
	return bench_all(quick, trace, json, svg) ? 1 : 0;
}
