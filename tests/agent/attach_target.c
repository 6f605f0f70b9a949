/* SPDX-License-Identifier: MIT */
/*
 * A process to attach to. Its main thread waits again and again in the system call that KIND names
 * and checks what each wait gave; other threads are in malloc(), in dlopen(), in fork(), and in a
 * signal handler that sleeps on top of malloc() all the time.
 *
 *	attach_target KIND FILE
 *
 * FILE is mapped: what has happened so far, and a word by which the test ends it.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../common/filter.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static struct {
	_Atomic uint64_t stop, rounds, wrong, allocated, loaded, forked, handled, is_held;
} * shared;

/* A malloc() of the program's own, which counts requests of the size that the tool tries locks
 * with. */
#ifdef ATTACH_OWN_MALLOC
enum { TRIED = 100 << 10 };

static unsigned char own_memory[64 << 20] __attribute__((aligned(16)));
static _Atomic size_t own_used;

void *malloc(size_t size)
{
	size_t whole = (size + 31) & ~(size_t)15;
	size_t at = atomic_fetch_add(&own_used, whole);

	if (whole < size || at + whole > sizeof(own_memory))
		return NULL;
	if (size == TRIED && shared)
		atomic_fetch_add(&shared->allocated, 1);
	memcpy(own_memory + at, &size, sizeof(size));
	return own_memory + at + 16;
}

void free(void *p)
{
	(void)p;
}

void *calloc(size_t n, size_t size)
{
	return size && n > SIZE_MAX / size ? NULL : malloc(n * size); /* never used before: zero */
}

void *realloc(void *p, size_t size)
{
	void *new = malloc(size);
	size_t old = 0;

	if (p)
		memcpy(&old, (unsigned char *)p - 16, sizeof(old));
	if (new &&p)
		memcpy(new, p, old < size ? old : size);
	return new;
}
#endif

static int pipe_fds[2], epoll_fd;
static pthread_t main_thread;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static unsigned signalled;
static sem_t semaphore;
static pthread_barrier_t barrier;
static _Atomic unsigned handler_runs;
static _Atomic bool main_is_done;

static void wrong(const char *what, long got)
{
	(void)fprintf(stderr, "attach_target: %s gave %ld (%s)\n", what, got, strerror(errno));
	atomic_fetch_add(&shared->wrong, 1);
}

/* The stack for signals, which nobody else may change. */
static stack_t alternate;

/* What errno is before each wait, and behind it. */
enum { KEPT = 77 };

static void check(bool good, const char *what, long got)
{
	int err = errno;
	stack_t now;

	if (good && err != KEPT && err != EINTR)
		wrong("errno", err);
	if (alternate.ss_sp && (sigaltstack(NULL, &now) || now.ss_sp != alternate.ss_sp ||
				now.ss_size != alternate.ss_size || now.ss_flags))
		wrong("sigaltstack()", now.ss_flags);
	if (!good)
		wrong(what, got);
	atomic_fetch_add(&shared->rounds, 1);
}

static void sleep_ms(long ms)
{
	struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	while (nanosleep(&time, &time) && errno == EINTR)
		;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* --------------------------------------------------------------- what is never safe */

static void *allocate(void *arg)
{
	while (!atomic_load(&shared->stop)) {
		void *volatile p = malloc(5000);

		free(p);
		atomic_fetch_add(&shared->allocated, 1);
	}
	return arg;
}

static void *load(void *arg)
{
	while (!atomic_load(&shared->stop)) {
		void *handle = dlopen("libresolv.so.2", RTLD_NOW);

		if (!handle || dlclose(handle))
			wrong("dlopen()", 0);
		atomic_fetch_add(&shared->loaded, 1);
	}
	return arg;
}

static void *fork_often(void *arg)
{
	while (!atomic_load(&shared->stop)) {
		pid_t pid = fork();
		int status = 0;

		if (!pid)
			_exit(3);
		if (pid < 0 || waitpid(pid, &status, 0) != pid || WEXITSTATUS(status) != 3)
			wrong("fork()", status);
		atomic_fetch_add(&shared->forked, 1);
	}
	return arg;
}

static void sleep_in_handler(int signal)
{
	struct timespec time = {.tv_nsec = 2000000};
	int err = errno;

	(void)signal;
	(void)nanosleep(&time, NULL);
	atomic_fetch_add(&shared->handled, 1);
	errno = err;
}

static void *handle_signals(void *arg)
{
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR2};
	struct itimerspec often = {{0, 3000000}, {0, 3000000}};
	timer_t timer;

	event.sigev_notify_thread_id = gettid();
	if (timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &often, NULL))
		wrong("timer_create()", 0);
	(void)allocate(arg);
	(void)timer_delete(timer);
	return arg;
}

