/* SPDX-License-Identifier: MIT */
/* `shunt set`: keys of a running process, all together or none. */
#include "shunt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "remote_common.h"

#define USAGE                                                                        \
	"set PID KEY=VALUE...\n"                                                     \
	"Set keys of process PID: all of them change together, or none does.\n"      \
	"\n"                                                                         \
	"A static key takes on, off, +1, -1; a static call the functions that the\n" \
	"program has registered for it (shunt list PID), and \"initial\". Where\n"   \
	"several modules have a key of that name: MODULE:KEY=VALUE.\n"               \
	"\n"                                                                         \
	"The exit status is 1 where nothing was changed.\n"                          \
	"\n"                                                                         \
	"examples:\n"                                                                \
	"  shunt set 1234 debug=on\n"                                                \
	"  shunt set 1234 debug=on checksum=checksum_avx2 plugin.so:verbose=-1"

static int set(pid_t pid, char **settings, size_t n)
{
	const char **words = calloc(n + 1, sizeof(*words));
	int err;

	if (!words) {
		tool_complain("set: no memory");
		return EXIT_FAILURE;
	}
	words[0] = "set";
	for (size_t i = 0; i < n; i++)
		words[i + 1] = settings[i];
	err = remote_request_once("set", pid, words, n + 1, -1, NULL);
	free(words);
	return err ? EXIT_FAILURE : 0;
}

int cmd_set(int argc, char **argv)
{
	pid_t pid;

	if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		(void)puts("usage: shunt " USAGE);
		return 0;
	}
	if (argc < 3) {
		tool_complain(argc < 2 ? "PID is missing" : "KEY=VALUE is missing");
		return tool_usage(USAGE);
	}
	if (!remote_read_pid("set", argv[1], &pid))
		return EXIT_USAGE;
	for (int i = 2; i < argc; i++) {
		const char *equals = strchr(argv[i], '=');

		if (!equals || equals == argv[i] || !equals[1]) {
			tool_complain("set: %s: not KEY=VALUE", argv[i]);
			return EXIT_USAGE;
		}
	}
	return set(pid, argv + 2, (size_t)(argc - 2));
}
