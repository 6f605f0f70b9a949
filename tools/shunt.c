/* SPDX-License-Identifier: MIT */
/*
 * The shunt program: which commands there are. Each is a file that is named after it, or begins
 * there.
 */
#include "shunt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *what;
} commands[] = {
	{"sites", cmd_sites, "list the static calls and static keys of an ELF file"},
	{"bake", cmd_bake, "put a site table and direct calls into an ELF file"},
	{"selftest", cmd_selftest, "try live patching on this machine"},
#ifdef SHUNT_HAVE_TRACING
	{"trace", cmd_trace,
	 "run a command, or look at a process, and record which functions run when"},
#endif
#ifdef SHUNT_HAVE_BENCH
	{"bench", cmd_bench, "measure calls, branches and updates"},
#endif
#ifdef SHUNT_HAVE_TRACING
	{"ps", cmd_ps, "list processes with Shunt in them"},
	{"list", cmd_list, "list keys, functions, modules of a running process"},
	{"set", cmd_set, "set keys of a running process"},
	{"stats", cmd_stats, "counters of a running process"},
	{"snapshot", cmd_snapshot, "save the last recorded calls of a running process"},
	{"attach", cmd_attach, "put Shunt's agent into a running process"},
	{"detach", cmd_detach, "end the agent, with all that it traces"},
#endif
	{"report", cmd_report, "how often functions of a recorded session ran, and how long"},
	{"replay", cmd_replay, "the calls of a recorded session, as they ran"},
	{"graph", cmd_graph, "the merged call tree of a recorded session"},
	{"export", cmd_export,
	 "a recorded session for Chrome, Perfetto, callgrind, as a flame graph"},
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void help(FILE *to)
{
	(void)fputs("usage: shunt COMMAND [ARGUMENT...]\n\n", to);
	for (size_t i = 0; i < COMMANDS; i++)
		(void)fprintf(to, "  %-9s %s\n", commands[i].name, commands[i].what);
	(void)fputs("\nshunt COMMAND --help says more; shunt --version says which it is.\n", to);
}

/* @status, or 1 where not all of the output could be written. */
static int flush_output(int status)
{
	if (fflush(stdout) || ferror(stdout)) {
		tool_complain("standard output: %s", strerror(errno));
		return 1;
	}
	return status;
}

static const struct command *find(const char *name)
{
	for (size_t i = 0; i < COMMANDS; i++)
		if (!strcmp(name, commands[i].name))
			return &commands[i];
	tool_complain("no such command: %s (shunt --help lists them)", name);
	return NULL;
}

/* getopt_long() begins what it has to say with argv[0]. */
static int run_command(const struct command *command, int argc, char **argv)
{
	static char full_name[32];

	(void)snprintf(full_name, sizeof(full_name), "shunt %s", command->name);
	argv[0] = full_name;
	return command->run(argc, argv);
}

static int help_with(const char *name)
{
	static char option[] = "--help";
	char *argv[] = {option, option, NULL};
	const struct command *command = find(name);

	return command ? flush_output(run_command(command, 2, argv)) : EXIT_USAGE;
}

/*
 * Where one of the first three descriptors is closed, none of ours gets its number: what is printed
 * would go into a file that is written. It fails, and a command that is run finds it closed.
 */
static void open_standard_descriptors(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0)
			(void)open("/dev/null", (fd ? O_RDONLY : O_WRONLY) | O_CLOEXEC);
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : NULL;
	const struct command *command;

	open_standard_descriptors();
	if (!name) {
		help(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(name, "--version") || !strcmp(name, "-V")) {
		(void)puts("shunt " SHUNT_VERSION);
		return flush_output(0);
	}
	if (!strcmp(name, "help") && argc > 2)
		return help_with(argv[2]);
	if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help")) {
		help(stdout);
		return flush_output(0);
	}
	command = find(name);
	return command ? flush_output(run_command(command, argc - 1, argv + 1)) : EXIT_USAGE;
}
