/* SPDX-License-Identifier: MIT */
/* `shunt set`: keys of a running process, all together or none. */
#include "shunt.h"

#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "remote_common.h"

#define USAGE                                                                        \
	"set PID KEY=VALUE...\n"                                                     \
	"Set keys of process PID: all of them change together, or none does.\n"      \
	"\n"                                                                         \
	"A static key takes on, off, +1, -1; a static call the functions that the\n" \
	"program has registered for it (shunt list PID), \"initial\" or its name,\n" \
	"and \"NULL\" or \"RET0\" where it was defined so. Where several modules\n"  \
	"have a key of that name: MODULE:KEY=VALUE.\n"                               \
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

/* KEY=VALUE, each of them; false: one is not, which has been said. */
static bool are_settings(char **settings, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const char *equals = strchr(settings[i], '=');

		if (equals && equals != settings[i] && equals[1])
			continue;
		tool_complain("set: %s: not KEY=VALUE", settings[i]);
		return false;
	}
	return true;
}

int cmd_set(int argc, char **argv)
{
	static const struct option options[] = {{"help", no_argument, NULL, 'h'},
						{NULL, 0, NULL, 0}};
	int option, left;
	pid_t pid;

	optind = 1;
	while ((option = getopt_long(argc, argv, "+h", options, NULL)) != -1) {
		if (option != 'h')
			return tool_usage(USAGE);
		(void)puts("usage: shunt " USAGE);
		return 0;
	}
	left = argc - optind;
	if (left < 2) {
		tool_complain(left ? "KEY=VALUE is missing" : "PID is missing");
		return tool_usage(USAGE);
	}
	if (!remote_read_pid("set", argv[optind], &pid) ||
	    !are_settings(argv + optind + 1, (size_t)left - 1))
		return EXIT_USAGE;
	return set(pid, argv + optind + 1, (size_t)left - 1);
}
