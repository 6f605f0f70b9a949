/* SPDX-License-Identifier: MIT */
/*
 * In a process with one thread, auto writes sites plainly and serialises this CPU only.
 * Whether it is one is the kernel's word (way.c: unshare()), because the C library does
 * not know of a raw clone() or a vfork() that runs in the same memory.
 *
 * Control: a filter makes unshare() succeed without being made, and prctl() hide the filter.
 * Then a process with another one in its memory is taken to be alone, which the test sees.
 *
 * Under a filter the kernel is not asked, because the filter may kill whoever does. Control:
 * the filter is hidden, and the process dies of it.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../api/tap.h"

static int one(int x)
{
	return x + 1;
}

static int two(int x)
{
	return x + 2;
}

DEFINE_STATIC_CALL(alone, one);

KEEP static int site(int x)
{
	return static_call(alone)(x) - x;
}

/* Update to the other function: whether the site follows, by @poke with the sync @sync. */
static bool update(const char *poke, const char *sync)
{
	static bool to_two = true;
	struct shunt_ways ways;
	int err = static_call_update(alone, to_two ? two : one);

	if (site(7) != (to_two ? 2 : 1))
		err = -EIO;
	to_two = !to_two;
	shunt_get_ways(&ways);
	if (!err && !strcmp(ways.poke, poke) && !strcmp(ways.sync, sync))
		return true;
	diag("error %d, poke %s, sync %s", err, ways.poke, ways.sync);
	return false;
}

/* ------------------------------------------------------- others in our memory */

static _Atomic unsigned calls;
static _Atomic bool enough;

/* No thread of the C library's: it has its parent's thread-local storage, and uses none. */
__attribute__((no_sanitize("thread"))) static int run(void *arg)
{
	while (!atomic_load(&enough)) {
		int got = site(7);

		if (got != 1 && got != 2)
			return 1;
		atomic_fetch_add(&calls, 1);
	}
	(void)arg;
	return 0;
}

static pid_t start(int flags)
{
	static _Alignas(16) char stack[65536];
	pid_t pid;

	atomic_store(&calls, 0);
	atomic_store(&enough, false);
	pid = clone(run, stack + sizeof(stack), flags, NULL);
	while (pid > 0 && !atomic_load(&calls))
		;
	return pid;
}

static bool stop(pid_t pid)
{
	int status = -1;

	atomic_store(&enough, true);
	return pid > 0 && waitpid(pid, &status, __WALL) == pid && status == 0;
}

/* In which an update is made while @pid, started by clone(), calls the site. */
static void beside(const char *what, int flags)
{
	pid_t pid = start(flags);
	bool good = true;

	for (int i = 0; i < 50; i++) {
		unsigned then = atomic_load(&calls);

		good = update("remap", "membarrier") && good;
		while (atomic_load(&calls) == then)
			;
	}
	good = stop(pid) && good;
	ok(good, "%s: not alone, in 50 updates between %u calls of its own", what, calls);
}

static void *run_thread(void *arg)
{
	(void)run(arg);
	return NULL;
}

static void beside_thread(void)
{
	pthread_t thread;
	bool good;

	atomic_store(&calls, 0);
	atomic_store(&enough, false);
	good = !pthread_create(&thread, NULL, run_thread, NULL);
	while (good && !atomic_load(&calls))
		;
	good = good && update("remap", "membarrier") && update("remap", "membarrier");
	atomic_store(&enough, true);
	ok(!pthread_join(thread, NULL) && good, "a thread: not alone");
}

/* The child updates while its parent, in whose memory it runs, waits for it. */
static void in_vfork(void)
{
	int status = -1;
	pid_t pid = vfork();

	if (!pid) /* NOLINTNEXTLINE: what it does is the point */
		_exit(!update("remap", "membarrier"));
	ok(pid > 0 && waitpid(pid, &status, 0) == pid && !status && update("alone", "iret"),
	   "a child of vfork(): not alone; its parent afterwards: alone");
}

/* -------------------------------------------------------------------- filters */

/*
 * unshare() comes to @action. @hides: prctl() returns 0 and does nothing, so that the filter
 * is not known of.
 */
static bool filter_unshare(unsigned action, bool hides)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_unshare, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, hides ? SYS_prctl : ~0u, 2, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO),
	};
	struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};

	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* An update in a child under such a filter: its status. */
static int status_under(unsigned action, bool hides)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid) {
		(void)signal(SIGSYS, SIG_DFL);
		_exit(!filter_unshare(action, hides) || !update("remap", "membarrier"));
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid ? status : -1;
}

static void under_filters(void)
{
	static const struct {
		const char *name;
		unsigned action;
	} filters[] = {
		{"kills the process", SECCOMP_RET_KILL_PROCESS},
		{"kills the thread", SECCOMP_RET_KILL_THREAD},
		{"sends SIGSYS", SECCOMP_RET_TRAP},
	};

	for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++) {
		int status = status_under(filters[i].action, false);

		ok(status == 0, "a filter that %s on unshare(): not asked, by remap",
		   filters[i].name);
		status = status_under(filters[i].action, true);
		ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS,
		   "control: the same where it is not known of: %d", status);
	}
}

/* -------------------------------------------------------------------- control */

/* In a child: whether it is taken to be alone although another process shares its memory. */
static void control(void)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid) {
		bool wrong, deceived = filter_unshare(SECCOMP_RET_ERRNO, true);
		/* Stopped, so that no site is written under it. */
		pid_t other = start(CLONE_VM | SIGCHLD);
		bool stopped = other > 0 && !kill(other, SIGSTOP) &&
			       waitpid(other, &status, WUNTRACED) == other;

		wrong = deceived && stopped && update("alone", "iret");
		(void)kill(other, SIGKILL);
		_exit(wrong ? 42 : 1);
	}
	ok(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
		   WEXITSTATUS(status) == 42,
	   "control: without the kernel's word it is taken to be alone, and is not");
}

int main(void)
{
	ok(update("alone", "iret"), "one thread: plain writes, iret");
#ifdef SUITE_TSAN
	skip("the others", "ThreadSanitizer's runtime does not bear a raw clone() in its memory");
	return tap_done();
#endif
	ok(!shunt_set_poke(SHUNT_POKE_INT3) && update("int3", "iret"), "by int3: iret too");
	ok(!shunt_set_poke(SHUNT_POKE_REMAP) && update("remap", "iret"), "by remap: iret too");
	ok(!shunt_set_poke(SHUNT_POKE_AUTO), "by auto");
	beside("clone(CLONE_VM)", CLONE_VM | SIGCHLD);
	beside("clone(CLONE_VM, CLONE_FILES, CLONE_SIGHAND)",
	       CLONE_VM | CLONE_FILES | CLONE_FS | CLONE_SIGHAND | SIGCHLD);
	ok(update("alone", "iret"), "they are gone: alone again");
	in_vfork();
	under_filters();
	control();
	beside_thread(); /* last: the C library remembers */
	return tap_done();
}
