/* SPDX-License-Identifier: MIT */
/* What the recorder failed with, by the library's way for messages. */
#include <stdarg.h>
#include <stdio.h>

#include "linux/base/base.h"
#include "trace/failed.h"

int trace_failed(int error, const char *format, ...)
{
	char text[SHUNT_MESSAGE_MAX];
	va_list args;

	va_start(args, format);
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): va_start() is above */
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	shunt_message("%s", text);
	return error;
}
