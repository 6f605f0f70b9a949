/* SPDX-License-Identifier: MIT */
/*
 * auto has come to int3, and the other threads cannot be looked at: the process is at its limit of
 * descriptors, or of memory, or a filter refuses the call. Not knowing is not the same as nobody:
 * the update fails with that error, names the call, and a thread that blocks SIGTRAP and runs into
 * the site in the middle of it lives. The same for a child in this memory that has no handler.
 *
 * Control: the same with the answer of a system without /proc, for which int3 goes on unseen, as
 * documented: it kills. And where nothing fails, and nobody is in the way, int3 goes.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <shunt/inspect.h>
#include <shunt/port.h>
#include <shunt/static_call.h>

#include "../api/tap.h"
#include "../common/child.h"
#include "../common/descriptor_limit.h"
#include "../common/filter.h"
#include "../common/one_two.h"
#include "linux/base/descriptor.h"

DEFINE_STATIC_CALL(unseen_key, one);

KEEP static int site(void)
{
	return static_call(unseen_key)() + 0;
}

int __wrap_shunt_port_text_remap(const struct shunt_write *writes, size_t n, size_t stride);
int __real_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void);
int __real_shunt_fd_open(const char *path, int flags);
int __wrap_shunt_fd_open(const char *path, int flags);

/* Remap is not to be had. */
int __wrap_shunt_port_text_remap(const struct shunt_write *writes, size_t n, size_t stride)
{
	(void)writes;
	(void)n;
	(void)stride;
	return -ENOSYS;
}

static _Atomic unsigned calls;
static _Atomic bool over;

static pid_t child;

static bool is_child_dead(void)
{
	siginfo_t info = {0};

	return child && !waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT) &&
	       info.si_pid;
}

/* While an int3 stands somebody comes through the site, if he is not killed for it. */
int __wrap_shunt_port_core_sync(void)
{
	int ret = __real_shunt_port_core_sync();
	unsigned then = calls;

	while (calls && calls - then < 2 && !is_child_dead())
		(void)sched_yield();
	return ret;
}

static struct {
	const char *file; /* what cannot be opened: the end of its path */
	int error;
} shut;

int __wrap_shunt_fd_open(const char *path, int flags)
{
	size_t n = strlen(path), end = shut.file ? strlen(shut.file) : n + 1;

	if (n >= end && !strncmp(path, "/proc/", 6) && !strcmp(path + n - end, shut.file))
		return -shut.error;
	return __real_shunt_fd_open(path, flags);
}

static void run_through(void)
{
	while (!over) {
		int x = site();

		if (x != 1 && x != 2)
			_exit(9);
		calls++;
	}
}

static void *block_and_run(void *arg)
{
	sigset_t all;

	(void)sigfillset(&all);
	if (arg)
		(void)pthread_sigmask(SIG_SETMASK, &all, NULL);
	run_through();
	return NULL;
}

static int run_in_memory(void *arg)
{
	(void)arg;
	run_through();
	_exit(0);
}

enum how {
	SHUT,  /* the file */
	LIMIT, /* no more descriptors */
	ANSWER /* the system call */
};

enum who { BLOCKS, OPEN, CHILD };

struct row {
	const char *file;
	enum how how;
	int error, number;
	enum who who;
	const char *call; /* in the message; NULL: the update goes through */
	int killed;       /* by this signal, the thread or the child */
};

static const struct row *row;

static const char *shut_it(void)
{
	if (row->how == LIMIT && !limit_descriptors(3))
		return "no limit";
	if (row->how == ANSWER && !answer_syscall(row->number, row->error))
		return "no filter";
	shut.file = row->how == SHUT ? row->file : NULL;
	shut.error = row->error;
	return NULL;
}

/* As it was, and says why; or it went by int3. */
static bool is_right(int ret)
{
	struct shunt_ways ways;

	shunt_get_ways(&ways);
	if (!row->call)
		return !ret && site() == 2 && !strcmp(ways.poke, "int3");
	return ret == (row->error ? -row->error : -EPERM) && site() == 1 &&
	       strstr(shunt_last_error(), "; and no int3: ") &&
	       strstr(shunt_last_error(), row->call);
}

