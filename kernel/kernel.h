/* SPDX-License-Identifier: MIT */
/*
 * What every part of the kernel, and every test in it, may use: output, the command
 * line, and the tests themselves.
 */
#ifndef KERNEL_KERNEL_H
#define KERNEL_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memory.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* ------------------------------------------------------------------- string.c */

void *memset(void *to, int byte, size_t n);
void *memcpy(void *to, const void *from, size_t n);
void *memmove(void *to, const void *from, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);
int strncmp(const char *a, const char *b, size_t n);

/* A pseudo-random number (Marsaglia's generator); *@state is not 0. */
static inline uint32_t xorshift(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

/* ------------------------------------------------------------------ console.c */

/*
 * To port 0xE9, which both emulators show. %d %u %x with an optional l, %s, %p, %c, %%.
 * Any context; lines of several CPUs do not mix, except in a panic.
 */
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The check that is running failed for good: say so, as TAP, and end the emulator. */
void panic(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* Where run.py --schedule begins: a breakpoint to Bochs, else nothing. */
static inline void schedule_point(void)
{
	__asm__ volatile("xchgw %bx, %bx");
}

/* End the emulator. 0: good. */
void machine_exit(int status) __attribute__((noreturn));

/* ------------------------------------------------------------------ cmdline.c */

/*
 * The command line: words, and words of the form name=value. (QEMU: -append; Bochs:
 * sector 1 of the disk. run.py does both.)
 */
void cmdline_init(const char *text);
bool cmdline_has(const char *word);
/* The number behind "name="; @otherwise where it is not there. */
unsigned long cmdline_number(const char *name, unsigned long otherwise);
/* Whether "name=value" is there. */
bool cmdline_is(const char *name, const char *value);
/* Whether @item is one of those in "name=ITEM,ITEM,...". */
bool cmdline_lists(const char *name, const char *item);
/* A word that nobody has asked for, with all that follows it; NULL: none. */
const char *cmdline_unknown(void);

/* ----------------------------------------------------------------------- tests */

/*
 * A test that the word @name on the command line asks for. A file adds one by
 *
 *	KERNEL_TEST("production", test_production);
 *
 * It runs on CPU 0 with interrupts on and all other CPUs idle (smp.h), and says what
 * it found by ok(). Tests run in the order of the link.
 */
struct kernel_test {
	const char *name;
	void (*run)(void);
};
#define KERNEL_TEST(name, function)                              \
	static const struct kernel_test __kernel_test_##function \
		__attribute__((used, section(".tests"), aligned(8))) = {name, function}

/* One check, one line of TAP. Returns @good. CPU 0, outside interrupts. */
bool ok(bool good, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The plan, and the kernel's last line, which run.py waits for; ends the emulator. */
void tap_done(void) __attribute__((noreturn));
/* The last line alone. */
void tap_quit(int status) __attribute__((noreturn));

#endif
