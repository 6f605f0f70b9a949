/* SPDX-License-Identifier: MIT */
/* What a command says on standard error, and why a file was not taken (shunt.h). */
#include "shunt.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "interrupt.h"
#include "write_all.h"

/*
 * Standard error may be a pipe that nobody reads: where there are signals that are to end the
 * command, they end the wait for a reader. A pipe that poll() finds writable takes PIPE_BUF bytes.
 */
static void write_line(const char *line, size_t size)
{
	struct pollfd one = {.fd = STDERR_FILENO, .events = POLLOUT};

	while (size) {
		size_t n = size < PIPE_BUF ? size : PIPE_BUF;

		if (poll(&one, 1, 0) <= 0 && interrupt_wait(STDERR_FILENO, POLLOUT, -1))
			return;
		if (write_all(STDERR_FILENO, line, n))
			return;
		line += n;
		size -= n;
	}
}

/* In one piece. */
static void say(const char *before, const char *format, va_list args)
{
	char *line = NULL;
	size_t size;
	FILE *to = open_memstream(&line, &size);

	if (!to)
		return;
	(void)fputs(before, to);
	(void)vfprintf(to, format, args);
	(void)fputc('\n', to);
	(void)fflush(stderr);
	if (!fclose(to))
		write_line(line, size);
	free(line);
}

void tool_complain(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say("shunt: ", format, args);
	va_end(args);
}

void tool_say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say("", format, args);
	va_end(args);
}

int tool_want_one(int argc, char **argv, int index, const char *what, const char *usage)
{
	if (index == argc)
		tool_complain("%s is missing", what);
	else
		tool_complain("one %s only, and not also: %s", what, argv[index + 1]);
	return tool_usage(usage);
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
		return "not an executable or shared object for Linux on x86-64 or aarch64";
	if (error == -EINVAL)
		return "malformed or cut off";
	return strerror(-error);
}