static int update_beside(void)
{
	static _Alignas(16) char stack[65536];
	pthread_t thread;
	int ret, status = 0;

	if (row->who != CHILD &&
	    pthread_create(&thread, NULL, block_and_run, row->who == BLOCKS ? stack : NULL))
		return 2;
	if (row->who == CHILD)
		child = clone(run_in_memory, stack + sizeof(stack), CLONE_VM | SIGCHLD, NULL);
	while (!calls)
		(void)sched_yield();
	if (shut_it())
		return 3;
	ret = static_call_update(unseen_key, two);
	shut.file = NULL;
	over = true;
	if (row->who == CHILD)
		status = child_status(child);
	else
		(void)pthread_join(thread, NULL);
	if (status)
		return status > 1000 ? 100 : status;
	if (is_right(ret))
		return 0;
	printf("# %d, %s, site %d\n", ret, shunt_last_error(), site());
	(void)fflush(stdout);
	return 1;
}

#define TASK "/proc/self/task/"

static const struct row rows[] = {
	/* the list of threads */
	{"/self/task", SHUT, EMFILE, 0, BLOCKS, "open(/proc/self/task): Too many open files", 0},
	{"/self/task", SHUT, ENFILE, 0, BLOCKS, "open(/proc/self/task): ", 0},
	{"/self/task", SHUT, ENOMEM, 0, BLOCKS, "open(/proc/self/task): ", 0},
	{"/self/task", SHUT, EACCES, 0, BLOCKS, "open(/proc/self/task): ", 0},
	{"/self/task", SHUT, EMFILE, 0, OPEN, "open(/proc/self/task): ", 0},
	{"the limit", LIMIT, EMFILE, 0, BLOCKS, "open(/proc/self/task): Too many open files", 0},
	{"getdents64", ANSWER, ENOMEM, SYS_getdents64, BLOCKS, "getdents64(/proc/self/task): ", 0},
	{"getdents64", ANSWER, EPERM, SYS_getdents64, BLOCKS, "getdents64(/proc/self/task): ", 0},
	{"fstat", ANSWER, ENOMEM, SYS_fstat, BLOCKS, "fstat(/proc/self/task): ", 0},
	/* a thread's state */
	{"/status", SHUT, EMFILE, 0, BLOCKS, "/status): Too many open files", 0},
	{"/status", SHUT, ENOMEM, 0, BLOCKS, "; and no int3: open(" TASK, 0},
	{"/status", SHUT, EACCES, 0, OPEN, "; and no int3: open(" TASK, 0},
	{"/syscall", SHUT, ENFILE, 0, OPEN, "/syscall): ", 0},
	{"/syscall", SHUT, EACCES, 0, OPEN, NULL, 0}, /* as it is where nothing may be dumped */
	{"read", ANSWER, EPERM, SYS_read, BLOCKS, "; and no int3: read(" TASK, 0},
	{"read", ANSWER, EIO, SYS_read, OPEN, "/status): ", 0},
	{"read", ANSWER, 0, SYS_read, BLOCKS, "read(/proc/self/task/.../status): ", 0},
	/* children in this memory */
	{"/children", SHUT, EMFILE, 0, CHILD, "/children): Too many open files", 0},
	{"/mem", SHUT, EMFILE, 0, CHILD, "/mem): Too many open files", 0},
	{"/mem", SHUT, ENOMEM, 0, CHILD, "/mem): ", 0},
	{"nothing", SHUT, 0, 0, OPEN, NULL, 0},
	/* controls */
	{"/self/task", SHUT, ENOENT, 0, OPEN, NULL, 0},
	{"/self/task", SHUT, ENOENT, 0, BLOCKS, NULL, SIGTRAP},
	{"/status", SHUT, ENOENT, 0, BLOCKS, NULL, SIGTRAP},
	{"/mem", SHUT, ENOENT, 0, CHILD, NULL, SIGTRAP},
};

int main(void)
{
	static const char *const who[] = {"a thread that blocks SIGTRAP", "a thread that does not",
					  "a child in this memory"};

	shunt_set_log(NULL, NULL);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int status, wanted;

		row = &rows[i];
		status = in_child(update_beside);
		wanted = !row->killed ? 0 : row->who == CHILD ? 100 : 1000 + row->killed;
		ok(status == wanted, "%s%s, error %d, beside %s: %d",
		   row->killed ? "control: " : "", row->file, row->error, who[row->who], status);
	}
	return tap_done();
}
