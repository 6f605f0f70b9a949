/* SPDX-License-Identifier: MIT */
/*
 * Filters that answer for a system call: one after the other, each that updates and registration
 * make, with each answer, 0 and EINTR among them. It comes before the module registers, before its
 * first update, between two, or before a plugin is loaded. An update works, or it is an error with
 * a message and nothing has changed; nothing dies or waits for ever, calls meanwhile go to one of
 * the two, and the program's own descriptors are left alone.
 *
 * Control: what is taken for done because the answer is 0, in remap, in the signal mask, in
 * handlers, in the list of threads, in signals to them and in the clock.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "../common/child.h"
#include "../common/filter.h"
#include "../common/one_two.h"
#include "../common/remap_first.h"
#include "linux/base/action.h"
#include "linux/base/base.h"
#include "linux/base/tasks.h"
#include "linux/text/restart.h"

#include "../api/tap.h"

DEFINE_STATIC_CALL(call, one);
DEFINE_STATIC_KEY_FALSE(key);

#define OWN_PAGE __attribute__((aligned(4096), section("answered_text")))

OWN_PAGE KEEP static int site(void)
{
	return static_call(call)() + 0;
}

OWN_PAGE KEEP static int branch(void)
{
	return static_branch_unlikely(&key) ? 10 : 0;
}

/* ------------------------------------------------------------------ what is taken out */

long __real_shunt_remap_move(void *copy, size_t len, uintptr_t start, const uint64_t *begun);
long __wrap_shunt_remap_move(void *copy, size_t len, uintptr_t start, const uint64_t *begun);
int __real_shunt_block_signals(uint64_t *before);
int __wrap_shunt_block_signals(uint64_t *before);

static bool believes;

long __wrap_shunt_remap_move(void *copy, size_t len, uintptr_t start, const uint64_t *begun)
{
	long ret = __real_shunt_remap_move(copy, len, start, begun);

	return believes && !ret ? (long)start : ret;
}

int __wrap_shunt_block_signals(uint64_t *before)
{
	int ret = __real_shunt_block_signals(before);

	return believes ? 0 : ret;
}

bool __real_shunt_is_installed(int sig, const struct shunt_action *action);
bool __wrap_shunt_is_installed(int sig, const struct shunt_action *action);
int __real_shunt_tasks_list(struct shunt_tasks *tasks);
int __wrap_shunt_tasks_list(struct shunt_tasks *tasks);
enum shunt_task __real_shunt_task_look(int32_t tid, int sig);
enum shunt_task __wrap_shunt_task_look(int32_t tid, int sig);

bool __wrap_shunt_is_installed(int sig, const struct shunt_action *action)
{
	return believes || __real_shunt_is_installed(sig, action);
}

int __wrap_shunt_tasks_list(struct shunt_tasks *tasks)
{
	int ret = __real_shunt_tasks_list(tasks);

	return believes && !tasks->n ? 0 : ret;
}

enum shunt_task __wrap_shunt_task_look(int32_t tid, int sig)
{
	enum shunt_task task = __real_shunt_task_look(tid, sig);

	return believes && task == SHUNT_TASK_OPEN ? SHUNT_TASK_PENDING : task;
}

uint64_t __real_shunt_clock(void);
uint64_t __wrap_shunt_clock(void);