/* ------------------------------------------------------------------- who wakes main */

static void *wake_main(void *arg)
{
	const char *kind = arg;
	bool by_signal = !strcmp(kind, "sigsuspend") || !strcmp(kind, "epoll_pwait");

	while (!atomic_load(&main_is_done)) {
		uint64_t before = atomic_load(&shared->rounds);

		(void)usleep(20000);
		(void)pthread_mutex_lock(&lock);
		signalled++;
		(void)pthread_cond_signal(&condition);
		(void)pthread_mutex_unlock(&lock);
		(void)sem_post(&semaphore);
		if (!strcmp(kind, "barrier"))
			(void)pthread_barrier_wait(&barrier);
		else if (by_signal)
			(void)pthread_kill(main_thread, SIGUSR1);
		else if (write(pipe_fds[1], "x", 1) != 1)
			wrong("write()", 0);
		/* One at a time. */
		while (atomic_load(&shared->rounds) == before && !atomic_load(&main_is_done))
			(void)usleep(1000);
	}
	return arg;
}

static void count_run(int signal)
{
	(void)signal;
	atomic_fetch_add(&handler_runs, 1);
}

/* ------------------------------------------------------------------------- the waits */

static void take_byte(void)
{
	char byte;

	if (read(pipe_fds[0], &byte, 1) != 1)
		wrong("read()", 0);
}

static void wait_read(void)
{
	char byte;
	ssize_t n = read(pipe_fds[0], &byte, 1);

	check(n == 1, "read()", n);
}

static void wait_poll(void)
{
	struct pollfd polled = {.fd = pipe_fds[0], .events = POLLIN};
	int n = poll(&polled, 1, 60000);

	if (n == 1)
		take_byte();
	check(n == 1, "poll()", n);
}

static void wait_epoll(void)
{
	struct epoll_event event;
	int n = epoll_wait(epoll_fd, &event, 1, -1);

	if (n == 1)
		take_byte();
	check(n == 1, "epoll_wait()", n);
}

/* Ends by a signal that is let in for the time of the wait alone: one run, one EINTR. */
static void wait_epoll_pwait(void)
{
	struct epoll_event event;
	unsigned before = atomic_load(&handler_runs);
	sigset_t none;
	int n;

	(void)sigemptyset(&none);
	n = epoll_pwait(epoll_fd, &event, 1, -1, &none);
	check(n == -1 && errno == EINTR && atomic_load(&handler_runs) == before + 1,
	      "epoll_pwait()", n);
}

static void wait_sigsuspend(void)
{
	unsigned before = atomic_load(&handler_runs);
	sigset_t none;
	int n;

	(void)sigemptyset(&none);
	n = sigsuspend(&none);
	check(n == -1 && errno == EINTR && atomic_load(&handler_runs) == before + 1, "sigsuspend()",
	      n);
}

static void wait_select(void)
{
	struct timeval limit = {.tv_sec = 60};
	fd_set set;
	int n;

	FD_ZERO(&set);
	FD_SET(pipe_fds[0], &set);
	n = select(pipe_fds[0] + 1, &set, NULL, NULL, &limit);
	if (n == 1)
		take_byte();
	check(n == 1, "select()", n);
}

static void check_time(uint64_t began, uint64_t wanted, long result, const char *what)
{
	uint64_t took = now_ns() - began;

	check(!result && took >= wanted, what, result ? result : (long)took);
}

static void wait_nanosleep(void)
{
	struct timespec second = {.tv_sec = 1};
	uint64_t began = now_ns();

	check_time(began, 1000000000, nanosleep(&second, NULL), "nanosleep()");
}

static void wait_poll_limit(void)
{
	uint64_t began = now_ns();

	check_time(began, 1000000000, poll(NULL, 0, 1000), "poll() with a limit");
}

static void wait_cond(void)
{
	unsigned before;
	int err = 0;

	(void)pthread_mutex_lock(&lock);
	before = signalled;
	while (signalled == before && !err)
		err = pthread_cond_wait(&condition, &lock);
	(void)pthread_mutex_unlock(&lock);
	check(!err, "pthread_cond_wait()", err);
}

