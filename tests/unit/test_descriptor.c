/* SPDX-License-Identifier: MIT */
/*
 * Descriptors, one file of the port alone, with a hook before each of its system calls: what the
 * program does at that very moment. Nothing that can be written to has the number 0, 1 or 2
 * at any time, what the program puts there meanwhile stays, and what is kept is known by
 * its offset, on file systems with short files too.
 *
 * Control: open() itself, with these closed.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "linux/base/syscall.h"

static long hooked(long nr, long a, long b, long c, long d);

/* NOLINTNEXTLINE(bugprone-macro-parentheses) */
#define shunt_syscall hooked
#include "../../src/linux/base/descriptor.c" /* NOLINT(bugprone-suspicious-include) */

__thread const char *shunt_failed_call;

/* The first thread has not ended. */
bool shunt_first_thread_has_ended(void)
{
	return false;
}

void shunt_format(char *to, size_t room, const char *format, ...)
{
	(void)room;
	(void)format;
	*to = '\0';
}
#undef shunt_syscall

static struct {
	bool has_low;     /* a file of ours had the number 0, 1 or 2 */
	int puts_at;      /* a number at which the program puts a file; -1: none */
	off_t longest;    /* a file may be; 0: as long as one likes */
	unsigned too_far; /* how often more was asked for */
} moment = {.puts_at = -1};

static long hooked(long nr, long a, long b, long c, long d)
{
	for (int fd = 0; fd < 3; fd++) {
		int flags = fcntl(fd, F_GETFL);

		if (flags >= 0 && !(flags & O_PATH) && fd != moment.puts_at)
			moment.has_low = true;
	}
	if (nr == SYS_fcntl && b == F_GETFL && a == moment.puts_at)
		assert_int_equal(dup2(100, moment.puts_at), moment.puts_at);
	if (nr == SYS_lseek && moment.longest && b > moment.longest) {
		moment.too_far++;
		return -EINVAL;
	}
	return shunt_syscall(nr, a, b, c, d);
}

/* In a child, which exits with the line that is wrong. */
#define EXPECT(holds)                              \
	do {                                       \
		if (!(holds))                      \
			_exit(__LINE__ % 251 + 1); \
	} while (0)

/* The status of a child whose descriptors below 100 are closed; that has a file of the program's.
 */
static int in_child(void (*fn)(void))
{
	int status = -1;
	pid_t pid = fork();

	if (!pid) {
		(void)dup2(open("/proc/self/status", O_RDONLY | O_CLOEXEC), 100);
		(void)close_range(0, 99, 0);
		fn();
		_exit(0);
	}
	assert_true(waitpid(pid, &status, 0) == pid);
	return status;
}

static bool are_closed(void)
{
	return fcntl(0, F_GETFD) < 0 && fcntl(1, F_GETFD) < 0 && fcntl(2, F_GETFD) < 0;
}

static void open_both(void)
{
	int64_t mark;
	int fd = shunt_fd_open("/proc/self/exe", O_RDONLY), kept;

	EXPECT(fd > 2 && !moment.has_low && are_closed());
	EXPECT(fcntl(fd, F_GETFD) == FD_CLOEXEC);
	kept = shunt_fd_open_kept("/proc/self/exe", O_RDONLY, &mark);
	EXPECT(kept >= 50 && !moment.has_low && are_closed());
	EXPECT(fcntl(kept, F_GETFD) == FD_CLOEXEC);
	EXPECT(shunt_fd_is_kept(kept, mark) && !shunt_fd_is_kept(fd, mark));
}

static void open_naively(void)
{
	EXPECT(open("/proc/self/exe", O_RDONLY | O_CLOEXEC) == 0);
}

static void never_low(void **state)
{
	(void)state;
	assert_int_equal(in_child(open_both), 0);
	assert_int_equal(in_child(open_naively), 0);
}

static void open_meanwhile(void)
{
	struct stat program, now;

	EXPECT(!fstat(100, &program));
	for (moment.puts_at = 0; moment.puts_at < 3; moment.puts_at++) {
		EXPECT(shunt_fd_open("/proc/self/exe", O_RDONLY) > 2);
		EXPECT(!fstat(moment.puts_at, &now) && now.st_ino == program.st_ino);
		EXPECT(!close(moment.puts_at) && are_closed());
	}
}

static void what_the_program_puts_there_stays(void **state)
{
	(void)state;
	assert_int_equal(in_child(open_meanwhile), 0);
}

static void open_where_few_are_allowed(void)
{
	struct rlimit few = {40, 40};
	int64_t mark;
	int fd;

	EXPECT(!setrlimit(RLIMIT_NOFILE, &few));
	fd = shunt_fd_open_kept("/proc/self/exe", O_RDONLY, &mark);
	EXPECT(fd > 2 && fd < 40 && shunt_fd_is_kept(fd, mark) && !moment.has_low);
	/* And where all numbers but 0, 1 and 2 are taken. */
	while (open("/proc/self/exe", O_PATH | O_CLOEXEC) >= 0)
		;
	(void)close_range(0, 2, 0);
	EXPECT(shunt_fd_open("/proc/self/exe", O_RDONLY) == -EMFILE && are_closed());
}

static void few_are_allowed(void **state)
{
	(void)state;
	assert_int_equal(in_child(open_where_few_are_allowed), 0);
}

static void keep_two(void)
{
	int64_t marks[2];
	int fds[2];

	for (int i = 0; i < 2; i++)
		fds[i] = shunt_fd_open_kept("/proc/self/exe", O_RDONLY, &marks[i]);
	EXPECT(fds[0] >= 0 && fds[1] >= 0 && marks[0] != marks[1]);
	EXPECT(shunt_fd_is_kept(fds[0], marks[0]) && shunt_fd_is_kept(fds[1], marks[1]));
	EXPECT(!shunt_fd_is_kept(fds[0], marks[1]) && !shunt_fd_is_kept(fds[1], marks[0]));
	EXPECT(!shunt_fd_is_kept(100, marks[0]) && !shunt_fd_is_kept(99, marks[0]));
}

static void keep_two_short(void)
{
	moment.longest = 0xffffffff; /* FAT */
	keep_two();
	EXPECT(moment.too_far == 2);
}

static void each_has_an_offset_of_its_own(void **state)
{
	(void)state;
	assert_int_equal(in_child(keep_two), 0);
	assert_int_equal(in_child(keep_two_short), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(never_low),
		cmocka_unit_test(what_the_program_puts_there_stays),
		cmocka_unit_test(few_are_allowed),
		cmocka_unit_test(each_has_an_offset_of_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