uint64_t __wrap_shunt_clock(void)
{
	uint64_t time = __real_shunt_clock();
	struct timespec t = {0, 0};

	if (!believes)
		return time;
	(void)syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int __wrap_shunt_port_poke_begin(size_t n, bool flips, unsigned tried)
{
	return begin_remap_first(n, flips, tried);
}

/* ---------------------------------------------------------------------- the filter */

static const struct {
	const char *name;
	int nr;
	bool by_linker; /* the dynamic linker makes it too */
} calls[] = {
	{"rt_sigprocmask", SYS_rt_sigprocmask, false},
	{"getpid", SYS_getpid, false},
	{"gettid", SYS_gettid, false},
	{"lseek", SYS_lseek, false},
	{"ioctl", SYS_ioctl, false},
	{"futex", SYS_futex, false},
	{"mmap", SYS_mmap, true},
	{"munmap", SYS_munmap, true},
	{"mremap", SYS_mremap, false},
	{"mincore", SYS_mincore, false},
	{"sigaltstack", SYS_sigaltstack, false},
	{"membarrier", SYS_membarrier, false},
	{"prctl", SYS_prctl, false},
	{"unshare", SYS_unshare, false},
	{"pwrite64", SYS_pwrite64, false},
	{"pread64", SYS_pread64, true},
	{"rt_sigaction", SYS_rt_sigaction, false},
	{"openat", SYS_openat, true},
	{"close", SYS_close, true},
	{"fcntl", SYS_fcntl, false},
	{"fstat", SYS_fstat, true},
	{"newfstatat", SYS_newfstatat, true},
	{"read", SYS_read, true},
	{"getdents64", SYS_getdents64, false},
	{"process_vm_readv", SYS_process_vm_readv, false},
	{"rt_tgsigqueueinfo", SYS_rt_tgsigqueueinfo, false},
	{"clock_gettime", SYS_clock_gettime, false},
	{"nanosleep", SYS_nanosleep, false},
};

static const int answers[] = {0,      EINTR,  EPERM, EINVAL, ENOMEM,
			      ENOSYS, EAGAIN, EBADF, ENOENT, EFAULT};
static size_t nr_answers = 4; /* "all": all of them, each with each policy */

/* Otherwise every second answer with one of the five: auto with one thread and with two, and the
 * other policies. */
static bool is_of_part(size_t answer, size_t call, size_t when, size_t policy, size_t threads)
{
	return nr_answers > 4 ||
	       ((answer + call + when) % 2 == 0 &&
		(answer + call + when + (policy ? policy + 1 : threads)) % 5 == 0);
}

/* ------------------------------------------------------------------- the program */

static struct {
	_Atomic bool over;
	_Atomic unsigned long rounds, wrong;
} caller;

static bool blocks_signals;

static void *keep_calling(void *arg)
{
	sigset_t all;

	(void)sigfillset(&all);
	if (blocks_signals)
		(void)pthread_sigmask(SIG_BLOCK, &all, NULL);
	while (!caller.over) {
		int a = site(), b = branch();

		caller.wrong += (a != 1 && a != 2) || (b && b != 10);
		caller.rounds++;
		(void)sched_yield();
	}
	return arg;
}

/* That the caller comes by: an int3 that it finds there is left to it. */
static void let_it_call(void)
{
	unsigned long end = caller.rounds + 3;

	for (int i = 0; i < 10 && caller.rounds < end; i++)
		(void)sched_yield();
}

static struct stat own[4];

/* Files of the program, those at the lowest numbers among them. */
static void open_own(void)
{
	int ends[2];

	for (int fd = 0; fd < 4; fd++) {
		char path[] = "/tmp/answered-XXXXXX";
		int file = mkstemp(path);

		if (file < 0 || unlink(path) || dup2(file, 60 + fd) < 0 || close(file))
			abort();
	}
	/* Messages go into a pipe. */
	if (pipe(ends) || dup2(ends[0], 90) != 90 || dup2(ends[1], 62) != 62)
		abort();
	(void)close_range(3, 59, 0);
	for (int fd = 0; fd < 4; fd++)
		if (dup2(60 + fd, fd) != fd || fstat(fd, &own[fd]))
			abort();
	(void)close_range(60, 63, 0);
}

/* Asked without the calls that may be answered for. */
static bool are_own(void)
{
	for (int fd = 0; fd < 4; fd++) {
		struct statx now;

		if (syscall(SYS_statx, fd, "", 0x1000, STATX_INO | STATX_SIZE, &now) ||
		    now.stx_ino != own[fd].st_ino || now.stx_size)
			return false;
	}
	return true;
}

static unsigned count_open(void)
{
	struct statx now;
	unsigned n = 0;

	for (int fd = 0; fd < 160; fd++)
		n += !syscall(SYS_statx, fd, "", 0x1000, STATX_INO, &now);
	return n;
}

enum {
	GOOD,
	WRONG_CALL = 20,
	NO_MESSAGE,
	CHANGED,
	NOT_DONE,
	OWN_FILES,
	CALLER,
	LEAK,
	ERROR_SEEN,
	OTHER_ERROR
};

static bool must_fail, has_failed, is_other;
static const char *must_name = ""; /* the call that an error is to name */

static void note_failure(int ret)
{
	has_failed = has_failed || ret;
	is_other = is_other || (ret && !strstr(shunt_last_error(), must_name));
}

static bool is_as_told(void)
{
	return site() == (static_call_query(call) == one ? 1 : 2) &&
	       branch() == (static_key_count(&key) ? 10 : 0);
}

static int update(void)
{
	int (*was)(void) = static_call_query(call), (*to)(void) = was == one ? two : one;
	bool on = static_key_count(&key);
	int ret = static_call_update(call, to);

	note_failure(ret);
	if (ret && !shunt_last_error()[0])
		return NO_MESSAGE;
	if (ret ? static_call_query(call) != was || site() != was() : site() != to())
		return ret ? CHANGED : NOT_DONE;
	ret = on ? static_branch_disable(&key) : static_branch_enable(&key);
	note_failure(ret);
	if (ret && !shunt_last_error()[0])
		return NO_MESSAGE;
	if ((static_key_count(&key) != 0) != (ret ? on : !on) || !is_as_told())
		return ret ? CHANGED : NOT_DONE;
	return are_own() ? GOOD : OWN_FILES;
}

static int update_often(void)
{
	unsigned open = count_open();
	int wrong = GOOD;

	for (int i = 0; i < 4 && !wrong; i++) {
		wrong = update();
		let_it_call();
	}
	if (!wrong && caller.wrong)
		return CALLER;
	/* Those that are kept, and what the test itself may leave open. */
	if (!wrong && count_open() > open + 8)
		return LEAK;
	if (wrong || !must_fail || !has_failed)
		return wrong;
	return is_other ? OTHER_ERROR : ERROR_SEEN;
}

static int from_plugin(const char *path)
{
	void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	int (*plugin_call)(void), (*plugin_update)(int);
	void *symbols[2];

	if (!handle)
		return GOOD;
	symbols[0] = dlsym(handle, "plugin_call");
	symbols[1] = dlsym(handle, "plugin_update");
	memcpy(&plugin_call, &symbols[0], sizeof(plugin_call));
	memcpy(&plugin_update, &symbols[1], sizeof(plugin_update));
	if (plugin_call() != 100)
		return WRONG_CALL;
	for (int on = 1; on >= 0; on--) {
		int was = plugin_call(), ret = plugin_update(on);

		if (ret ? !shunt_last_error()[0] || plugin_call() != was
			: plugin_call() != 100 + on)
			return ret ? CHANGED : NOT_DONE;
	}
	return dlclose(handle) ? WRONG_CALL : are_own() ? GOOD : OWN_FILES;
}

/* ------------------------------------------------------------------------ the cases */

enum when { AT_START, FIRST, LATER, PLUGIN };
static const char *const whens[] = {"before it registers", "before its first update",
				    "between two updates", "before a plugin is loaded"};

static struct situation {
	int when, policy, threads, nr, error;
} s;

static const char *plugin;

static int refused = -1;  /* another call, by EPERM */
static unsigned patience; /* seconds */

static int run(void)
{
	/* Of a CPU: a wait for ever is killed, also one with its signals blocked. */
	const rlim_t limit = believes && patience ? patience / 2 : 10;
	const struct rlimit seconds = {limit, limit};
	pthread_t thread;
	int wrong;

	(void)setrlimit(RLIMIT_CPU, &seconds);
	if (s.when != AT_START)
		open_own();
	if (shunt_set_poke((enum shunt_poke_policy)s.policy) && s.when != AT_START)
		return 9;
	if (s.when == LATER && (update() || update()))
		return 10;
	/* The C library takes the stack of a thread to be where it is told. */
	if (s.when == AT_START && s.nr == SYS_mmap)
		s.threads = 0;
	if (s.threads && pthread_create(&thread, NULL, keep_calling, NULL))
		return s.when == AT_START ? GOOD : 11;
	let_it_call();
	(void)alarm(patience);
	if (refused >= 0 && !answer_syscall(refused, EPERM))
		return 18;
	if (s.when != AT_START && !answer_syscall(s.nr, s.error))
		return 12;
	wrong = s.when == PLUGIN ? from_plugin(plugin) : GOOD;
	if (!wrong)
		wrong = update_often();
	return wrong;
}

static char **arguments;

static int execute(void)
{
	char text[64];

	(void)snprintf(text, sizeof(text), "%d %d %d %d", s.policy, s.threads, s.nr, s.error);
	open_own();
	if (setenv("ANSWERED", text, 1))
		return 13;
	(void)execv("/proc/self/exe", arguments);
	return 14;
}

static const char *start;

/* Before all constructors. */
static void begin(int argc, char **argv, char **envp)
{
	(void)argc;
	(void)argv;
	for (; *envp && !start; envp++)
		if (!strncmp(*envp, "ANSWERED=", 9))
			start = *envp + 9;
	if (!start)
		return;
	if (sscanf(start, "%d %d %d %d", &s.policy, &s.threads, &s.nr, &s.error) != 4)
		_exit(15);
	for (int fd = 0; fd < 4; fd++)
		if (fstat(fd, &own[fd]))
			_exit(16);
	if (!answer_syscall(s.nr, s.error))
		_exit(17);
}

__attribute__((section(".preinit_array"), used)) static void (*const early)(int, char **,
									    char **) = begin;

/* A control may wait for ever, with all signals blocked and without a CPU's time. */
static void end_at(pid_t pid, unsigned seconds)
{
	siginfo_t info = {0};

	for (unsigned i = 0; i < 100 * seconds && !info.si_pid; i++) {
		(void)usleep(10000);
		(void)waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT);
	}
	(void)kill(pid, SIGKILL);
}

