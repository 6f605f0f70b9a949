/* SPDX-License-Identifier: MIT */
/* What a command says on standard error, and why a file was not taken (shunt.h). */
#include "shunt.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void tool_complain(const char *format, ...)
{
	va_list args;

	(void)fputs("shunt: ", stderr);
	va_start(args, format);
	(void)vfprintf(stderr, format, args);
	va_end(args);
	(void)fputc('\n', stderr);
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
