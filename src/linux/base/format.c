/* SPDX-License-Identifier: MIT */
/* A printf() for signal handlers (format.h): no lock, no allocation, no locale. */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "linux/base/format.h"
#include "linux/base/libc.h"

static void put(struct shunt_line *line, char c)
{
	if (line->end - line->at < 2)
		return;
	*line->at++ = c;
	*line->at = '\0';
}

static void put_string(struct shunt_line *line, const char *s)
{
	size_t i = 0, len;

	s = s ? s : "(null)";
	len = strlen(s);
	if (line->longest > 3 && len > line->longest) {
		for (; i < (line->longest - 3) / 2; i++)
			put(line, s[i]);
		for (int k = 0; k < 3; k++)
			put(line, '.');
		i += len - line->longest + 3;
	}
	for (; i < len; i++)
		put(line, s[i]);
}

static void put_number(struct shunt_line *line, uint64_t value, unsigned base, int width, char pad)
{
	char digits[20];
	int n = 0;

	do
		digits[n++] = "0123456789abcdef"[value % base];
	while (value /= base);
	for (int i = n; i < width; i++)
		put(line, pad);
	while (n)
		put(line, digits[--n]);
}

/* One conversion, from behind its '%'. */
struct conversion {
	char pad, letter;
	int width;
	bool is_long; /* l or z: 64 bits */
};

static const char *read_conversion(const char *at, struct conversion *c)
{
	*c = (struct conversion){.pad = ' '};
	if (*at == '0')
		c->pad = *at++;
	for (; *at >= '0' && *at <= '9'; at++)
		c->width = 10 * c->width + *at - '0';
	for (; *at == 'l' || *at == 'z'; at++)
		c->is_long = true;
	c->letter = *at;
	return *at ? at + 1 : at;
}

static void put_signed(struct shunt_line *line, int64_t value, const struct conversion *c)
{
	if (value < 0)
		put(line, '-');
	put_number(line, value < 0 ? -(uint64_t)value : (uint64_t)value, 10, c->width, c->pad);
}

void shunt_append_list(struct shunt_line *line, const char *format, va_list args)
{
	struct conversion c;

	while (*format) {
		if (*format != '%') {
			put(line, *format++);
			continue;
		}
		format = read_conversion(format + 1, &c);
		if (c.letter == 's') {
			put_string(line, va_arg(args, const char *));
		} else if (c.letter == 'c') {
			put(line, (char)va_arg(args, int));
		} else if (c.letter == 'p') {
			put_string(line, "0x");
			put_number(line, (uintptr_t)va_arg(args, void *), 16, 0, ' ');
		} else if (c.letter == 'd') {
			put_signed(line, c.is_long ? va_arg(args, long) : va_arg(args, int), &c);
		} else if (c.letter == 'u' || c.letter == 'x') {
			put_number(line,
				   c.is_long ? va_arg(args, unsigned long) : va_arg(args, unsigned),
				   c.letter == 'x' ? 16 : 10, c.width, c.pad);
		} else if (c.letter) {
			put(line, c.letter);
		}
	}
}

void shunt_append(struct shunt_line *line, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	shunt_append_list(line, format, args);
	va_end(args);
}

void shunt_format(char *to, size_t room, const char *format, ...)
{
	struct shunt_line line = {to, to + room, 0};
	va_list args;

	if (!room)
		return;
	*to = '\0';
	va_start(args, format);
	shunt_append_list(&line, format, args);
	va_end(args);
}

void shunt_make_one_line(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == '\177')
			*text = '?';
}

/* Those that updates return. A static executable has no strerrordesc_np() for a weak reference. */
static const char *own_text(int error)
{
	static const struct {
		int error;
		const char *text;
	} texts[] = {
		{EPERM, "Operation not permitted"},
		{ENOENT, "No such file or directory"},
		{ESRCH, "No such process"},
		{EINTR, "Interrupted system call"},
		{EIO, "Input/output error"},
		{E2BIG, "Argument list too long"},
		{ENOEXEC, "Exec format error"},
		{EBADF, "Bad file descriptor"},
		{EAGAIN, "Resource temporarily unavailable"},
		{ENOMEM, "Cannot allocate memory"},
		{EACCES, "Permission denied"},
		{EFAULT, "Bad address"},
		{EBUSY, "Device or resource busy"},
		{EINVAL, "Invalid argument"},
		{ENFILE, "Too many open files in system"},
		{EMFILE, "Too many open files"},
		{ENOSPC, "No space left on device"},
		{ERANGE, "Numerical result out of range"},
		{EDEADLK, "Resource deadlock avoided"},
		{ENOSYS, "Function not implemented"},
		{ENODATA, "No data available"},
		{EOVERFLOW, "Value too large for defined data type"},
		{EOPNOTSUPP, "Operation not supported"},
		{ETIMEDOUT, "Connection timed out"},
		{ESTALE, "Stale file handle"},
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (texts[i].error == error)
			return texts[i].text;
	return "an error without a name";
}

const char *shunt_error_text(int error)
{
	const char *text = strerrordesc_np ? strerrordesc_np(-error) : NULL;

	return text ? text : own_text(-error);
}
