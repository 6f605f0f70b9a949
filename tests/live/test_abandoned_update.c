/* SPDX-License-Identifier: MIT */
/*
 * Updates that somebody leaves by force (a jump out of a signal handler, cancellation),
 * and copies of the process that the kernel makes without wiping what it should. Each
 * situation is a process of its own; with each protection taken out it must fail.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/port.h>
#include <shunt/static_call.h>

#include "../api/tap.h"
#include "../common/one_two.h"
#include "linux/base/base.h"
#include "linux/text/proc_mem.h"
#include "linux/text/text.h"

static bool is_control;

DEFINE_STATIC_CALL(leave_key, one);

KEEP static int call_it(void)
{
	return static_call(leave_key)();
}

/* ------------------------------------------------------ what is taken out, or seen */

int __real_shunt_block_signals(uint64_t *before);
int __wrap_shunt_block_signals(uint64_t *before);
int __real_shunt_proc_mem_is_own(void);
int __wrap_shunt_proc_mem_is_own(void);
int __real_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void);
int __real_madvise(void *addr, size_t size, int advice);
int __wrap_madvise(void *addr, size_t size, int advice);
int __real_pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void));
int __wrap_pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void));

int __wrap_shunt_block_signals(uint64_t *before)
{
	if (!is_control)
		return __real_shunt_block_signals(before);
	return (int)syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, before, sizeof(*before));
}

static bool is_untold; /* nothing says whose memory this is */

int __wrap_shunt_proc_mem_is_own(void)
{
	return is_control ? 1 : is_untold ? -1 : __real_shunt_proc_mem_is_own();
}

int __real_shunt_sites_repair(void);
int __wrap_shunt_sites_repair(void);

static bool is_half_registered; /* a module, in the very moment of the copy */

int __wrap_shunt_sites_repair(void)
{
	int ret = __real_shunt_sites_repair();

	return is_half_registered && !is_control ? -EIO : ret;
}

/* Called with the lock held, in the middle of an update. */
static void (*_Atomic in_update)(void);

int __wrap_shunt_port_core_sync(void)
{
	void (*hook)(void) = atomic_exchange(&in_update, NULL);

	if (hook)
		hook();
	return __real_shunt_port_core_sync();
}

/* As the environment says: the kernel refuses to wipe the page, or only says that it will. */
int __wrap_madvise(void *addr, size_t size, int advice)
{
	const char *how = advice == MADV_WIPEONFORK ? getenv("TEST_WIPE") : NULL;

	if (!how)
		return __real_madvise(addr, size, advice);
	errno = EINVAL;
	return strcmp(how, "refused") ? 0 : -1;
}

int __wrap_pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
	return getenv("TEST_NO_ATFORK") ? 0 : __real_pthread_atfork(prepare, parent, child);
}

/* -------------------------------------------------------------- leaving by force */

static void *update_elsewhere(void *arg)
{
	*(int *)arg = static_call_update(leave_key, two);
	return NULL;
}

/* Whether the lock is free, for others and for this thread. */
static int is_free(void)
{
	pthread_t thread;
	int ret = -1;

	(void)pthread_create(&thread, NULL, update_elsewhere, &ret);
	(void)pthread_join(thread, NULL);
	return !ret && call_it() == 2 && !static_call_update(leave_key, one) && call_it() == 1;
}

static sigjmp_buf out;

static void jump(int sig)
{
	(void)sig;
	siglongjmp(out, 1);
}

static int sent = SIGUSR1;

static void raise_it(void)
{
	(void)raise(sent);
}

static int run_jump(void)
{
	(void)signal(sent, jump);
	for (volatile int i = 0; i < 20; i++) {
		if (sigsetjmp(out, 1))
			continue;
		atomic_store(&in_update, raise_it);
		if (static_call_update(leave_key, i % 2 ? one : two))
			return 3;
		return 1; /* it should have jumped */
	}
	return is_free() ? 0 : 2;
}

/* Of those that an instruction raises, but none of an update. */
static int run_jump_fpe(void)
{
	sent = SIGFPE;
	return run_jump();
}

static int run_jump_ill(void)
{
	sent = SIGILL;
	return run_jump();
}

/*
 * What static_call_update(3) says of a signal that is left open: whoever jumps out has the lock,
 * and is told so. Its copy by fork() starts anew.
 */