static void wait_cond_limit(void)
{
	static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
	struct timespec until;
	int err = 0;

	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec++;
	(void)pthread_mutex_lock(&lock);
	while (!err)
		err = pthread_cond_timedwait(&never, &lock, &until);
	(void)pthread_mutex_unlock(&lock);
	check(err == ETIMEDOUT, "pthread_cond_timedwait()", err);
}

static void wait_sem(void)
{
	int n = sem_wait(&semaphore);

	check(!n, "sem_wait()", n);
}

static void wait_sem_limit(void)
{
	struct timespec until;
	sem_t never;
	int n;

	(void)sem_init(&never, 0, 0);
	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec++;
	n = sem_timedwait(&never, &until);
	n = n == -1 && errno == ETIMEDOUT ? 0 : -1;
	errno = KEPT;
	check(!n, "sem_timedwait()", n);
}

static void wait_barrier(void)
{
	int err = pthread_barrier_wait(&barrier);

	check(!err || err == PTHREAD_BARRIER_SERIAL_THREAD, "pthread_barrier_wait()", err);
}

static void wait_child(void)
{
	pid_t pid = fork();
	int status = 0;

	if (!pid) {
		(void)usleep(50000);
		_exit(5);
	}
	check(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 5, "waitpid()", status);
}

/*
 * nanosleep() with the 128 bytes below the stack pointer in use, which are a function's own; how
 * many of their words are others behind it.
 */
long sleep_in_red_zone(const struct timespec *time);

__asm__(".pushsection .text\n"
	"	.type sleep_in_red_zone, @function\n"
	"sleep_in_red_zone:\n"
	"	movabsq $0x5a5aa5a55a5aa5a5, %r8\n"
	"	.irp at, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120, 128\n"
	"	movq %r8, -\\at(%rsp)\n"
	"	.endr\n"
	"	xorl %esi, %esi\n"
	"	movl $35, %eax\n"
	"	syscall\n"
	"	xorl %eax, %eax\n"
	"	movabsq $0x5a5aa5a55a5aa5a5, %rdx\n"
	"	.irp at, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120, 128\n"
	"	xorl %ecx, %ecx\n"
	"	cmpq %rdx, -\\at(%rsp)\n"
	"	setne %cl\n"
	"	addq %rcx, %rax\n"
	"	.endr\n"
	"	ret\n"
	"	.size sleep_in_red_zone, . - sleep_in_red_zone\n"
	"	.popsection\n");

static void wait_red_zone(void)
{
	struct timespec time = {.tv_nsec = 300000000};
	long changed = sleep_in_red_zone(&time);

	check(!changed, "words below the stack pointer", changed);
}

/* --------------------------------------------------- a handler on top of a held lock */

static _Atomic unsigned probes;
static _Atomic bool has_come = true; /* the last signal that was asked for */

/* It sleeps as on a lock, which no tool may take it from; seldom in the way of the other thread. */
static void *probe(void *arg)
{
	static const struct timespec pause = {.tv_nsec = 1000000};
	static int word;

	for (;;) {
		void *volatile p = malloc(60000);

		free(p);
		atomic_fetch_add(&probes, 1);
		(void)syscall(SYS_futex, &word, FUTEX_WAIT, 0, &pause, NULL, 0);
	}
	return arg;
}

/* Where no other thread gets through malloc() the one that is interrupted here has its lock. */
static void stay_on_lock(int signal)
{
	unsigned before = atomic_load(&probes);

	(void)signal;
	atomic_store(&has_come, true);
	if (atomic_load(&shared->is_held))
		return;
	for (int i = 0; i < 300; i++) {
		sleep_ms(10);
		if (atomic_load(&probes) > before + 1)
			return;
	}
	atomic_store(&shared->is_held, 1);
	while (!atomic_load(&shared->stop))
		sleep_ms(50);
}

/* Free memory in so many parts that mallinfo2() has the lock for long. */
static void fragment(void)
{
	static void *parts[40000];

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		parts[i] = malloc(1500);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i += 2)
		free(parts[i]);
}

