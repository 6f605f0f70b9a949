/* SPDX-License-Identifier: MIT */
/*
 * The system calls of updates, as shunt(7) lists them for those who write sandboxes: under a
 * filter that kills whoever makes another one, updates by each policy work, the first one to
 * a function of another module too, of whatever name it was loaded by, of many sites, and
 * those that fail and tell of it; by a thread that is not the first, whose descriptors are closed;
 * in a child of fork() and of vfork(); to more functions than a module has veneers for; and the
 * program ends. Controls: the same filter without one of them kills; so
 * does it where the library does not see that there is one.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <link.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>
#include <shunt/text_poke.h>

#include "../api/tap.h"
#include "../common/child.h"
#include "../common/cpu.h"
#include "../common/idle_thread.h"
#include "../common/one_two.h"
#include "../common/site_code.h"
#include "linux/base/alone.h"
#include "linux/module/image.h"

bool __real_shunt_is_filtered(void);
bool __wrap_shunt_is_filtered(void);

static bool careless;

bool __wrap_shunt_is_filtered(void)
{
	return !careless && __real_shunt_is_filtered();
}

typedef void look_t(const struct shunt_image *image, void *arg);
bool __real_shunt_image_look(struct shunt_image *image, look_t *look, void *arg);
bool __wrap_shunt_image_look(struct shunt_image *image, look_t *look, void *arg);

static bool absolute;

bool __wrap_shunt_image_look(struct shunt_image *image, look_t *look, void *arg)
{
	if (absolute)
		image->as_linked = false;
	return __real_shunt_image_look(image, look, arg);
}

DEFINE_STATIC_CALL(call, one);
DEFINE_STATIC_KEY_FALSE(key);

KEEP static int site(void)
{
	if (static_branch_unlikely(&key))
		return static_call(call)() + 10;
	return static_call(call)();
}

#define MANY_SITES 65 /* more than are written one by one */

/* shunt(7), SYSTEM CALLS. Those of every update, and those of each way. */
#define EVERY                                                                                  \
	SYS_rt_sigprocmask, SYS_getpid, SYS_futex, SYS_mmap, SYS_munmap, SYS_lseek, SYS_ioctl, \
		SYS_membarrier, SYS_prctl, SYS_sigaltstack
#define REMAP EVERY, SYS_pwrite64, SYS_mremap
#define INT3  EVERY, SYS_pwrite64, SYS_rt_sigaction, SYS_rt_sigreturn
#define STORE EVERY, SYS_mprotect
#define MANY  SYS_openat, SYS_fcntl, SYS_read, SYS_close

#ifdef SYS_poll
#define SYS_POLL SYS_poll
#else
#define SYS_POLL SYS_ppoll
#endif

/* Of a message: the first of a thread, one that is written to standard error. */
#define FIRST SYS_gettid, SYS_getpid, SYS_tgkill, SYS_mmap
#define TELL                                                                               \
	SYS_fstat, SYS_rt_sigprocmask, SYS_rt_sigpending, SYS_rt_sigtimedwait, SYS_openat, \
		SYS_fcntl, SYS_write, SYS_close, SYS_POLL, SYS_sendto

#define END (-1) /* 0 is read() */

/* Where the program has closed what registration keeps; and a thread that is not the first opens a
 * file of /proc/self. */
#define NOT_FIRST SYS_gettid, SYS_getpid, SYS_readlinkat
#define CLOSED    NOT_FIRST, SYS_openat, SYS_fcntl, SYS_close, SYS_pread64, SYS_fstat

/* In a child: of fork(), and of vfork(). */
#define FORK                                                                                     \
	SYS_getpid, SYS_gettid, SYS_rt_sigprocmask, SYS_lseek, SYS_close, SYS_fcntl, SYS_openat, \
		SYS_fstat
#define VFORK SYS_gettid, SYS_get_robust_list, SYS_set_robust_list

/* More than 32 far targets: the C library loads libgcc. */
#define LOADS SYS_openat, SYS_newfstatat, SYS_read, SYS_mmap, SYS_mprotect, SYS_munmap, SYS_close