static int run_jump_open(void)
{
	(void)signal(SIGSEGV, jump);
	sent = SIGSEGV;
	if (!sigsetjmp(out, 1)) {
		atomic_store(&in_update, raise_it);
		if (static_call_update(leave_key, two))
			_exit(4);
		return 1; /* it should have jumped */
	}
	for (int i = 0; i < 3; i++)
		if (static_call_update(leave_key, one) != -EDEADLK)
			return 2;
	return call_it() == 1 || call_it() == 2 ? 0 : 3;
}

/* The jump out of the function that messages are passed to. */
static void log_and_jump(const char *message, void *arg)
{
	(void)message;
	(void)arg;
	siglongjmp(out, 1);
}

static int run_log(void)
{
	shunt_set_log(log_and_jump, NULL);
	if (!sigsetjmp(out, 1)) {
		return __static_call_update(NULL, (void (*)(void))one) ? 1 : 3;
	}
	return is_free() ? 0 : 2;
}

static _Atomic bool within, cancelled;

static void wait_for_cancel(void)
{
	atomic_store(&within, true);
	while (!atomic_load(&cancelled))
		(void)sched_yield();
}

static void *be_cancelled(void *arg)
{
	(void)pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	atomic_store(&in_update, wait_for_cancel);
	if (static_call_update(leave_key, two))
		return arg;
	for (;;)
		pthread_testcancel();
	return arg;
}

static int run_cancel(void)
{
	pthread_t thread;
	void *result = NULL;

	(void)pthread_create(&thread, NULL, be_cancelled, NULL);
	while (!atomic_load(&within))
		(void)sched_yield();
	(void)pthread_cancel(thread);
	atomic_store(&cancelled, true);
	(void)pthread_join(thread, &result);
	return result == PTHREAD_CANCELED && is_free() ? 0 : 1;
}

/* ------------------------------------------------------------------------- copies */

/* A child updates: what it sees is its own, and the parent sees nothing of it. */
static int run_copy(bool by_fork)
{
	int status = -1;
	pid_t pid;

	if (static_call_update(leave_key, two) || static_call_update(leave_key, one))
		return 1;
	pid = by_fork ? fork() : (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (!pid)
		_exit(static_call_update(leave_key, two) || call_it() != 2);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		return 2;
	if (call_it() != 1)
		return 3;
	return is_free() ? 0 : 4;
}

static int run_fork(void)
{
	return run_copy(true);
}

static int run_clone(void)
{
	return run_copy(false);
}

static bool has_open_signals(void)
{
	sigset_t set;

	(void)sigprocmask(SIG_BLOCK, NULL, &set);
	for (int sig = 1; sig < NSIG; sig++)
		if (sigismember(&set, sig))
			return false;
	return true;
}

/* A copy in which updates are refused, each time, with nothing left behind. */
static int run_refused(bool *how, int error)
{
	int status = -1;
	pid_t pid;

	if (static_call_update(leave_key, two) || static_call_update(leave_key, one))
		return 1;
	pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	*how = true;
	for (int i = 0; !pid && i < 3; i++) {
		if (static_call_update(leave_key, two) != error || call_it() != 1)
			_exit(5);
		if (!has_open_signals())
			_exit(6);
	}
	if (!pid)
		_exit(strstr(shunt_last_error(), "leave_key") ? 0 : 7);
	*how = false;
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		return 2;
	return is_free() ? 0 : 4;
}

static int run_untold(void)
{
	return run_refused(&is_untold, -EPERM);
}

static int run_half_registered(void)
{
	return run_refused(&is_half_registered, -EIO);
}

/* A child in the parent's memory, which is no copy; as posix_spawn() makes it. */
static int in_child(void *arg)
{
	(void)arg;
	return static_call_update(leave_key, two) || call_it() != 2;
}

static int run_spawn(void)
{
	static char stack[256 << 10] __attribute__((aligned(64)));
	int status = -1;
	pid_t pid;

	if (static_call_update(leave_key, one))
		return 1;
	pid = clone(in_child, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status || call_it() != 2)
		return 2;
	return is_free() ? 0 : 4;
}

static int run_vfork(void)
{
	int status = -1;
	pid_t pid;

	if (static_call_update(leave_key, one))
		return 1;
	pid = vfork();
	if (!pid)
		_exit(in_child(NULL));
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status || call_it() != 2)
		return 2;
	return is_free() ? 0 : 4;
}

/* ---------------------------------------- the program's own handlers, and its mutex */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static _Atomic bool forking, has_mutex;

static void lock_mutex(void)
{
	(void)pthread_mutex_lock(&mutex);
}

static void unlock_mutex(void)
{
	(void)pthread_mutex_unlock(&mutex);
}