static void hold_lock(void)
{
	struct sigaction action = {.sa_handler = stay_on_lock};
	struct itimerval once = {.it_value.tv_usec = 3000};
	pthread_t thread;
	sigset_t alarm;

	(void)mallopt(M_ARENA_MAX, 1);
	fragment();
	(void)sigemptyset(&alarm);
	(void)sigaddset(&alarm, SIGALRM);
	(void)pthread_sigmask(SIG_BLOCK, &alarm, NULL);
	(void)pthread_create(&thread, NULL, probe, NULL);
	(void)pthread_sigmask(SIG_UNBLOCK, &alarm, NULL);
	(void)sigaction(SIGALRM, &action, NULL);
	/* Asked for here: one that came while the handler waits would interrupt at the same place.
	 */
	while (!atomic_load(&shared->stop)) {
		if (atomic_exchange(&has_come, false)) {
			once.it_value.tv_usec = 1000 + (once.it_value.tv_usec + 611) % 3000;
			(void)setitimer(ITIMER_REAL, &once, NULL);
		}
		(void)mallinfo2();
	}
}

/* -------------------------------------------------------------------------- others */

static void filter_all(void)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = {1, &allow};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		wrong("prctl()", 0);
}

static const struct kind {
	const char *name;
	void (*wait)(void);
} kinds[] = {
	{"read", wait_read},
	{"poll", wait_poll},
	{"poll_limit", wait_poll_limit},
	{"select", wait_select},
	{"epoll_wait", wait_epoll},
	{"epoll_pwait", wait_epoll_pwait},
	{"sigsuspend", wait_sigsuspend},
	{"nanosleep", wait_nanosleep},
	{"cond", wait_cond},
	{"cond_limit", wait_cond_limit},
	{"sem", wait_sem},
	{"sem_limit", wait_sem_limit},
	{"barrier", wait_barrier},
	{"waitpid", wait_child},
	{"red_zone", wait_red_zone},
};

/*
 * Call @wait with so many words between its frames and older ones that shunt attach looks at none
 * of what calls have left in those, and takes this thread first where a control is to show what
 * comes of it. attach_stack.c is about such words.
 */
__attribute__((noinline)) static void call_far(void (*wait)(void))
{
	volatile uint64_t between[64];

	for (size_t i = 0; i < sizeof(between) / sizeof(between[0]); i++)
		between[i] = 0;
	wait();
	(void)between[0];
}

static void block(int signal)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, signal);
	(void)pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static void run(const struct kind *kind)
{
	static void *(*const busy[])(void *) = {allocate, load, fork_often, handle_signals};
	struct sigaction sleeps = {.sa_handler = sleep_in_handler, .sa_flags = SA_RESTART};
	struct sigaction counts = {.sa_handler = count_run};
	struct epoll_event event = {.events = EPOLLIN};
	pthread_t threads[5];

	(void)sigaction(SIGUSR2, &sleeps, NULL);
	(void)sigaction(SIGUSR1, &counts, NULL);
	block(SIGUSR1);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (pipe2(pipe_fds, O_CLOEXEC) || epoll_fd < 0 ||
	    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, pipe_fds[0], &event))
		wrong("pipe2()", 0);
	alternate = (stack_t){.ss_sp = malloc(65536), .ss_size = 65536};
	if (sigaltstack(&alternate, NULL))
		wrong("sigaltstack()", -1);
	main_thread = pthread_self();
	(void)sem_init(&semaphore, 0, 0);
	(void)pthread_barrier_init(&barrier, NULL, 2);
	for (size_t i = 0; i < 4; i++)
		(void)pthread_create(&threads[i], NULL, busy[i], NULL);
	(void)pthread_create(&threads[4], NULL, wake_main, (void *)(uintptr_t)kind->name);
	while (!atomic_load(&shared->stop)) {
		errno = KEPT;
		call_far(kind->wait);
	}
	atomic_store(&main_is_done, true);
	/* Who waits in the barrier ends with the process. */
	for (size_t i = 0; i < (kind->wait == wait_barrier ? 4 : 5); i++)
		(void)pthread_join(threads[i], NULL);
}

static void stay_in_handler(int signal)
{
	(void)signal;
	while (!atomic_load(&shared->stop)) {
		sleep_ms(500);
		atomic_fetch_add(&shared->rounds, 1);
	}
}

/* A server that starts its work in a handler, which has interrupted a wait; or anything else. */
static void work_in_handler(bool in_wait)
{
	struct sigaction action = {.sa_handler = stay_in_handler};

	(void)sigaction(SIGALRM, &action, NULL);
	(void)alarm(1);
	while (!atomic_load(&shared->stop))
		if (in_wait)
			(void)poll(NULL, 0, -1);
}