/* And the test's own. */
#define OWN SYS_exit_group
#ifdef SYS_vfork
#define OWN_CHILDREN SYS_clone, SYS_vfork, SYS_wait4, SYS_set_robust_list
#else
#define OWN_CHILDREN SYS_clone, SYS_wait4, SYS_set_robust_list
#endif

#if !CPU_HAS_TRAPS
/* Each update is one of these, whatever the policy. */
#define FLIP EVERY, SYS_pwrite64
static const int by_flip[] = {OWN, FLIP, END}, many_calls[] = {OWN, FLIP, MANY, END},
		 of_silence[] = {OWN, FLIP, FIRST, END},
		 of_message[] = {OWN, FLIP, FIRST, TELL, NOT_FIRST, END},
		 closed[] = {OWN, FLIP, CLOSED, END},
		 by_fork[] = {OWN, OWN_CHILDREN, FLIP, FORK, END},
		 by_vfork[] = {OWN, OWN_CHILDREN, FLIP, VFORK, END},
		 to_far[] = {OWN, FLIP, LOADS, END}, at_exit[] = {OWN, FLIP, END};
#else
static const int by_auto[] = {OWN, REMAP, END}, by_int3[] = {OWN, INT3, END},
		 by_remap[] = {OWN, REMAP, END}, by_atomic[] = {OWN, STORE, INT3, END},
		 many_calls[] = {OWN, REMAP, MANY, END}, of_silence[] = {OWN, REMAP, FIRST, END},
		 of_message[] = {OWN, REMAP, FIRST, TELL, NOT_FIRST, END},
		 closed[] = {OWN, REMAP, CLOSED, END},
		 by_fork[] = {OWN, OWN_CHILDREN, REMAP, FORK, END},
		 by_vfork[] = {OWN, OWN_CHILDREN, REMAP, VFORK, END},
		 to_far[] = {OWN, REMAP, LOADS, END}, at_exit[] = {OWN, REMAP, END};
#endif

static const struct policy {
	const char *name;
	enum shunt_poke_policy policy;
	const int *calls;
	int needed; /* what the control leaves out */
} policies[] = {
#if !CPU_HAS_TRAPS
	{"auto", SHUNT_POKE_AUTO, by_flip, SYS_pwrite64},
	{"remap", SHUNT_POKE_REMAP, by_flip, SYS_membarrier},
	{"atomic", SHUNT_POKE_ATOMIC, by_flip, SYS_pwrite64},
#else
	{"auto", SHUNT_POKE_AUTO, by_auto, SYS_mremap},
	{"auto", SHUNT_POKE_AUTO, by_auto, SYS_ioctl},
	{"int3", SHUNT_POKE_INT3, by_int3, SYS_pwrite64},
	{"int3", SHUNT_POKE_INT3, by_int3, SYS_rt_sigaction},
	{"remap", SHUNT_POKE_REMAP, by_remap, SYS_membarrier},
	{"atomic", SHUNT_POKE_ATOMIC, by_atomic, SYS_mprotect},
#endif
};

/* Linux before 6.11, or a filter that answers as that does: /proc/self/maps is read. */
static bool is_as_before;

static bool has_procmap_query(void)
{
	uint64_t query[13] = {sizeof(query), 0, (uintptr_t)&has_procmap_query};
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	bool has = !ioctl(fd, 0xc0686611ul, query);

	(void)close(fd);
	return has;
}

