/* SPDX-License-Identifier: MIT */
/*
 * What is said of a failure, and to whom: the site's place in its module, the bytes that were
 * found and expected, the system call of this failure and of no earlier one; each thread has
 * its own, also in a child of fork(), and costs nothing when it is gone; errno is left alone;
 * SHUNT_LOG=0 is silence.
 *
 * Controls: no thread is ever seen to be gone (tgkill() is answered by a filter), and a function
 * of the program's that messages are passed to changes errno itself.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/text_poke.h>

#include "../common/allocations.h"
#include "../common/child.h"
#include "../common/filter.h"
#include "../common/one_two.h"
#include "linux/base/base.h"

#include "tap.h"

#define PAGE 4096ul

#ifdef __aarch64__
#define SITE_BYTES 4
#define FOREIGN               \
	{                     \
		0x55, 0, 0, 0 \
	}
#define NOP                            \
	{                              \
		0x1f, 0x20, 0x03, 0xd5 \
	}
#else
#define SITE_BYTES 5
#define FOREIGN                              \
	{                                    \
		0x0f, 0x1f, 0x44, 0x00, 0x55 \
	}
#define NOP                            \
	{                              \
		0x0f, 0x1f, 0x44, 0, 0 \
	}
#endif

DEFINE_STATIC_CALL(reports_key, one);

KEEP static int site(void)
{
	return static_call(reports_key)() + 0;
}

/* -------------------------------------------------------------- what is said */

static const void *address;

static int keep_address(const struct shunt_site_info *info, void *arg)
{
	(void)arg;
	address = info->addr;
	return 0;
}

/* As the message has them. */
static void add_bytes(char *text, const uint8_t *bytes)
{
	for (size_t i = 0; i < SITE_BYTES; i++)
		(void)sprintf(text + strlen(text), " %02x", bytes[i]);
}

static void test_foreign_bytes(void)
{
	static const uint8_t foreign[SITE_BYTES] = FOREIGN;
	char found[64] = "found", expected[64] = "expected", place[64];
	uint8_t before[SITE_BYTES];
	Dl_info module;
	void *page;

	(void)shunt_for_each_site("reports_key", keep_address, NULL);
	page = (void *)((uintptr_t)address & -PAGE);
	memcpy(before, address, SITE_BYTES);
	if (mprotect(page, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC))
		abort();
	memcpy((void *)(uintptr_t)address, foreign, SITE_BYTES);
	ok(static_call_update(reports_key, two) == -EBUSY, "foreign bytes");
	memcpy((void *)(uintptr_t)address, before, SITE_BYTES);
	if (mprotect(page, 2 * PAGE, PROT_READ | PROT_EXEC))
		abort();
	(void)dladdr(address, &module);
	add_bytes(found, foreign);
	add_bytes(expected, before);
	(void)snprintf(place, sizeof(place),
		       "+0x%zx:", (size_t)((const char *)address - (const char *)module.dli_fbase));
	ok(strstr(shunt_last_error(), found) && strstr(shunt_last_error(), expected),
	   "what was found and what was expected: %s", shunt_last_error());
	ok(strstr(shunt_last_error(), place), "and where in its module: %s", place);
	ok(site() == 1, "and nothing has changed");
}

/* Fails at @addr, where nothing is. */
static bool fail_at(uintptr_t addr)
{
	static const uint8_t nop[SITE_BYTES] = NOP;

	return text_poke_bp((void *)addr, nop, SITE_BYTES) <
	       0; /* NOLINT(performance-no-int-to-ptr) */
}

static bool is_about(uintptr_t addr)
{
	char text[32];

	(void)snprintf(text, sizeof(text), "site %p:", (void *)addr); /* NOLINT */
	return strstr(shunt_last_error(), text);
}

static void test_call(void)
{
	ok(fail_at(0x1000) && is_about(0x1000) && strstr(shunt_last_error(), "not mapped"),
	   "what failed: %s", shunt_last_error());
	ok(__static_call_update(NULL, (void (*)(void))one) == -EINVAL &&
		   !strstr(shunt_last_error(), "mapped"),
	   "and not in what fails later: %s", shunt_last_error());
}

/* Two failures of one update, the second of no system call. */
static void test_told_once(void)
{
	const struct shunt_report report = {
		.what = "failed", .key = "reports_key", .error = -EPERM};

	shunt_failed_call = "a call of this test";
	shunt_port_report(&report);
	ok(strstr(shunt_last_error(), "a call of this test"), "the system call of a failure: %s",
	   shunt_last_error());
	shunt_port_report(&report);
	ok(strstr(shunt_last_error(), "reports_key") &&
		   !strstr(shunt_last_error(), "a call of this test"),
	   "and not of the next one: %s", shunt_last_error());
}

