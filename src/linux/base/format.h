/* SPDX-License-Identifier: MIT */
/*
 * Text for messages and file names, without the C library: printf() and the like may take
 * locks and allocate, and a message may be made in a signal handler.
 */
#ifndef SHUNT_LINUX_FORMAT_H
#define SHUNT_LINUX_FORMAT_H

#include <stdarg.h>
#include <stddef.h>

/* Where the next character goes, and the end of the room. Always ends in a NUL. */
struct shunt_line {
	char *at, *end;
	size_t longest; /* of each %s: of a longer one the middle is left out; 0: no limit */
};

/* Whether something may have been cut off at the end. */
static inline int shunt_line_is_full(const struct shunt_line *line)
{
	return line->end - line->at < 2;
}

/*
 * Append as printf() does: %s %d %u %x %p %c %%, with l or z, a width, and 0 in front
 * of it. What does not fit is cut off. Async-signal-safe.
 */
void shunt_append(struct shunt_line *line, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void shunt_append_list(struct shunt_line *line, const char *format, va_list args)
	__attribute__((format(printf, 2, 0)));

/* The same, into @room bytes at @to. */
void shunt_format(char *to, size_t room, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * Replace the control characters of @text by question marks: paths and names of others may have
 * them, and a message is one line, of which a terminal is to obey nothing. Async-signal-safe.
 */
void shunt_make_one_line(char *text);

/* What @error, a negative error number, means; never NULL. Async-signal-safe. */
const char *shunt_error_text(int error);

#endif
