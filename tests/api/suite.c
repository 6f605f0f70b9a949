/* SPDX-License-Identifier: MIT */
/*
 * The portable suite's main(). Usage:
 *
 *	suite [--partial|--trampoline] [--plugin FILE] [--updates N]
 *
 * --partial     some calls are expected not to be inline (clang -fno-plt)
 * --trampoline  none is (no relocations)
 * --plugin      the plugin to load; without it those tests are skipped
 * --updates     how many while threads call, instead of 2000
 */
#include <stdlib.h>
#include <string.h>

#include "suite.h"
#include "tap.h"

struct options options = {.updates = 2000};
volatile int zero;

static void parse(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--partial"))
			options.expect = EXPECT_PARTIAL;
		else if (!strcmp(argv[i], "--trampoline"))
			options.expect = EXPECT_TRAMPOLINE;
		else if (!strcmp(argv[i], "--plugin") && i + 1 < argc)
			options.plugin = argv[++i];
		else if (!strcmp(argv[i], "--updates") && i + 1 < argc)
			options.updates = strtoul(argv[++i], NULL, 10);
		else
			exit(2);
	}
}

int main(int argc, char **argv)
{
	parse(argc, argv);
	test_early();
	test_calls();
	test_errors();
	test_inspect();
	test_threads();
	test_modules();
	return tap_done();
}