static void change_errno(const char *message, void *arg)
{
	(void)message;
	errno = *(int *)arg;
}

static void test_errno(void)
{
	int by_log = ENOTTY;

	errno = EXDEV;
	ok(fail_at(0x1000) && errno == EXDEV, "errno is left alone: %d", errno);
	shunt_set_log(change_errno, &by_log);
	ok(fail_at(0x1000) && errno == EXDEV, "also by the program's function: %d", errno);
	shunt_set_log(NULL, NULL);
	change_errno("", &by_log);
	ok(errno == ENOTTY, "control: which changes it");
}

/* -------------------------------------------------------------------- the threads */

#define THREADS 24

static pthread_barrier_t all_have_failed;
static _Atomic unsigned own_messages;

static void *fail_among_others(void *arg)
{
	uintptr_t addr = 0x2000 + 16 * (uintptr_t)arg;
	bool failed = fail_at(addr);

	(void)pthread_barrier_wait(&all_have_failed);
	own_messages += failed && is_about(addr);
	return NULL;
}

/* At a time, more than there is room for without more memory. */
static void among_others(void)
{
	pthread_t threads[THREADS];

	own_messages = 0;
	(void)pthread_barrier_init(&all_have_failed, NULL, THREADS);
	for (uintptr_t i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, fail_among_others, (void *)i)) /* NOLINT */
			abort();
	for (int i = 0; i < THREADS; i++)
		(void)pthread_join(threads[i], NULL);
}

static void *fail_elsewhere(void *arg)
{
	(void)fail_at((uintptr_t)arg);
	return NULL;
}

static void one_more(uintptr_t addr)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, fail_elsewhere, (void *)addr)) /* NOLINT */
		abort();
	(void)pthread_join(thread, NULL);
}

/* One after the other: what each had is used again. */
static unsigned memory_of_400(void)
{
	unsigned before = allocations;

	for (int i = 0; i < 400; i++)
		one_more(0x5000);
	return allocations - before;
}

static int none_is_gone(void)
{
	if (!answer_syscall(SYS_tgkill, EPERM))
		return 0;
	return memory_of_400() > 50 ? 42 : 1;
}

/* The thread that called fork() has another number here, and others come. */
static int fails_in_child(void)
{
	if (!fail_at(0x3000) || !is_about(0x3000))
		return 1;
	for (int i = 0; i < 20; i++)
		one_more(0x4000);
	return is_about(0x3000) ? 0 : 2;
}

static void test_threads(void)
{
	unsigned n;
	int ret;

	(void)fail_at(0x1000);
	among_others();
	ok(own_messages == THREADS && is_about(0x1000), "each thread has its own message: %u of %d",
	   own_messages, THREADS);
	n = memory_of_400();
	ok(n <= 20, "threads that are gone cost nothing: %u allocations", n);
	ret = in_child(none_is_gone);
	ok(ret == 42, "control: where none is seen to be gone: %d", ret);
	ret = in_child(fails_in_child);
	ok(!ret && is_about(0x1000), "in a child of fork(): %d", ret);
}

/* -------------------------------------------------------------------- SHUNT_LOG */

/* How many bytes a process writes to standard error that fails once. */
static long written(const char *self, const char *log)
{
	char text[1024];
	int fds[2];
	pid_t pid;
	long n;

	if (pipe2(fds, O_CLOEXEC))
		return -1;
	pid = fork();
	if (!pid) {
		(void)dup2(fds[1], 2);
		(void)(log ? setenv("SHUNT_LOG", log, 1) : unsetenv("SHUNT_LOG"));
		(void)execl(self, self, "fail", NULL);
		_exit(99);
	}
	(void)close(fds[1]);
	n = read(fds[0], text, sizeof(text));
	(void)close(fds[0]);
	(void)waitpid(pid, NULL, 0);
	return n;
}

static void test_policy(void)
{
	static const int none[] = {-1, 4, 9};

	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		char number[16];
		int ret = shunt_set_poke((enum shunt_poke_policy)none[i]);

		(void)snprintf(number, sizeof(number), ": %d", none[i]);
		ok(ret == -EINVAL && strstr(shunt_last_error(), "shunt_set_poke") &&
			   strstr(shunt_last_error(), number),
		   "no policy: %d, %s", ret, shunt_last_error());
	}
}

int main(int argc, char **argv)
{
	if (argc > 1)
		return !fail_at(0x1000);
	ok(written(argv[0], NULL) > 0 && written(argv[0], "1") > 0, "a message goes to stderr");
	ok(written(argv[0], "0") == 0, "SHUNT_LOG=0: none does");
	shunt_set_log(NULL, NULL);
	test_policy();
	test_foreign_bytes();
	test_call();
	test_told_once();
	test_errno();
	test_threads();
	return tap_done();
}