static bool allow_only(const int *calls, int but)
{
	struct sock_filter f[256];
	struct sock_fprog program = {0, f};
	static const struct sock_filter before[] = {
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOTTY),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pread64, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};

	f[program.len++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
							offsetof(struct seccomp_data, nr));
	if (is_as_before && but != SYS_ioctl)
		for (size_t i = 0; i < (but == SYS_pread64 ? 2 : 4); i++)
			f[program.len++] = before[i];
	for (; *calls != END; calls++) {
		if (*calls == but)
			continue;
		if (program.len + 3u > sizeof(f) / sizeof(f[0]))
			abort();
		f[program.len++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
								(unsigned)*calls, 0, 1);
		f[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	}
	f[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static int update(int times)
{
	for (int i = 0; i < times; i++) {
		if (static_call_update(call, i % 2 ? one : two) ||
		    (i % 2 ? static_branch_disable(&key) : static_branch_enable(&key)))
			return 1;
		if (site() != (i % 2 ? 1 : 12))
			return 2;
	}
	return 0;
}

static int (*far_function)(void); /* in a module that is not watched yet */

static int update_to_module(void)
{
	if (static_call_update(call, far_function))
		return 3;
	return site() == far_function() ? update(2) : 4;
}

/* So many that they are written in runs, and it is asked whether a debugger is there. */
static int update_many(void)
{
	static const uint8_t off[SITE_LEN] = SITE_OFF(8), on[SITE_LEN] = SITE_JMP(8);
	struct text_poke pokes[MANY_SITES];
	uint8_t *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (code == MAP_FAILED)
		return 1;
	for (size_t i = 0; i < MANY_SITES; i++)
		memcpy(code + 16 * i, off, SITE_LEN);
	for (int k = 0; k < 4; k++) {
		for (size_t i = 0; i < MANY_SITES; i++)
			pokes[i] = (struct text_poke){.addr = code + 16 * i,
						      .insn = k % 2 ? off : on,
						      .len = SITE_LEN,
						      .old = k % 2 ? on : off};
		if (text_poke_bp_batch(pokes, MANY_SITES))
			return 2;
		for (size_t i = 0; i < MANY_SITES; i++)
			if (memcmp(code + 16 * i, k % 2 ? off : on, SITE_LEN) != 0)
				return 3;
	}
	return 0;
}

/* Of a thread that has had none, and again. */
static int fail(void)
{
	for (int i = 0; i < 2; i++)
		if (static_call_update(call, NULL) != -EINVAL || !*shunt_last_error())
			return 1;
	return update(2);
}

static int (*action)(void); /* in place of updates */
static bool by_thread;      /* that is not the first */
static bool closes;         /* all descriptors, before the filter */

static const struct policy *of_thread;
static int left_out;

static void *act_in_filter(void *arg)
{
	if (!allow_only(of_thread->calls, left_out))
		_exit(8);
	_exit(action());
	return arg;
}

/* In a child: 0, what is wrong, or 1000 + the signal that has killed it. */
static int run(const struct policy *p, bool threads, int but)
{
	pid_t pid = fork();

	if (!pid) {
		pthread_t thread;

		if (shunt_set_poke(p->policy) ||
		    (threads && pthread_create(&thread, NULL, idle, NULL)))
			_exit(9);
		if (closes && close_range(3, ~0u, 0))
			_exit(7);
		of_thread = p;
		left_out = but;
		if (by_thread && !pthread_create(&thread, NULL, act_in_filter, NULL))
			(void)pause();
		if (!allow_only(p->calls, but))
			_exit(8);
		if (action)
			_exit(action());
		_exit(far_function ? update_to_module() : update(20));
	}
	return child_status(pid);
}

/* As what the tables of shunt(7) allow, and with one of them left out. */
static void test_action(const char *what, int (*fn)(void), const int *calls, int needed)
{
	struct policy p = {what, SHUNT_POKE_AUTO, calls, needed};
	int status;

	action = fn;
	status = run(&p, true, -1);
	ok(status == 0, "%s: %d", what, status);
	status = run(&p, true, needed);
	ok(status == 1000 + SIGSYS, "control: %s without call %d: %d", what, needed, status);
	action = NULL;
}

/* Standard error is what it was when the library was loaded: this program once more for each. */
static void test_message(const char *what, int fd, int needed)
{
	char number[16];
	int status = -1;
	pid_t pid;

	(void)snprintf(number, sizeof(number), "%d", needed);
	pid = fork();
	if (!pid) {
		if ((fd < 0 ? close(2) : dup2(fd, 2)) < 0)
			_exit(7);
		execl("/proc/self/exe", "test_sandbox", "message", number, NULL);
		_exit(6);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		status = -1;
	ok(status == 0, "a message to %s, and without call %d: %d", what, needed, status);
}

static int tell(int needed)
{
	struct policy p = {"auto", SHUNT_POKE_AUTO, of_message, needed};

	action = fail;
	by_thread = needed == SYS_readlinkat;
	if (run(&p, true, -1))
		return 1;
	return run(&p, true, needed) == 1000 + SIGSYS ? 0 : 2;
}

static void test_messages(void)
{
	int ends[2], sockets[2];

	if (pipe(ends) || socketpair(AF_UNIX, SOCK_STREAM, 0, sockets))
		return;
	test_message("a pipe", ends[1], SYS_openat);
	test_message("a pipe", ends[1], SYS_close);
	test_message("a pipe", ends[1], SYS_readlinkat);
	test_message("a device", open("/dev/null", O_WRONLY | O_CLOEXEC), SYS_fcntl);
	test_message("a file", fileno(tmpfile()), SYS_rt_sigpending);
	test_message("a socket", sockets[1], SYS_sendto);
	test_message("nothing", -1, SYS_fstat);
	(void)close(ends[0]);
	test_message("a pipe that nobody reads", ends[1], SYS_openat);
	shunt_set_log(NULL, NULL);
	test_action("messages that are dropped", fail, of_silence, SYS_gettid);
	test_action("many sites", update_many, many_calls, SYS_openat);
}

static int update_closed(void)
{
	return update(4);
}

static int end(void)
{
	int ret = update(2);

	exit(ret);
}

/* A child that the filter has killed: this one is killed by it too. */
static int end_of(pid_t pid)
{
	int status = child_status(pid);

	if (status == 1000 + SIGSYS)
		(void)syscall(SYS_getppid);
	return status;
}

static int update_in_fork(void)
{
	pid_t pid = fork();

	if (!pid)
		_exit(update(2));
	return end_of(pid);
}

static __attribute__((noinline)) int update_in_vfork(void)
{
	pid_t pid = vfork();

	if (!pid)
		_exit(update(2));
	return end_of(pid);
}

static int (*many_far[40])(void);

static int update_to_far(void)
{
	for (size_t i = 0; i < sizeof(many_far) / sizeof(many_far[0]); i++)
		if (static_call_update(call, many_far[i]))
			return 1;
	return update(2);
}

/* Which are never called. */
static bool find_far(void)
{
	void *handle = dlopen("libm.so.6", RTLD_NOW);
	const char *p =
		"sin,cos,tan,asin,acos,atan,sinh,cosh,tanh,exp,log,log10,sqrt,cbrt,ceil,"
		"floor,rint,round,trunc,fabs,lrint,llrint,erf,erfc,lgamma,tgamma,j0,j1,y0,y1,"
		"logb,ilogb,log2,log1p,exp2,expm1,nearbyint,lround,llround,asinh,";

	for (size_t i = 0; i < sizeof(many_far) / sizeof(many_far[0]); i++) {
		char name[16] = "";
		size_t len = strcspn(p, ",");
		void *found;

		memcpy(name, p, len);
		p += len + 1;
		found = handle ? dlsym(handle, name) : NULL;
		if (!found)
			return false;
		memcpy(&many_far[i], &found, sizeof(found));
	}
	/* So that what is left of it is under the filter. */
	return !static_call_update(call, many_far[0]) && !static_call_update(call, one);
}

static void test_process(void)
{
	test_action("a child of fork()", update_in_fork, by_fork, SYS_openat);
	test_action("a child of fork()", update_in_fork, by_fork, SYS_close);
	test_action("a child of vfork()", update_in_vfork, by_vfork, SYS_get_robust_list);
	test_action("the end of the program", end, at_exit, SYS_getpid);
	by_thread = true;
	closes = true;
	test_action("a thread, descriptors are closed", update_closed, closed, SYS_readlinkat);
	closes = false;
	by_thread = false;
}

/* By a relative name, which the dynamic linker keeps. */
static void *open_relative(void)
{
	void *handle = dlopen("libm.so.6", RTLD_NOW);
	struct link_map *map;
	char path[4096];

	if (!handle || dlinfo(handle, RTLD_DI_LINKMAP, &map))
		return NULL;
	(void)snprintf(path, sizeof(path), "%s", map->l_name);
	if (dlclose(handle) || chdir(dirname(path)))
		return NULL;
	handle = dlopen("./libm.so.6", RTLD_NOW);
	ok(handle && !dlinfo(handle, RTLD_DI_LINKMAP, &map) && map->l_name[0] == '.',
	   "a module of a relative name");
	return handle;
}

static void test_module(void)
{
	void *handle = open_relative(), *found;
	int status;

	found = handle ? dlsym(handle, "fegetround") : NULL;
	memcpy(&far_function, &found, sizeof(found));
	if (!found)
		return;
	for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++) {
		status = run(&policies[i], true, -1);
		ok(status == 0, "%s, to a module's function: %d", policies[i].name, status);
	}
	absolute = true;
	status = run(&policies[0], true, -1);
	ok(status == 1000 + SIGSYS, "control: its name is made absolute: %d", status);
	absolute = false;
	careless = true;
	status = run(&policies[0], true, -1);
	ok(status == 1000 + SIGSYS, "control: the filter is not seen: %d", status);
}

#if CPU_HAS_TRAPS
/* Sites on so many pages that one call asks for all of them where no filter is in force. */
static struct text_poke many_pages[16];

static int poke_many_pages(void)
{
	return text_poke_bp_batch(many_pages, 16) != 0;
}

static void test_many_pages(void)
{
	static const uint8_t nop[] = {0x0f, 0x1f, 0x44, 0, 0}, jmp[] = {0xe9, 0, 0, 0, 0};
	struct policy p = {"", SHUNT_POKE_INT3, by_int3, -1};
	uint8_t *code = mmap(NULL, (size_t)16 * 4096, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int status;

	if (code == MAP_FAILED)
		abort();
	for (size_t i = 0; i < 16; i++) {
		many_pages[i] = (struct text_poke){
			.addr = code + i * 4096, .insn = jmp, .len = sizeof(jmp), .old = nop};
		memcpy(code + i * 4096, nop, sizeof(nop));
	}
	if (mprotect(code, (size_t)16 * 4096, PROT_READ | PROT_EXEC))
		abort();
	action = poke_many_pages;
	status = run(&p, true, -1);
	ok(status == 0, "sites on 16 pages: %d", status);
	careless = true;
	status = run(&p, true, -1);
	ok(status == 1000 + SIGSYS, "control: sites on 16 pages, the filter is not seen: %d",
	   status);
	careless = false;
	action = NULL;
}
#endif

/* The same by each policy where the kernel cannot be asked. */
static void test_before(void)
{
	int status;

	careless = false;
	far_function = NULL;
	is_as_before = true;
	for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++) {
		status = run(&policies[i], true, -1);
		ok(status == 0, "%s, before Linux 6.11: %d", policies[i].name, status);
	}
	status = run(&policies[0], true, SYS_pread64);
	ok(status == 1000 + SIGSYS, "control: before Linux 6.11, without pread64: %d", status);
}

int main(int argc, char **argv)
{
	is_as_before = !has_procmap_query();
	if (argc == 3)
		return tell((int)strtol(argv[2], NULL, 10));
	test_messages();
	test_process();
	for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++) {
		const struct policy *p = &policies[i];

		for (int threads = 0; threads < 2; threads++) {
			int status = run(p, threads, -1);

			ok(status == 0, "%s, %s: %d", p->name, threads ? "threads" : "one thread",
			   status);
			status = run(p, threads, p->needed);
			ok(status == 1000 + SIGSYS, "control: without call %d: %d", p->needed,
			   status);
		}
	}
	test_module();
	careless = false;
#if CPU_HAS_TRAPS
	test_many_pages();
#endif
	test_before();
	is_as_before = !has_procmap_query();
	if (find_far())
		test_action("more than 32 far targets", update_to_far, to_far, SYS_newfstatat);
	return tap_done();
}
