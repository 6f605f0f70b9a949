/* SPDX-License-Identifier: MIT */
/*
 * Output through port 0xE9, which QEMU (-debugcon) and Bochs (port_e9_hack) both show;
 * checks as lines of the Test Anything Protocol; the end.
 */
#include <stdarg.h>

#include "cpus.h"
#include "kernel.h"
#include "spinlock.h"

#define DEBUG_PORT 0xe9

static struct spinlock lock;

/* A line is put together first, so that the lock is held for short. */
struct line {
	char text[240];
	size_t n;
};

static void put(struct line *line, char c)
{
	if (line->n < sizeof(line->text))
		line->text[line->n++] = c;
}

static void put_string(struct line *line, const char *s)
{
	while (*s)
		put(line, *s++);
}

static void put_number(struct line *line, unsigned long value, unsigned base)
{
	char digits[20];
	size_t n = 0;

	do {
		digits[n++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	while (n)
		put(line, digits[--n]);
}

static void put_signed(struct line *line, long value)
{
	if (value < 0)
		put(line, '-');
	put_number(line, value < 0 ? -(unsigned long)value : (unsigned long)value, 10);
}

/* One conversion, behind the %. Returns what is behind it. */
static const char *convert(struct line *line, const char *f, va_list *args)
{
	bool is_long = *f == 'l';

	f += is_long;
	switch (*f) {
	case 'd':
		put_signed(line, is_long ? va_arg(*args, long) : va_arg(*args, int));
		break;
	case 'u':
	case 'x':
		put_number(line, is_long ? va_arg(*args, unsigned long) : va_arg(*args, unsigned),
			   *f == 'u' ? 10 : 16);
		break;
	case 'p':
		put_string(line, "0x");
		put_number(line, (uintptr_t)va_arg(*args, void *), 16);
		break;
	case 's':
		put_string(line, va_arg(*args, const char *));
		break;
	case 'c':
		put(line, (char)va_arg(*args, int));
		break;
	default:
		put(line, *f);
	}
	return f + 1;
}

static void format(struct line *line, const char *f, va_list *args)
{
	while (*f) {
		if (*f == '%')
			f = convert(line, f + 1, args);
		else
			put(line, *f++);
	}
}

static void write_line(const struct line *line)
{
	for (size_t i = 0; i < line->n; i++)
		outb(DEBUG_PORT, (uint8_t)line->text[i]);
}

static void write_locked(const struct line *line)
{
	bool irqs = spin_lock(&lock);

	write_line(line);
	spin_unlock(&lock, irqs);
}

void print(const char *text, ...)
{
	struct line line = {.n = 0};
	va_list args;

	va_start(args, text);
	format(&line, text, &args);
	va_end(args);
	write_locked(&line);
}

/* ------------------------------------------------------------------------- TAP */

static unsigned checks, failed;

bool ok(bool good, const char *text, ...)
{
	struct line line = {.n = 0};
	va_list args;

	if (!good) {
		put_string(&line, "not ");
		failed++;
	}
	put_string(&line, "ok ");
	put_number(&line, ++checks, 10);
	put_string(&line, " - ");
	va_start(args, text);
	format(&line, text, &args);
	va_end(args);
	put(&line, '\n');
	write_locked(&line);
	return good;
}

/* What run.py looks for: without it the kernel has not come to its end. */
static void last_line(int status)
{
	struct line line = {.n = 0};

	put_string(&line, "# kernel: exit ");
	put_signed(&line, status);
	put(&line, '\n');
	write_line(&line);
}

void tap_quit(int status)
{
	last_line(status);
	machine_exit(status);
}

void tap_done(void)
{
	print("1..%u\n", checks);
	tap_quit(failed != 0);
}

void panic(const char *text, ...)
{
	static _Atomic uint32_t panics;
	struct line line = {.n = 0};
	va_list args;

	irq_disable();
	while (panics++) /* another CPU is at it already */
		for (;;)
			__asm__ volatile("hlt");
	put_string(&line, "\nnot ok ");
	put_number(&line, ++checks, 10);
	put_string(&line, " - panic on CPU ");
	put_number(&line, this_cpu()->id, 10);
	put_string(&line, ": ");
	va_start(args, text);
	format(&line, text, &args);
	va_end(args);
	put_string(&line, "\n1..");
	put_number(&line, checks, 10);
	put(&line, '\n');
	write_line(&line);
	tap_quit(1);
}

/* QEMU's isa-debug-exit; where that did nothing, Bochs's own port. */
void machine_exit(int status)
{
	static const char shutdown[] = "Shutdown";

	outb(0xf4, (uint8_t)status);
	for (const char *c = shutdown; *c; c++)
		outb(0x8900, (uint8_t)*c);
	for (;;)
		__asm__ volatile("cli; hlt");
}
