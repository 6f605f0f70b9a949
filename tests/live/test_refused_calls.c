/* SPDX-License-Identifier: MIT */
/*
 * A filter refuses one system call after the other, each that libshunt makes, to each operation of
 * its interface: before the first operation, behind some, with one thread and with two, or before
 * the program starts. The operation works, or it returns the call's error with a message that names
 * the call, and nothing has changed: no other cause is told.
 *
 * Controls: memory that is refused is taken for memory that there is not; a number that getpid() or
 * gettid() has not told, for one; a stack that cannot be looked at, for a handler's. And the
 * mutants of these and others (tests/mutation).
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../api/tap.h"
#include "../common/child.h"
#include "../common/cpu.h"
#include "../common/filter.h"
#include "../common/idle_thread.h"
#include "linux/base/base.h"
#include "refused_operations.h"

/* ------------------------------------------------------------- what is taken out */

static bool believes;

int __real_shunt_port_no_memory(void);
int __wrap_shunt_port_no_memory(void);
int __real_shunt_check_pid(int32_t pid);
int __wrap_shunt_check_pid(int32_t pid);
int __real_shunt_check_tid(int32_t tid);
int __wrap_shunt_check_tid(int32_t tid);
int __real_shunt_look_for_handler(void);
int __wrap_shunt_look_for_handler(void);

int __wrap_shunt_port_no_memory(void)
{
	return believes ? -ENOMEM : __real_shunt_port_no_memory();
}

int __wrap_shunt_check_pid(int32_t pid)
{
	return believes ? 0 : __real_shunt_check_pid(pid);
}

int __wrap_shunt_check_tid(int32_t tid)
{
	return believes ? 0 : __real_shunt_check_tid(tid);
}

int __wrap_shunt_look_for_handler(void)
{
	int ret = __real_shunt_look_for_handler();

	return believes ? ret != 0 : ret;
}

/* ------------------------------------------------------------------------ calls */

static const struct call {
	const char *name; /* in messages */
	long nr[2];
} calls[] = {
#define CALL(call)                             \
	{                                      \
#call,                         \
		{                              \
			SYS_##call, SYS_##call \
		}                              \
	}
	CALL(clock_gettime),
	CALL(close),
	CALL(fcntl),
	CALL(fstat),
	{"fstat", {SYS_fstat, SYS_newfstatat}},
	CALL(fstatfs),
	CALL(futex),
	CALL(get_robust_list),
	CALL(getdents64),
	CALL(getpid),
	CALL(getppid),
	CALL(gettid),
	CALL(ioctl),
	CALL(kcmp),
	CALL(lseek),
	CALL(madvise),
	CALL(membarrier),
	CALL(mincore),
	CALL(mmap),
	CALL(mprotect),
	CALL(mremap),
	CALL(munmap),
	CALL(nanosleep),
	{"open", {SYS_openat, SYS_openat}},
	CALL(ppoll),
	CALL(prctl),
	CALL(pread64),
	CALL(process_vm_readv),
	CALL(pwrite64),
	CALL(read),
	CALL(readlinkat),
#ifdef SYS_readlink
	CALL(readlink),
#endif
	CALL(rt_sigaction),
	CALL(rt_sigpending),
	CALL(rt_sigprocmask),
	CALL(rt_sigtimedwait),
	CALL(rt_tgsigqueueinfo),
	CALL(sched_yield),
	CALL(sendto),
	CALL(set_robust_list),
	CALL(sigaltstack),
	CALL(tgkill),
	CALL(unshare),
	CALL(write),
#ifdef SYS_arch_prctl
	CALL(arch_prctl),
#endif
	/* And core sync is by signals. */
	{"getpid", {SYS_getpid, SYS_membarrier}},
	{"gettid", {SYS_gettid, SYS_membarrier}},
	{"getdents64", {SYS_getdents64, SYS_membarrier}},
	{"rt_tgsigqueueinfo", {SYS_rt_tgsigqueueinfo, SYS_membarrier}},
	{"rt_sigaction", {SYS_rt_sigaction, SYS_membarrier}},
};

