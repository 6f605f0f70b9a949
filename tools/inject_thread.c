/* SPDX-License-Identifier: MIT */
/*
 * The choice of a thread. It is made from /proc first, which disturbs nobody, and once more on the
 * stopped thread, from its registers: between the two it may have gone anywhere.
 */
#include "inject_thread.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "interrupt.h"
#include "remote.h"

enum {
	TCB = 0x900, /* bytes of glibc's description of a thread that are looked at */
	THREADS_MAX = 65536,
	ROUND_MS = 2
};

/* Where a thread is in the kernel. */
struct place {
	long number; /* of the system call */
	uint64_t arguments[6], stack, instruction;
};

const char *thread_verdict_text(enum thread_verdict verdict)
{
	static const char *const texts[THREAD_VERDICTS] = {
		[THREAD_FITS] = "could not be stopped in time",
		[THREAD_FITS_LESS] = "could not be stopped in time",
		[THREAD_FITS_LEAST] = "could not be stopped in time",
		[THREAD_RUNS] = "running",
		[THREAD_ELSEWHERE] = "in other system calls",
		[THREAD_LOCK] = "waiting for a lock",
		[THREAD_HANDLER] = "in a signal handler",
		[THREAD_ALLOCATOR] = "in malloc() or the dynamic linker",
		[THREAD_FILTERED] = "under a seccomp filter",
		[THREAD_FOREIGN] = "not made by pthread_create()",
	};

	return texts[verdict];
}

/* --------------------------------------------------------------------- system calls */

/* Whether reading from descriptor @fd waits for somebody else: never for a file system. */
static bool is_waitable(pid_t tid, uint64_t fd)
{
	char path[64];
	struct stat st;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)tid, (int)fd);
	if (stat(path, &st))
		return false;
	if (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode))
		return true;
	/* Terminals: /dev/tty and consoles, and the pseudo ones. */
	if (S_ISCHR(st.st_mode))
		return major(st.st_rdev) == 4 || major(st.st_rdev) == 5 ||
		       (major(st.st_rdev) >= 136 && major(st.st_rdev) <= 143);
	/* eventfd, timerfd, signalfd, inotify have no type. */
	return !(st.st_mode & S_IFMT);
}

static bool is_file_wait(pid_t tid, const struct place *place)
{
	switch (place->number) {
	case SYS_read:
	case SYS_recvfrom:
	case SYS_recvmsg:
	case SYS_accept:
	case SYS_accept4:
		return is_waitable(tid, place->arguments[0]);
	case SYS_poll:
	case SYS_ppoll:
	case SYS_select:
	case SYS_pselect6:
	case SYS_epoll_wait:
	case SYS_epoll_pwait:
	case SYS_epoll_pwait2:
		return true;
	default:
		return false;
	}
}

