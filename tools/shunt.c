/* SPDX-License-Identifier: MIT */
/*
 * The shunt program: looks at the static calls of ELF files, bakes them into the
 * files, and tries on this machine whether live patching works.
 */
#include "shunt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *what;
} commands[] = {
	{"sites", cmd_sites, "list the static calls and static keys of an ELF file"},
	{"bake", cmd_bake, "put a site table and direct calls into an ELF file"},
	{"selftest", cmd_selftest, "try live patching on this machine"},
	{"trace", cmd_trace, "run a command and record which functions run when"},
#ifdef SHUNT_HAVE_BENCH
	{"bench", cmd_bench, "measure calls, branches and updates"},
#endif
	{"attach", cmd_attach, "put Shunt's agent into a running process"},
	{"detach", cmd_detach, "end the agent, with all that it traces"},
	{"report", cmd_report, "how often functions of a recorded session ran, and how long"},
	{"replay", cmd_replay, "the calls of a recorded session, as they ran"},
	{"graph", cmd_graph, "the merged call tree of a recorded session"},
	{"export", cmd_export,
	 "a recorded session for Chrome, Perfetto, callgrind, as a flame graph"},
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

void tool_complain(const char *format, ...)
{
	va_list args;

	(void)fputs("shunt: ", stderr);
	va_start(args, format);
	(void)vfprintf(stderr, format, args);
	va_end(args);
	(void)fputc('\n', stderr);
}

int tool_usage(const char *usage)
{
	(void)fprintf(stderr, "usage: shunt %s\n", usage);
	return EXIT_USAGE;
}

const char *tool_why(int error, const char *why)
{
	if (why)
		return why;
	if (error == -ENOEXEC)
		return "not an executable or shared object for x86-64 Linux";
	if (error == -EINVAL)
		return "malformed or cut off";
	return strerror(-error);
}

/* Fill @buf with all @size bytes of @fd. */
static int read_all(int fd, char *buf, size_t size)
{
	while (size) {
		ssize_t n = read(fd, buf, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO; /* it became shorter meanwhile */
		buf += n;
		size -= (size_t)n;
	}
	return 0;
}

static int read_open_file(int fd, void **image, size_t *size)
{
	struct stat st;
	int ret;

	if (fstat(fd, &st))
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode))
		return -ENOEXEC;
	*size = (size_t)st.st_size;
	*image = malloc(*size + 1);
	if (!*image)
		return -ENOMEM;
	ret = read_all(fd, *image, *size);
	if (ret) {
		free(*image);
		*image = NULL;
	}
	return ret;
}

int tool_read_file(const char *path, void **image, size_t *size)
{
	/* O_NONBLOCK: do not wait for the other end of a FIFO. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int ret;

	if (fd < 0)
		return -errno;
	ret = read_open_file(fd, image, size);
	(void)close(fd);
	return ret;
}

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

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : NULL;

	if (!name) {
		help(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(name, "--version")) {
		(void)puts("shunt " SHUNT_VERSION);
		return flush_output(0);
	}
	if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help")) {
		help(stdout);
		return flush_output(0);
	}
	for (size_t i = 0; i < COMMANDS; i++)
		if (!strcmp(name, commands[i].name))
			return flush_output(commands[i].run(argc - 1, argv + 1));
	tool_complain("no such command: %s", name);
	help(stderr);
	return EXIT_USAGE;
}
