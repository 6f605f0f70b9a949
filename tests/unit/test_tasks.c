/* SPDX-License-Identifier: MIT */
/*
 * The list of threads, one file of the port alone, over a kernel that says what it is told. A
 * signal that is not blocked (SIGBUS, from another thread) ends getdents64(2) early: then the list
 * is made again, and only a directory without even itself is one that a filter answers for. One
 * that has no thread at all is another file system's, and an error at once.
 *
 * Control (list): what is cut short is answered with nothing at all, as by a filter, and what a
 * filter answers with a list.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "control.h"
#include "linux/base/base.h"
#include "linux/base/syscall.h"

__thread const char *shunt_failed_call;

static struct {
	unsigned threads;
	unsigned cut;   /* how many of the calls are cut short */
	unsigned shown; /* entries that those bring; 0: nothing, as of a filter */
	bool handled;   /* a handler runs behind each of them, whose own update is refused */
	bool is_empty;  /* the directory, whatever the number of its links */
	bool begun;     /* it has been read since it was opened, or rewound */
	unsigned calls, seeks, open;
} fake;

static int fake_open(const char *path, int flags)
{
	(void)path;
	(void)flags;
	fake.open++;
	fake.begun = false;
	return 77;
}

static void fake_close(int fd)
{
	assert_int_equal(fd, 77);
	fake.open--;
}

/* @n entries of the directory: itself, the one above, threads. */
static long fill(char *to, unsigned n)
{
	for (unsigned i = 0; i < n; i++, to += 32) {
		uint16_t size = 32;

		memset(to, 0, size);
		memcpy(to + 16, &size, sizeof(size));
		(void)snprintf(to + 19, 13, "%s%.0u",
			       i == 0   ? "."
			       : i == 1 ? ".."
					: "1",
			       i < 2 ? 0 : i);
	}
	return 32l * n;
}

static long list(void *entries)
{
	bool on = fake.begun, cut;

	fake.begun = true;
	if (on)
		return fake.is_empty ? 0 : fill(entries, 1);
	cut = fake.calls++ < fake.cut;
	if (fake.is_empty)
		return fill(entries, is_control("list") ? 3 : 2);
	if (cut && fake.handled)
		shunt_failed_call = NULL;
	if (is_control("list"))
		return cut && fake.shown ? 0 : fill(entries, cut ? fake.threads + 2 : 2);
	return fill(entries, cut ? fake.shown : fake.threads + 2);
}

static long fake_syscall(long number, long a, long b, long c, long d)
{
	(void)a;
	(void)c;
	(void)d;
	switch (number) {
	case SYS_fstat:
		((struct stat *)b)->st_nlink =
			fake.threads + 2; /* NOLINT(performance-no-int-to-ptr) */
		return 0;
	case SYS_getdents64:
		return list((void *)b); /* NOLINT(performance-no-int-to-ptr) */
	case SYS_lseek:
		fake.seeks++;
		fake.begun = false;
		return 0;
	default:
		return -ENOSYS;
	}
}

int shunt_port_no_memory(void)
{
	return -ENOMEM;
}

void *shunt_port_alloc(size_t size)
{
	return calloc(1, size);
}

void shunt_port_free(void *at, size_t size)
{
	(void)size;
	free(at);
}

#define shunt_fd_open  fake_open
#define shunt_fd_close fake_close
#define shunt_syscall  fake_syscall

/* As part of this file, or the macros would not reach it. */
#include "linux/base/tasks.c" /* NOLINT(bugprone-suspicious-include) */

static int list_with(unsigned threads, unsigned cut, unsigned shown, struct shunt_tasks *tasks)
{
	int ret;

	fake.threads = threads;
	fake.cut = cut;
	fake.shown = shown;
	fake.calls = fake.seeks = 0;
	shunt_failed_call = NULL;
	ret = shunt_tasks_list(tasks);
	assert_int_equal(fake.open, 0);
	return ret;
}

/* Before the first thread, and in the middle of them. */
static void cut_short(void **unused)
{
	struct shunt_tasks tasks = {0};

	(void)unused;
	for (unsigned shown = 1; shown < 5; shown++) {
		assert_int_equal(list_with(3, 2, shown, &tasks), 0);
		assert_true(tasks.complete);
		assert_int_equal(tasks.n, 3);
		assert_int_equal(fake.calls, 3);
		assert_int_equal(fake.seeks, 2);
		assert_null(shunt_failed_call);
	}
	free(tasks.entries);
}

/* No error of the kernel's: the caller is told that some are left out. */
static void always_cut_short(void **unused)
{
	struct shunt_tasks tasks = {0};

	(void)unused;
	for (unsigned shown = 1; shown < 5; shown++) {
		assert_int_equal(list_with(3, ~0u, shown, &tasks), 0);
		assert_false(tasks.complete);
		assert_int_equal(tasks.n, shown < 2 ? 0 : shown - 2);
	}
	free(tasks.entries);
}

/* It is named, also where a handler ran meanwhile. */
static void filtered(void **unused)
{
	struct shunt_tasks tasks = {0};

	(void)unused;
	for (int handled = 0; handled < 2; handled++) {
		fake.handled = handled;
		assert_int_equal(list_with(3, ~0u, 0, &tasks), -EPERM);
		assert_string_equal(shunt_failed_call, "getdents64(/proc/self/task)");
		assert_int_equal(fake.calls, 1);
	}
	fake.handled = false;
	free(tasks.entries);
}

static void empty(void **unused)
{
	struct shunt_tasks tasks = {0};

	(void)unused;
	fake.is_empty = true;
	for (unsigned links = 0; links < 4; links++) {
		assert_int_equal(list_with(links, 0, 0, &tasks), -EPERM);
		assert_string_equal(shunt_failed_call, "getdents64(/proc/self/task)");
		assert_int_equal(fake.calls, 1);
	}
	fake.is_empty = false;
	free(tasks.entries);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cut_short),
		cmocka_unit_test(always_cut_short),
		cmocka_unit_test(filtered),
		cmocka_unit_test(empty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
