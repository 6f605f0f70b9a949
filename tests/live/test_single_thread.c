/* SPDX-License-Identifier: MIT */
/*
 * In a process with one thread, auto writes sites plainly and serialises this CPU only.
 * Whether it is one is the kernel's word (way.c: unshare()), because the C library does
 * not know of a raw clone() or a vfork() that runs in the same memory.
 *
 * Under a filter the kernel is not asked, because the filter may kill whoever does; a filter may
 * also hide itself, and answer for unshare(), by the calls' numbers or by their arguments.
 *
 * Control: the two questions are asked once, and each answer is believed (--wrap). Then the process
 * dies of a filter, or is taken to be alone while another one is in its memory, which the test
 * sees.
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
#include <sys/mman.h>
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

enum match { NUMBER, LOW_WORD, WHOLE_ARGUMENT };
static const char *const matches[] = {"by its number", "by 32 bits of its argument",
				      "by its argument"};

/*
 * What @nr gets, @answer (an errno, 0 too) or @action, where it is asked for @argument as far as
 * @match looks.
 */
struct answer {
	int nr, match;
	uint32_t argument;
	uint32_t action;
};

static bool add_filter(const struct answer *a)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)a->nr, 0, 5),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | (a->match == NUMBER ? BPF_JGE : BPF_JEQ) | BPF_K,
			 a->match == NUMBER ? 0 : a->argument, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0]) + 4),
		BPF_JUMP(BPF_JMP | (a->match == WHOLE_ARGUMENT ? BPF_JEQ : BPF_JGE) | BPF_K, 0, 0,
			 1),
		BPF_STMT(BPF_RET | BPF_K, a->action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(f) / sizeof(f[0]), f};

	return !syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

static bool believes;

bool __real_shunt_ask_if_alone(const char **why_not);
bool __wrap_shunt_ask_if_alone(const char **why_not);

/* As it would be asked of a kernel in whose place nobody answers. */
bool __wrap_shunt_ask_if_alone(const char **why_not)
{
	if (!believes)
		return __real_shunt_ask_if_alone(why_not);
	*why_not = NULL;
	return syscall(SYS_prctl, PR_GET_SECCOMP) <= 0 && !syscall(SYS_unshare, CLONE_VM);
}

enum { HELD = 40, TAKEN_ALONE = 42 };

/*
 * In a child under @n filters, beside a process in its memory that is stopped, so that no site
 * is written under it: its status.
 */
static int status_under(const struct answer *answers, size_t n)
{
	pid_t *others = mmap(NULL, sizeof(*others), PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status = -1;
	pid_t pid = others == MAP_FAILED ? -1 : fork(), other;

	if (!pid) {
		struct shunt_ways ways;
		bool good;

		(void)signal(SIGSYS, SIG_DFL);
		*others = other = start(CLONE_VM | SIGCHLD);
		good = other > 0 && !kill(other, SIGSTOP) &&
		       waitpid(other, &status, WUNTRACED) == other &&
		       !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		for (size_t i = 0; i < n; i++)
			good = good && add_filter(&answers[i]);
		good = good && !static_call_update(alone, two) && site(7) == 2;
		shunt_get_ways(&ways);
		_exit(!good ? 1 : !strcmp(ways.poke, "alone") ? TAKEN_ALONE : HELD);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		status = -1;
	else if (*others > 0)
		(void)kill(*others, SIGKILL);
	if (pid >= 0)
		(void)munmap(others, sizeof(*others));
	return status;
}

static bool held(int status)
{
	return WIFEXITED(status) && WEXITSTATUS(status) == HELD;
}

static void under_filters(void)
{
	static const struct {
		const char *name;
		uint32_t action;
	} kills[] = {
		{"kills the process", SECCOMP_RET_KILL_PROCESS},
		{"kills the thread", SECCOMP_RET_KILL_THREAD},
		{"sends SIGSYS", SECCOMP_RET_TRAP},
	};
	static const struct {
		const char *name;
		int match;
		uint32_t action;
	} hides[] = {
		{"answered by 0", NUMBER, SECCOMP_RET_ERRNO},
		{"refused by EPERM", NUMBER, SECCOMP_RET_ERRNO | EPERM},
		{"refused by EINVAL", NUMBER, SECCOMP_RET_ERRNO | EINVAL},
		{"answered by 0 for its argument", WHOLE_ARGUMENT, SECCOMP_RET_ERRNO},
	};

	for (size_t i = 0; i < sizeof(kills) / sizeof(kills[0]); i++) {
		struct answer f[2] = {{SYS_unshare, NUMBER, 0, kills[i].action}};
		int status = status_under(f, 1);

		ok(held(status), "a filter that %s on unshare(): not asked, by remap: %x",
		   kills[i].name, (unsigned)status);
		for (size_t h = 0; h < sizeof(hides) / sizeof(hides[0]); h++) {
			f[1] = (struct answer){SYS_prctl, hides[h].match, PR_GET_SECCOMP,
					       hides[h].action};
			status = status_under(f, 2);
			ok(held(status), "the same, and prctl() is %s: %x", hides[h].name,
			   (unsigned)status);
			believes = true;
			status = status_under(f, 2);
			believes = false;
			ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS,
			   "control: that is believed: %x", (unsigned)status);
		}
	}
}

/* Filters that say that there is none, and that nobody shares the memory. */
static void under_answers(void)
{
	for (int p = NUMBER; p <= WHOLE_ARGUMENT; p++)
		for (int u = NUMBER; u <= WHOLE_ARGUMENT; u++) {
			const struct answer f[] = {
				{SYS_unshare, u, CLONE_VM, SECCOMP_RET_ERRNO},
				{SYS_prctl, p, PR_GET_SECCOMP, SECCOMP_RET_ERRNO},
			};
			int status;

			/* The one pair that nothing tells from a kernel without filters. */
			if (p == LOW_WORD && u == WHOLE_ARGUMENT)
				continue;
			status = status_under(f, 2);
			ok(held(status), "prctl() is answered by 0 %s, unshare() %s: not alone: %x",
			   matches[p], matches[u], (unsigned)status);
			believes = true;
			status = status_under(f, 2);
			believes = false;
			ok(WIFEXITED(status) && WEXITSTATUS(status) == TAKEN_ALONE,
			   "control: that is believed, and it is taken to be alone: %x",
			   (unsigned)status);
		}
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
	under_answers();
	beside_thread(); /* last: the C library remembers */
	return tap_done();
}
