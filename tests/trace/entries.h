/* SPDX-License-Identifier: MIT */
/*
 * The traceable functions of a test program, handed to the library by hand: those that were
 * compiled with -fpatchable-function-entry=5, in its own section.
 */
#ifndef TESTS_TRACE_ENTRIES_H
#define TESTS_TRACE_ENTRIES_H

#include <string.h>

#include "core/ftrace.h"

/* In the place of the search for entries in files (-Wl,--wrap), which would find the same again. */
int __wrap_shunt_port_entries_lock(const char *what, const struct ftrace_ops *of);
__attribute__((weak)) int __wrap_shunt_port_entries_lock(const char *what,
							 const struct ftrace_ops *of)
{
	return shunt_port_trace_lock(what, of);
}

/* A function that has an entry, and is called as it stands. */
#ifdef __clang__
#define TRACED __attribute__((noinline, patchable_function_entry(5)))
#else
#define TRACED __attribute__((noipa, patchable_function_entry(5)))
#endif

extern const uintptr_t __start___patchable_function_entries[] __attribute__((weak));
extern const uintptr_t __stop___patchable_function_entries[] __attribute__((weak));

/* One of clang; five of one byte of gcc. */
#define MAX_ENTRIES 256
static struct shunt_entry entries[MAX_ENTRIES];
static char names[MAX_ENTRIES * 8] = "";
static struct shunt_entries set = {.entries = entries, .module = "test", .names = names};

/* What an entry becomes that calls something, made what calls nothing. */
static inline void turn_off(uint8_t *bytes)
{
#ifdef __aarch64__
	if (bytes[3] >> 2 == 5) /* b */
		memcpy(bytes, (const uint8_t[]){0x1f, 0x20, 0x03, 0xd5}, 4);
#else
	if (bytes[0] == 0xe8)
		bytes[0] = 0xa9;
#endif
}

/* Its name, as a number from 0 on: f0, f1, ... */
static inline void fill_entry(struct shunt_entry *e, uintptr_t ip, unsigned number)
{
	static unsigned at = 1;

	*e = (struct shunt_entry){
		.ip = ip, .func = ip, .len = SHUNT_PLAIN_LEN, .name = at, .kind = 1};
	memcpy(e->old, (const void *)ip, SHUNT_PLAIN_LEN);
	if (e->old[0] == 0x90)
		e->prepare = SHUNT_SINGLE_NOPS;
	names[at++] = 'f';
	if (number >= 10)
		names[at++] = (char)('0' + number / 10);
	names[at++] = (char)('0' + number % 10);
	at += 2;
}

static inline int add_entries(void)
{
	static bool added;
	int ret;

	if (added)
		return 0;
	added = true;
	for (const uintptr_t *p = __start___patchable_function_entries;
	     p < __stop___patchable_function_entries; p++) {
		size_t at = set.n++;

		for (; at && entries[at - 1].ip > *p; at--)
			entries[at] = entries[at - 1];
		entries[at].ip = *p;
	}
	for (unsigned i = 0; i < set.n; i++)
		fill_entry(&entries[i], entries[i].ip, i);
	ret = shunt_port_trace_lock("test", NULL);
	if (ret)
		return ret;
	ret = shunt_entries_add(&set);
	shunt_port_trace_unlock();
	return ret;
}

#endif