static bool is_other_wait(const struct place *place)
{
	switch (place->number) {
	case SYS_nanosleep:
	case SYS_clock_nanosleep:
	case SYS_pause:
	case SYS_rt_sigsuspend:
	case SYS_rt_sigtimedwait:
	case SYS_wait4:
	case SYS_waitid:
	case SYS_restart_syscall: /* one of these, stopped and continued before */
		return true;
	case SYS_futex: /* FUTEX_WAIT is what libc's own locks wait with */
		return ((int)place->arguments[1] & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET;
	default:
		return false;
	}
}

/* Those that begin anew with a time limit that the kernel does not shorten. */
static bool has_own_limit(const struct place *place)
{
	switch (place->number) {
	case SYS_epoll_wait:
	case SYS_epoll_pwait:
		return (int32_t)place->arguments[3] > 0;
	case SYS_epoll_pwait2:
		return place->arguments[3] != 0;
	case SYS_rt_sigtimedwait:
		return place->arguments[2] != 0;
	default:
		return false;
	}
}

static enum thread_verdict judge_place(const struct thread_search *search, pid_t tid,
				       const struct place *place)
{
	enum thread_verdict verdict;

#ifdef INJECT_ANYWHERE /* the tests' control: what comes of it when nothing is looked at */
	(void)search, (void)tid, (void)place;
	return THREAD_FITS;
#endif
	if (!is_file_wait(tid, place) && !is_other_wait(place))
		return place->number == SYS_futex ? THREAD_LOCK : THREAD_ELSEWHERE;
	verdict = thread_judge_stack(search, place->number, place->stack);
	return verdict == THREAD_FITS && has_own_limit(place) ? THREAD_FITS_LESS : verdict;
}

/* ----------------------------------------------------------------------- from /proc */

static bool read_place(pid_t tid, struct place *place)
{
	uint64_t *a = place->arguments;
	char path[64];
	FILE *file;
	int n;

	(void)snprintf(path, sizeof(path), "/proc/%d/syscall", (int)tid);
	file = fopen(path, "re");
	if (!file)
		return false;
	/* NOLINTNEXTLINE(cert-err34-c): numbers of the kernel's */
	n = fscanf(file,
		   "%ld %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64
		   " %" SCNx64 " %" SCNx64,
		   &place->number, a, a + 1, a + 2, a + 3, a + 4, a + 5, &place->stack,
		   &place->instruction);
	(void)fclose(file);
	return n == 9;
}

/* A number behind @name in the thread's status, the last one of several. */
static long status_number(pid_t tid, const char *name)
{
	char path[64], line[256];
	long number = 0;
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		const char *last = strrchr(line, '\t');

		if (last && !strncmp(line, name, strlen(name)))
			number = strtol(last, NULL, 10);
	}
	if (file)
		(void)fclose(file);
	return number;
}

/*
 * Whether it has started processes: their SIGCHLD, which the kernel does not even send where it is
 * ignored, is sent while that thread is traced, and ends epoll_wait() of another one.
 */
static bool has_children(pid_t pid, pid_t tid, const struct place *place)
{
	char path[64];
	bool found;
	FILE *file;

	if (place->number == SYS_wait4 || place->number == SYS_waitid)
		return true;
	(void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)tid);
	file = fopen(path, "re");
	found = file && fgetc(file) != EOF;
	if (file)
		(void)fclose(file);
	return found;
}

/* Whether it is the agent's, or the recorder's, on its way to its end. */
static bool is_of_ours(pid_t tid)
{
	char name[REMOTE_THREAD_NAME];

	remote_thread_name(tid, name);
	return !strncmp(name, "shunt-", 6);
}

static enum thread_verdict judge(const struct thread_search *search, pid_t tid)
{
	enum thread_verdict verdict;
	struct place place = {0};

#ifdef INJECT_ANYWHERE
	(void)verdict;
	return THREAD_FITS;
#endif
	if (!read_place(tid, &place))
		return THREAD_RUNS;
	if (!search->allow_seccomp && status_number(tid, "Seccomp:"))
		return THREAD_FILTERED;
	verdict = judge_place(search, tid, &place);
	if (verdict <= THREAD_FITS_LESS && is_of_ours(tid))
		return THREAD_ELSEWHERE;
	if (verdict <= THREAD_FITS_LESS && !search->is_single &&
	    has_children(search->space->pid, tid, &place))
		return THREAD_FITS_LEAST;
	return verdict;
}

/* ------------------------------------------------------------------ the stopped one */

/* Whether the thread has libc's description of it: not one of clone() without. */
static bool has_libc(const struct thread_search *search, const struct tracee *t)
{
	uint64_t self = t->regs.fs_base, words[TCB / 8];
	int32_t numbers[TCB / 4], tid = (int32_t)status_number(t->tid, "NSpid:");

	if (!self || remote_read(search->space, self, words, sizeof(words)) || words[0] != self ||
	    words[2] != self)
		return false;
	memcpy(numbers, words, sizeof(numbers));
	for (size_t i = 0; i < TCB / 4; i++)
		if (numbers[i] == tid)
			return true;
	return false;
}