static int run_situation(void)
{
	pid_t pid = fork();

	if (!pid)
		_exit(s.when == AT_START ? execute() : run());
	if (believes && patience)
		end_at(pid, patience);
	return child_status(pid);
}

static void test(enum when when, size_t c)
{
	unsigned bad = 0;

	for (size_t a = 0; a < nr_answers; a++)
		for (int policy = 0; policy < 4; policy++)
			for (int threads = policy != SHUNT_POKE_AUTO; threads < 2; threads++) {
				int status;

				if (!is_of_part(a, c, when, (size_t)policy, (size_t)threads))
					continue;

				s = (struct situation){(int)when, policy, threads, calls[c].nr,
						       answers[a]};
				status = run_situation();
				bad += status != GOOD;
				if (status != GOOD)
					diag("%s: answer %d, policy %d%s: %d", calls[c].name,
					     answers[a], policy, threads ? ", threads" : "",
					     status);
			}
	ok(!bad, "%s is answered for, %s: %u", calls[c].name, whens[when], bad);
}

static void test_controls(void)
{
	int status;

	believes = true;
	s = (struct situation){LATER, SHUNT_POKE_REMAP, 1, SYS_mremap, 0};
	status = run_situation();
	ok(status == NOT_DONE, "control: mremap() is believed: %d", status);
	believes = false;
	must_fail = true;
	/* EINVAL is what the library has for an answer when it looks whether text can be read. */
	s = (struct situation){LATER, SHUNT_POKE_AUTO, 0, SYS_rt_sigprocmask, EINVAL};
	status = run_situation();
	ok(status == ERROR_SEEN, "signals that cannot be blocked are an error: %d", status);
	believes = true;
	status = run_situation();
	ok(status == GOOD, "control: that is not seen: %d", status);
	believes = must_fail = false;
}

