/* SPDX-License-Identifier: MIT */
/*
 * A process of one thread, which waits again and again in the system call that KIND names, for
 * MS (30), and checks what each wait gave, its errno, signal mask and alternate stack.
 *
 *	attach_wait KIND[/MS] FILE
 *
 * FILE is mapped: what has happened so far, as in attach_target.c.
 */
#include <errno.h>
#include <fcntl.h>
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
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { KEPT = 77 };

static struct {
	_Atomic uint64_t stop, rounds, wrong;
} * shared;

static uint64_t limit_ms = 30;
static int timer, epoll_fd;
static sem_t never;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;

static uint64_t now_ms(clockid_t clock)
{
	struct timespec now;

	(void)clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static struct timespec limit(uint64_t from)
{
	from += limit_ms;
	return (struct timespec){.tv_sec = (time_t)(from / 1000),
				 .tv_nsec = (long)(from % 1000) * 1000000};
}

/* 0: as it was to be; else what was not. */

static long wait_read(void)
{
	uint64_t times = 0;
	ssize_t n = read(timer, &times, sizeof(times));

	return n == sizeof(times) ? 0 : n;
}

static long wait_epoll(void)
{
	struct epoll_event event;
	int n = epoll_wait(epoll_fd, &event, 1, -1);

	return n == 1 ? wait_read() : n;
}

static long wait_poll(void)
{
	struct pollfd polled = {.fd = timer, .events = POLLIN};
	int n = poll(&polled, 1, 60000);

	return n == 1 ? wait_read() : n;
}

static long wait_sem(void)
{
	struct timespec until = limit(now_ms(CLOCK_REALTIME));
	int n = sem_timedwait(&never, &until);

	if (n != -1 || errno != ETIMEDOUT)
		return n ? errno : 1000;
	errno = KEPT;
	return 0;
}

static long wait_cond(void)
{
	struct timespec until = limit(now_ms(CLOCK_REALTIME));
	int err = 0;

	(void)pthread_mutex_lock(&lock);
	while (!err)
		err = pthread_cond_timedwait(&condition, &lock, &until);
	(void)pthread_mutex_unlock(&lock);
	return err == ETIMEDOUT ? 0 : err;
}

static long wait_sleep(void)
{
	struct timespec time = limit(0);

	return nanosleep(&time, NULL);
}

static const struct kind {
	const char *name;
	long (*wait)(void);
} kinds[] = {
	{"read", wait_read}, {"epoll_wait", wait_epoll}, {"poll", wait_poll},
	{"sem", wait_sem},   {"cond", wait_cond},        {"sleep", wait_sleep},
};

static bool is_as_it_was(const stack_t *alternate)
{
	sigset_t mask;
	stack_t now;

	return !sigprocmask(SIG_SETMASK, NULL, &mask) && sigismember(&mask, SIGUSR1) == 1 &&
	       !sigismember(&mask, SIGINT) && !sigismember(&mask, SIGUSR2) &&
	       !sigaltstack(NULL, &now) && now.ss_sp == alternate->ss_sp && !now.ss_flags;
}

static void run(const struct kind *kind, const stack_t *alternate)
{
	while (!atomic_load(&shared->stop)) {
		uint64_t began = now_ms(CLOCK_MONOTONIC);
		long got;
		int err;

		errno = KEPT;
		got = kind->wait();
		err = errno;
		if (got || err != KEPT || !is_as_it_was(alternate) ||
		    (kind->wait == wait_sleep && now_ms(CLOCK_MONOTONIC) - began < limit_ms - 1)) {
			(void)fprintf(stderr, "attach_wait: %s gave %ld, errno %d\n", kind->name,
				      got, err);
			atomic_fetch_add(&shared->wrong, 1);
		}
		atomic_fetch_add(&shared->rounds, 1);
	}
}

int main(int argc, char **argv)
{
	struct itimerspec often;
	stack_t alternate = {.ss_sp = malloc(65536), .ss_size = 65536};
	struct epoll_event event = {.events = EPOLLIN};
	int fd = argc == 3 ? open(argv[2], O_RDWR | O_CLOEXEC) : -1;
	char *ms = argc == 3 ? strchr(argv[1], '/') : NULL;
	sigset_t blocked;

	if (ms) {
		*ms = '\0';
		limit_ms = strtoull(ms + 1, NULL, 10);
	}
	often.it_value = often.it_interval = limit(0);
	shared = fd < 0 ? MAP_FAILED
			: mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	(void)sigemptyset(&blocked);
	(void)sigaddset(&blocked, SIGUSR1);
	if (shared == MAP_FAILED || close(fd) || timerfd_settime(timer, 0, &often, NULL) ||
	    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer, &event) || sem_init(&never, 0, 0) ||
	    sigprocmask(SIG_SETMASK, &blocked, NULL) || sigaltstack(&alternate, NULL))
		return 2;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strcmp(argv[1], kinds[i].name))
			run(&kinds[i], &alternate);
	return atomic_load(&shared->wrong) != 0;
}