/* The header of libc in memory, which nobody needs any more. */
static void damage_headers(void)
{
	Dl_info libc;

	if (!dladdr(dlsym(RTLD_DEFAULT, "gnu_get_libc_version"), &libc) ||
	    mprotect(libc.dli_fbase, 4096, PROT_READ | PROT_WRITE))
		wrong("dladdr()", 0);
	else
		memset(libc.dli_fbase, 0, 64);
}

/* A library with a malloc() of its own, which is nobody else's. */
static void load_locally(void)
{
	if (!dlopen(getenv("ATTACH_MODULE"), RTLD_NOW | RTLD_LOCAL))
		wrong("dlopen()", 0);
}

/* As Rust's and C++20's libraries wait, for an event or a lock. */
static void wait_bare(void)
{
	static int word;

	(void)syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

static void pause_as_32_bits(void)
{
#ifdef __x86_64__
	long result = 29; /* pause() there */

	__asm__ volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
#endif
}

/* For good, with nobody else there. */
static void wait_alone(const char *in)
{
	struct timespec never = {.tv_sec = INT32_MAX};

	(void)sem_init(&semaphore, 0, 0);
	(void)pthread_barrier_init(&barrier, NULL, 2);
	atomic_fetch_add(&shared->rounds, 1);
	if (!strcmp(in, "sem"))
		(void)sem_wait(&semaphore);
	else if (!strcmp(in, "sem_limit"))
		(void)sem_timedwait(&semaphore, &never);
	else if (!strcmp(in, "barrier"))
		(void)pthread_barrier_wait(&barrier);
	else if (!strcmp(in, "bare_futex"))
		wait_bare();
	else if (!strcmp(in, "int80"))
		pause_as_32_bits();
	else {
		(void)pthread_mutex_lock(&lock);
		if (!strcmp(in, "mutex"))
			(void)pthread_mutex_lock(&lock);
		else
			(void)pthread_mutex_timedlock(&lock, &never);
	}
	wrong(in, 0);
}

static void *pause_for_good(void *arg)
{
	(void)pause();
	return arg;
}

/* The main thread in a call whose time limit would begin anew; and another one in one without. */
static void wait_beside(void)
{
	struct timeval limit = {.tv_sec = 3600};
	pthread_t thread;
	int fds[2];
	char byte;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) ||
	    setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) ||
	    pthread_create(&thread, NULL, pause_for_good, NULL))
		wrong("socketpair()", 0);
	atomic_fetch_add(&shared->rounds, 1);
	wrong("recv()", recv(fds[0], &byte, 1, 0));
}

static void *load_slowly(void *arg)
{
	if (!dlopen(getenv("ATTACH_MODULE"), RTLD_NOW))
		wrong("dlopen()", 0);
	return arg;
}

static void run_alone(const char *name)
{
	pthread_t thread;

	if (!strcmp(name, "seccomp"))
		filter_all();
	else if (!strncmp(name, "refuse_", 7)) {
		if (!answer_syscall(filter_number(name + 7), EPERM))
			wrong(name, 0);
	} else if (!strcmp(name, "undumpable"))
		(void)prctl(PR_SET_DUMPABLE, 0);
	else if (!strcmp(name, "held")) {
		hold_lock();
		return;
	} else if (!strncmp(name, "handler_", 8)) {
		work_in_handler(!strcmp(name, "handler_wait"));
		return;
	} else if (!strcmp(name, "allocating")) {
		(void)allocate(NULL);
		return;
	} else if (!strncmp(name, "alone_", 6))
		wait_alone(name + 6);
	else if (!strcmp(name, "socket_limit"))
		call_far(wait_beside);
	else if (!strcmp(name, "local_malloc"))
		load_locally();
	else if (!strcmp(name, "no_headers"))
		damage_headers();
	else if (!strcmp(name, "linker"))
		(void)pthread_create(&thread, NULL, load_slowly, NULL);
	else if (strcmp(name, "idle") != 0)
		wrong(name, 0);
	while (!atomic_load(&shared->stop)) {
		sleep_ms(100);
		atomic_fetch_add(&shared->rounds, 1);
	}
}

int main(int argc, char **argv)
{
	const struct kind *kind = NULL;
	int fd = argc == 3 ? open(argv[2], O_RDWR | O_CLOEXEC) : -1;

	shared = fd < 0 ? MAP_FAILED
			: mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (shared == MAP_FAILED)
		return 2;
	(void)close(fd);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strcmp(argv[1], kinds[i].name))
			kind = &kinds[i];
	if (kind)
		run(kind);
	else
		run_alone(argv[1]);
	return atomic_load(&shared->wrong) != 0;
}