static bool is_at_syscall(const struct thread_search *search, const struct user_regs_struct *regs)
{
	unsigned char text[2];

	return regs->cs == 0x33 && !remote_read(search->space, regs->rip - 2, text, 2) &&
	       text[0] == 0x0f && text[1] == 0x05;
}

/* What the kernel or tracee_release() restarts: ERESTARTSYS, -NOINTR, -NOHAND, -RESTARTBLOCK. */
static bool is_restartable(const struct user_regs_struct *regs)
{
	int64_t result = (int64_t)regs->rax;

	return (int64_t)regs->orig_rax >= 0 &&
	       (result == -512 || result == -513 || result == -514 || result == -516 ||
		result == -EINTR);
}

static enum thread_verdict judge_stopped(const struct thread_search *search, const struct tracee *t)
{
	const struct user_regs_struct *regs = &t->regs;
	struct place place = {(long)regs->orig_rax,
			      {regs->rdi, regs->rsi, regs->rdx, regs->r10, regs->r8, regs->r9},
			      regs->rsp,
			      regs->rip};

	if (!is_at_syscall(search, regs) || !is_restartable(regs))
		return THREAD_RUNS;
	if (!has_libc(search, t))
		return THREAD_FOREIGN;
	return judge_place(search, t->tid, &place);
}

/* 0: it is stopped, and fits; -EAGAIN: it does not, and runs on; or another -errno. */
static int try_thread(struct thread_search *search, struct tracee *t, pid_t tid)
{
	int err = tracee_stop(t, search->space, tid);
	enum thread_verdict verdict;

	if (err) {
		(void)tracee_release(t);
		return err == -ESRCH ? -EAGAIN : err;
	}
	verdict = judge_stopped(search, t);
	if (verdict <= THREAD_FITS_LESS)
		return 0;
	search->seen[verdict]++;
	err = tracee_release(t);
	return err ? err : -EAGAIN;
}

/* --------------------------------------------------------------------------- rounds */

/* Go over all threads once: those that fit as well as @least, or better, are tried. */
static int look_once(struct thread_search *search, struct tracee *t, enum thread_verdict least)
{
	unsigned threads = 0;
	const struct dirent *entry;
	int err = -EAGAIN;
	char path[64];
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", (int)search->space->pid);
	dir = opendir(path);
	if (!dir)
		return -ESRCH;
	memset(search->seen, 0, sizeof(search->seen));
	for (unsigned n = 0; err == -EAGAIN && n < THREADS_MAX && (entry = readdir(dir)); n++) {
		pid_t tid = (pid_t)strtol(entry->d_name, NULL, 10);
		enum thread_verdict verdict = tid > 0 ? judge(search, tid) : THREAD_VERDICTS;

		if (verdict == THREAD_VERDICTS)
			continue;
		threads++;
		if (verdict <= least)
			err = try_thread(search, t, tid);
		else
			search->seen[verdict]++;
	}
	(void)closedir(dir);
	search->is_single = threads == 1;
	return err;
}

int thread_search_stop(struct thread_search *search, struct tracee *t, unsigned limit_ms)
{
	static const struct timespec pause = {.tv_nsec = ROUND_MS * 1000000L};
	const uint64_t began = tracee_now(), limit = limit_ms * 1000000ull;
	int err;

	t->why[0] = '\0';
	for (;;) {
		char byte;

		err = look_once(search, t, THREAD_FITS);
		if (err == -EAGAIN && search->seen[THREAD_FITS_LESS])
			err = look_once(search, t, THREAD_FITS_LESS);
		/* Of several threads: others have half of the time to come to sleep. */
		if (err == -EAGAIN && search->seen[THREAD_FITS_LEAST] &&
		    (search->is_single || tracee_now() - began >= limit / 2))
			err = look_once(search, t, THREAD_FITS_LEAST);
		if (err == -EAGAIN && remote_read(search->space, search->libc->start, &byte, 1))
			return -ESTALE;
		if (err == -EAGAIN && interrupt_is_pending())
			return -EINTR;
		if (err != -EAGAIN || tracee_now() - began >= limit)
			return err;
		(void)nanosleep(&pause, NULL);
	}
}