#define CALLS (sizeof(calls) / sizeof(calls[0]))

enum { FIRST, LATER, THREADS = 2, AT_START = 4, WHENS };

static const char *const whens[] = {"at first", "later", "at first, two threads",
				    "later, two threads", "before it starts"};

enum { WORKS, FAILS, IS_WRONG, OTHER_ERROR, OTHER_CAUSE, NO_FILTER = 9 };

static bool wants_words, all;

static _Atomic bool is_idle; /* it blocks no signals any more, as one that starts */

static void *start_idle(void *arg)
{
	is_idle = true;
	return idle(arg);
}

static bool map_poked(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);

	if (p == MAP_FAILED)
		return false;
	poked = memcpy(p, off, SITE_LEN);
	return true;
}

static bool refuse(const struct call *c, int error)
{
	for (int i = 0; i < 1 + (c->nr[0] != c->nr[1]); i++)
		if (!answer_syscall(c->nr[i], error))
			return false;
	return true;
}

/* ENOENT of a file of /proc is told, also of a way of the self-test that others make up for. */
static bool is_other_told(int error)
{
	const char *at = strstr(shunt_last_error(), "open(/proc/self/m");

	return error == ENOENT && at && !strstr(at, " gave ENOENT");
}

static int judge(int ret, const struct call *c, int error)
{
	const char *at = strstr(shunt_last_error(), c->name);

	if (!at)
		return OTHER_CAUSE;
	/* Whether it is that function's name is not known: it is no choice, and why is told. */
	if (ret == -EINVAL && strstr(shunt_last_error(), "functions' names: "))
		return FAILS;
	/* Behind the error of the way that was tried first; or of /proc, which is another code's.
	 */
	if (strstr(at, error == ENOENT   ? " gave ENOENT"
		       : error == EACCES ? " gave EACCES"
					 : " gave ENOSYS"))
		return FAILS;
	return ret == -error ? FAILS : OTHER_ERROR;
}

static int run(const struct operation *o, const struct call *c, int error, int when)
{
	pthread_t thread;
	int ret;

	if (!poked && !map_poked())
		return NO_FILTER;
	if (when != AT_START && when & THREADS && pthread_create(&thread, NULL, start_idle, NULL))
		return NO_FILTER;
	while (when != AT_START && when & THREADS && !is_idle)
		(void)sched_yield();
	for (int i = 0; i < 2 && when != AT_START && when & LATER; i++)
		if (o->run() || is_wrong) {
			diag("%s", shunt_last_error());
			return NO_FILTER;
		}
	(void)alarm(30);
	if (when != AT_START && !refuse(c, error))
		return NO_FILTER;
	refused = c->name;
	ret = o->run();
	if (wants_words)
		printf("# %s, %s refused (%d), %s: %d %s%s\n", o->name, c->name, error, whens[when],
		       ret, ret ? shunt_last_error() : "", is_wrong ? " WRONG" : ""),
			fflush(stdout);
	if (is_wrong)
		return IS_WRONG;
	if (is_other_told(error))
		return OTHER_CAUSE;
	if (!ret)
		return WORKS;
	return judge(ret, c, error);
}

static char **arguments;

static int execute(const struct operation *o, const struct call *c, int error)
{
	char text[64];

	(void)snprintf(text, sizeof(text), "%d %d %d", (int)(o - operations), (int)(c - calls),
		       error);
	if (setenv("REFUSED", text, 1) || (!wants_words && !freopen("/dev/null", "w", stderr)))
		return NO_FILTER;
	(void)execv("/proc/self/exe", arguments);
	return NO_FILTER;
}

static struct {
	bool is;
	int operation, call, error;
} start;

/* Before all constructors. */
static void begin(int argc, char **argv, char **envp)
{
	const char *text = NULL;

	(void)argc;
	(void)argv;
	for (; *envp && !text; envp++)
		if (!strncmp(*envp, "REFUSED=", 8))
			text = *envp + 8;
	if (!text)
		return;
	start.is = sscanf(text, "%d %d %d", &start.operation, &start.call, &start.error) == 3;
	if (!start.is || !map_poked() || !refuse(&calls[start.call], start.error))
		_exit(NO_FILTER);
}

