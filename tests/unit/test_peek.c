/* SPDX-License-Identifier: MIT */
/*
 * Reading what may be unmapped at any time, one file of the port alone: all of it is copied, or
 * nothing is said to be there; and a string may end where its page does. Control: memcpy() from
 * the same place faults.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "linux/base/alone.h"
#include "linux/base/base.h"

#define PAGE 4096

__thread const char *shunt_failed_call;

static bool is_filtered;

bool shunt_is_filtered(void)
{
	return is_filtered;
}

/* Two pages, of which the second one is gone. */
static char *new_page(void)
{
	char *p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	assert_int_equal(munmap(p + PAGE, PAGE), 0);
	return p;
}

static void all_or_nothing(void **state)
{
	char *page = new_page(), to[64];

	(void)state;
	memcpy(page + PAGE - 16, "0123456789abcdef", 16);
	assert_true(shunt_peek(to, page + PAGE - 16, 16));
	assert_memory_equal(to, "0123456789abcdef", 16);
	assert_false(shunt_peek(to, page + PAGE - 16, 17));
	assert_false(shunt_peek(to, page + PAGE, 1));
	/* A filter may kill whoever asks. */
	is_filtered = true;
	assert_false(shunt_peek(to, page + PAGE - 16, 16));
	is_filtered = false;
	(void)munmap(page, PAGE);
}

static void strings(void **state)
{
	char *page = new_page(), to[16];

	(void)state;
	strcpy(page + PAGE - 6, "short");
	assert_true(shunt_peek_string(to, sizeof(to), page + PAGE - 6));
	assert_string_equal(to, "short");
	/* One that goes on where nothing is. */
	page[PAGE - 1] = '!';
	assert_false(shunt_peek_string(to, sizeof(to), page + PAGE - 6));
	/* One that is too long is cut off. */
	memset(page, 'x', PAGE);
	assert_true(shunt_peek_string(to, sizeof(to), page));
	assert_int_equal(strlen(to), sizeof(to) - 1);
	assert_true(shunt_peek_string(to, sizeof(to), page + PAGE - 15));
	assert_int_equal(strlen(to), sizeof(to) - 1);
	(void)munmap(page, PAGE);
}

static void from_nowhere(void **state)
{
	char *page = new_page(), to[32];
	int status = 0;
	pid_t pid = fork();

	(void)state;
	if (!pid) {
		(void)signal(SIGSEGV, SIG_DFL);
		memcpy(to, page + PAGE - 16, sizeof(to));
		_exit(*(volatile char *)to);
	}
	assert_true(waitpid(pid, &status, 0) == pid && status);
	assert_false(shunt_peek(to, NULL, 1));
	assert_false(shunt_peek_string(to, sizeof(to), NULL));
	(void)munmap(page, PAGE);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_or_nothing),
		cmocka_unit_test(strings),
		cmocka_unit_test(from_nowhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