/* The first of the handlers. Control: it takes the update lock over the fork. */
static void begin_fork(void)
{
	if (is_control && shunt_port_lock())
		abort();
	atomic_store(&forking, true);
}

static void *update_with_mutex(void *arg)
{
	lock_mutex();
	atomic_store(&has_mutex, true);
	while (!atomic_load(&forking))
		(void)sched_yield();
	*(int *)arg = static_call_update(leave_key, two);
	unlock_mutex();
	return NULL;
}

#ifdef __SANITIZE_THREAD__
/* A child made while a thread ends has that thread, never joined: it is told of as a leak there. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "report_thread_leaks=0";
}
#endif

static int run_atfork(void)
{
	int ret = -1, status = -1;
	pthread_t thread;
	pid_t pid;

	(void)pthread_atfork(lock_mutex, unlock_mutex, unlock_mutex);
	(void)pthread_atfork(begin_fork, NULL, NULL);
	(void)pthread_create(&thread, NULL, update_with_mutex, &ret);
	while (!atomic_load(&has_mutex))
		(void)sched_yield();
	pid = fork();
	if (!pid)
		_exit(static_call_update(leave_key, one) || call_it() != 1);
	(void)pthread_join(thread, NULL);
	return waitpid(pid, &status, 0) == pid && !status && !ret && call_it() == 2 ? 0 : 1;
}

/* --------------------------------------------------------------------- main */

static const struct {
	const char *name;
	int (*run)(void);
	const char *wipe; /* what MADV_WIPEONFORK does; NULL: what it should */
	const char *no_atfork;
	bool has_control;
} situations[] = {
	{"a handler jumps out of an update", run_jump, NULL, NULL, true},
	{"a handler of SIGFPE jumps out of an update", run_jump_fpe, NULL, NULL, true},
	{"a handler of SIGILL jumps out of an update", run_jump_ill, NULL, NULL, true},
	{"a handler of SIGSEGV jumps out of an update", run_jump_open, NULL, NULL, false},
	{"the log function jumps out of a message", run_log, NULL, NULL, false},
	{"an updating thread is cancelled", run_cancel, NULL, NULL, true},
	{"fork, wiping is refused", run_fork, "refused", NULL, false},
	{"fork, wiping is faked", run_fork, "faked", NULL, false},
	{"_Fork or the like, wiping is refused", run_clone, "refused", "1", true},
	{"_Fork or the like, wiping is faked", run_clone, "faked", "1", true},
	{"a copy that may be none", run_untold, "refused", "1", true},
	{"a copy in the middle of a registration", run_half_registered, NULL, "1", true},
	{"a child in the same memory, wiping is refused", run_spawn, "refused", NULL, false},
	{"a child in the same memory", run_spawn, NULL, NULL, false},
	{"vfork, wiping is refused", run_vfork, "refused", NULL, false},
	{"vfork", run_vfork, NULL, NULL, false},
	{"a mutex over fork() and updates", run_atfork, NULL, NULL, true},
};

static int outcome(const char *self, size_t i, bool control)
{
	char number[16];
	int status = -1;
	pid_t pid = fork();

	if (!pid) {
		(void)snprintf(number, sizeof(number), "%zu", i);
		if (situations[i].wipe)
			(void)setenv("TEST_WIPE", situations[i].wipe, 1);
		if (situations[i].no_atfork)
			(void)setenv("TEST_NO_ATFORK", situations[i].no_atfork, 1);
		(void)setenv("SHUNT_LOG", "0", 1);
		(void)execl(self, self, number, control ? "control" : NULL, NULL);
		_exit(99);
	}
	(void)waitpid(pid, &status, 0);
	return status;
}

int main(int argc, char **argv)
{
	size_t n = sizeof(situations) / sizeof(situations[0]);

	if (argc > 1) {
		size_t i = strtoul(argv[1], NULL, 10);

		is_control = argc > 2;
		(void)(is_control ? ualarm(500000, 0) : alarm(60));
		return i < n ? situations[i].run() : 98;
	}
	for (size_t i = 0; i < n; i++) {
		int status;

#ifdef SUITE_TSAN
		if (situations[i].run == run_vfork) {
			skip(situations[i].name, "ThreadSanitizer makes a fork() of it");
			continue;
		}
#endif
		status = outcome(argv[0], i, false);
		ok(!status, "%s: status %x", situations[i].name, (unsigned)status);
		if (!situations[i].has_control)
			continue;
		status = outcome(argv[0], i, true);
		ok(status && status >> 8 < 98, "control: %s: status %x", situations[i].name,
		   (unsigned)status);
	}
	return tap_done();
}