__attribute__((section(".preinit_array"), used)) static void (*const early)(int, char **,
									    char **) = begin;

static int status_of(const struct operation *o, const struct call *c, int error, int when)
{
	pid_t pid = fork();

	if (!pid)
		_exit(when == AT_START ? execute(o, c, error) : run(o, c, error, when));
	return child_status(pid);
}

static const int errors[] = {EPERM, ENOSYS, EACCES, ENOENT, EINTR};
enum { NR_ERRORS = sizeof(errors) / sizeof(errors[0]) };

/* One situation for each; all with one error for the calls that one can do without least. */
static bool is_of_part(size_t o, size_t c, int when, int error)
{
	const char *name = calls[c].name;
	const size_t situation = (o + c) % (NR_ERRORS * WHENS);

	return all || situation == (size_t)(error * WHENS + when) ||
	       (when == AT_START && !strcmp(name, "open")) ||
	       (errors[error] == EPERM &&
		(!strcmp(name, "mmap") || !strcmp(name, "getpid") || !strcmp(name, "gettid")));
}

static void test(size_t o, size_t c)
{
	unsigned bad = 0;

	for (int when = 0; when < WHENS; when++)
		for (int e = 0; e < NR_ERRORS; e++) {
			int status;

			if (!is_of_part(o, c, when, e))
				continue;
			status = status_of(&operations[o], &calls[c], errors[e], when);
			if (status > FAILS)
				diag("%s by %d, %s: %d", calls[c].name, errors[e], whens[when],
				     status);
			bad += status > FAILS;
		}
	ok(!bad, "%s, without %s%s: %u", operations[o].name, calls[c].name,
	   calls[c].nr[1] == SYS_membarrier && calls[c].nr[0] != SYS_membarrier ? " and membarrier"
										: "",
	   bad);
}

static const struct call *call_of(const char *name)
{
	const struct call *c = calls;

	while (strcmp(c->name, name) != 0)
		c++;
	return c;
}

static const struct operation *operation_of(const char *name)
{
	const struct operation *o = operations;

	while (strcmp(o->name, name) != 0)
		o++;
	return o;
}

/* The locks of tracing are known by their owners' numbers: two without one would both have them. */
static void test_without_number(void)
{
	int status = status_of(operation_of("register_ftrace_function()"), call_of("gettid"), EPERM,
			       LATER);

	ok(status == FAILS, "without a number no thread has the locks of tracing: %d", status);
}

static void test_controls(void)
{
	static const struct {
		const char *operation, *call;
		int status;
	} controls[] = {
		{"register_ftrace_function()", "mmap", OTHER_ERROR},
		{"shunt_for_each_key()", "mmap", OTHER_ERROR},
		{"text_poke_bp()", "getpid", OTHER_CAUSE},
		{"a plugin's update", "rt_sigprocmask", OTHER_CAUSE},
	};

	believes = true;
	for (size_t i = 0; i < sizeof(controls) / sizeof(controls[0]); i++) {
		const struct operation *o = operation_of(controls[i].operation);
		int status;

		if (!CPU_HAS_TRAPS && o->run == poke)
			continue;
		status = status_of(o, call_of(controls[i].call), EPERM, LATER);
		ok(status == controls[i].status, "control: %s, without %s: %d", o->name,
		   controls[i].call, status);
	}
	believes = false;
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	plugin = argv[1];
	all = argc > 2;
	wants_words = getenv("WORDS") != NULL;
	shunt_set_log(NULL, NULL);
	arguments = argv;
	is_refused_at_start = start.is;
	if (start.is)
		return run(&operations[start.operation], &calls[start.call], start.error, AT_START);
	for (size_t o = 0; o < OPERATIONS; o++)
		for (size_t c = 0; c < CALLS; c++)
			test(o, c);
	test_without_number();
	test_controls();
	return tap_done();
}