/*
 * Where one way is refused, a call that the next one needs seems to have been made. It is an error,
 * soon.
 */
static void test_pairs(void)
{
	static const struct {
		const char *name;
		int policy, refused, answered, blocks;
	} pairs[] = {
#if CPU_HAS_TRAPS
		{"int3: rt_sigaction", SHUNT_POKE_INT3, -1, SYS_rt_sigaction, 0},
		{"auto, no mremap: rt_sigaction", SHUNT_POKE_AUTO, SYS_mremap, SYS_rt_sigaction, 0},
#endif
		{"no membarrier: rt_sigaction", SHUNT_POKE_AUTO, SYS_membarrier, SYS_rt_sigaction,
		 0},
		{"no membarrier: getdents64", SHUNT_POKE_AUTO, SYS_membarrier, SYS_getdents64, 0},
		{"no membarrier: rt_tgsigqueueinfo", SHUNT_POKE_AUTO, SYS_membarrier,
		 SYS_rt_tgsigqueueinfo, 0},
		{"no membarrier, a thread that blocks all: clock_gettime", SHUNT_POKE_AUTO,
		 SYS_membarrier, SYS_clock_gettime, 1},
		{"remap, the same: clock_gettime", SHUNT_POKE_REMAP, SYS_membarrier,
		 SYS_clock_gettime, 1},
	};

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
		for (int when = FIRST; when <= LATER; when++) {
			int status;

			s = (struct situation){when, pairs[i].policy, 1, pairs[i].answered, 0};
			refused = pairs[i].refused;
			blocks_signals = pairs[i].blocks;
			must_fail = true;
			must_name = pairs[i].blocks ? "" : strrchr(pairs[i].name, ' ') + 1;
			patience = 20;
			status = run_situation();
			ok(status == ERROR_SEEN, "%s is answered by 0, %s: %d", pairs[i].name,
			   whens[when], status);
			if (when != FIRST)
				continue;
			believes = true; /* by luck no trap comes then, and no signal */
			patience = 2;
			status = run_situation();
			ok(status != ERROR_SEEN, "control: that is believed: %d", status);
			believes = false;
		}
	must_fail = false;
	blocks_signals = false;
	refused = -1;
	patience = 0;
}

int main(int argc, char **argv)
{
	shunt_set_log(NULL, NULL);
	if (argc < 2)
		return 2;
	plugin = argv[1];
	if (argc > 2)
		nr_answers = sizeof(answers) / sizeof(answers[0]);
	arguments = argv;
	if (start)
		return run();
	test_controls();
	test_pairs();
	for (int when = AT_START; when <= PLUGIN; when++)
		for (size_t c = 0; c < sizeof(calls) / sizeof(calls[0]); c++)
			if (when != PLUGIN || !calls[c].by_linker)
				test((enum when)when, c);
	return tap_done();
}
