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

enum {
	NEAR = 64,           /* words of the stack: the frames of libc's own functions */
	FAR = (1 << 20) / 8, /* words in which a signal's frame is looked for */
	/* Words of a signal's frame: rsp, rip, cs and ss. */
	FRAME_SP = 21,
	FRAME_IP = 22,
	FRAME_CS = 24,
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

/* ----------------------------------------------------------------------- functions */

void thread_search_begin(struct thread_search *search, const struct remote_space *space,
			 const struct remote_module *libc, bool allow_seccomp)
{
	static const char *const waits[] = {"pthread_cond_wait",      "pthread_cond_timedwait",
					    "pthread_cond_clockwait", "sem_wait",
					    "sem_timedwait",          "sem_clockwait",
					    "pthread_join",           "pthread_timedjoin_np",
					    "pthread_clockjoin_np",   "pthread_barrier_wait"};
	static const char *const allocators[] = {
		"malloc",         "free",         "calloc",         "realloc",     "memalign",
		"posix_memalign", "reallocarray", "aligned_alloc",  "malloc_trim", "dlopen",
		"dlclose",        "dlsym",        "dl_iterate_phdr"};

	/* In which the kernel delivers a signal to who waits, or has blocked it until then. */
	static const char *const interrupted[] = {"select",
						  "pselect",
						  "poll",
						  "ppoll",
						  "epoll_wait",
						  "epoll_pwait",
						  "epoll_pwait2",
						  "read",
						  "recv",
						  "recvfrom",
						  "recvmsg",
						  "accept",
						  "accept4",
						  "nanosleep",
						  "clock_nanosleep",
						  "pause",
						  "sigsuspend",
						  "sigwaitinfo",
						  "sigtimedwait",
						  "wait4",
						  "waitpid",
						  "waitid",
						  "pthread_sigmask",
						  "sigprocmask"};

	*search = (struct thread_search){
		.space = space, .libc = libc, .allow_seccomp = allow_seccomp};
	for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++)
		search->waits_n += remote_symbols(
			space, libc, waits[i], search->waits + search->waits_n,
			sizeof(search->waits) / sizeof(search->waits[0]) - search->waits_n);
	for (size_t i = 0; i < sizeof(allocators) / sizeof(allocators[0]); i++)
		search->allocators_n += remote_symbols(
			space, NULL, allocators[i], search->allocators + search->allocators_n,
			sizeof(search->allocators) / sizeof(search->allocators[0]) -
				search->allocators_n);
	for (size_t i = 0; i < sizeof(interrupted) / sizeof(interrupted[0]); i++)
		search->interrupted_n += remote_symbols(
			space, libc, interrupted[i], search->interrupted + search->interrupted_n,
			sizeof(search->interrupted) / sizeof(search->interrupted[0]) -
				search->interrupted_n);
}

/* Whether @address is behind a call in one of the functions. */
static bool is_return_to(const struct remote_range *ranges, size_t n, uint64_t address)
{
	for (size_t i = 0; i < n; i++)
		if (address > ranges[i].start && address <= ranges[i].end)
			return true;
	return false;
}

/* Whether @address is in the text of the dynamic linker: what has _dl_allocate_tls, by its name. */
static bool is_in_linker(const struct thread_search *search, uint64_t address)
{
	for (size_t i = 0; i < search->space->modules_n; i++) {
		const struct remote_module *module = &search->space->modules[i];

		if (address >= module->start && address < module->end) {
			const struct remote_map *map = remote_map_at(search->space, address);

			return strstr(module->name, "/ld-linux") && map && map->is_executable;
		}
	}
	return false;
}

/* --------------------------------------------------------------------------- stack */

/*
 * Words of the stack from @from on, at most @max and to the end of its mapping, or, where that is
 * younger than what is known of mappings, as far as there is memory; how many.
 */
static size_t read_stack(const struct thread_search *search, uint64_t from, uint64_t *words,
			 size_t max)
{
	const struct remote_map *map = remote_map_at(search->space, from);
	size_t n = map && (map->end - from) / 8 < max ? (size_t)(map->end - from) / 8 : max;
	ssize_t got = pread(search->space->memory, words, n * 8, (off_t)from);

	return got > 0 ? (size_t)got / 8 : 0;
}

/* `mov $__NR_rt_sigreturn, %eax` or %rax, and `syscall`: what a handler returns to. */
static bool is_restorer(const struct remote_space *space, uint64_t address)
{
	static const unsigned char by_rax[] = {0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05},
				   by_eax[] = {0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05};
	unsigned char text[sizeof(by_rax)];

	return !remote_read(space, address, text, sizeof(text)) &&
	       (!memcmp(text, by_rax, sizeof(by_rax)) || !memcmp(text, by_eax, sizeof(by_eax)));
}

/* Whether the words are a signal's frame: return address, ucontext with our code segment. */
static bool is_signal_frame(const struct thread_search *search, const uint64_t *words)
{
	uint64_t segments = words[FRAME_CS];

	return (segments & 0xffff) == 0x33 && (segments >> 48 == 0x2b || segments >> 48 == 0) &&
	       is_restorer(search->space, words[0]);
}

/* Whether one of the words leads back into malloc() or the dynamic linker. */
static bool is_in_allocator(const struct thread_search *search, const uint64_t *words, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (is_return_to(search->allocators, search->allocators_n, words[i]) ||
		    is_in_linker(search, words[i]))
			return true;
	return false;
}

/*
 * Whether what the handler has interrupted was one of libc's waits, or its letting in of signals,
 * called by neither malloc() nor the dynamic linker: servers that start their children in a handler
 * have such a frame on their stacks for good.
 */
static bool has_interrupted_wait(const struct thread_search *search, const uint64_t *frame)
{
	uint64_t ip = frame[FRAME_IP], words[NEAR];
	unsigned char text[2];
	size_t n;

	if (!is_return_to(search->interrupted, search->interrupted_n, ip))
		return false;
	/* Behind the system call, or at it where it is to begin anew. */
	if ((remote_read(search->space, ip - 2, text, 2) || text[0] != 0x0f || text[1] != 0x05) &&
	    (remote_read(search->space, ip, text, 2) || text[0] != 0x0f || text[1] != 0x05))
		return false;
	n = read_stack(search, frame[FRAME_SP], words, NEAR);
	return n && !is_in_allocator(search, words, n);
}

/* Whether a handler is among the words that may have interrupted anything. */
static bool has_handler(const struct thread_search *search, const uint64_t *words, size_t n)
{
	for (size_t i = 0; i + FRAME_CS < n; i++)
		if (is_signal_frame(search, words + i) && !has_interrupted_wait(search, words + i))
			return true;
	return false;
}

static enum thread_verdict judge_stack(const struct thread_search *search,
				       const struct place *place)
{
	uint64_t *words = malloc(FAR * sizeof(*words));
	size_t n = words ? read_stack(search, place->stack, words, FAR) : 0;
	size_t near = n < NEAR ? n : NEAR;
	bool waits = place->number != SYS_futex;
	enum thread_verdict verdict = n ? THREAD_FITS : THREAD_ELSEWHERE;

	for (size_t i = 0; i < near; i++)
		waits |= is_return_to(search->waits, search->waits_n, words[i]);
	if (is_in_allocator(search, words, near))
		verdict = THREAD_ALLOCATOR;
	if (verdict == THREAD_FITS && !waits)
		verdict = THREAD_LOCK;
	if (verdict == THREAD_FITS && has_handler(search, words, n))
		verdict = THREAD_HANDLER;
	free(words);
	return verdict;
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
	verdict = judge_stack(search, place);
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

static enum thread_verdict judge(const struct thread_search *search, pid_t tid)
{
	struct place place = {0};

#ifdef INJECT_ANYWHERE
	return THREAD_FITS;
#endif
	if (!read_place(tid, &place))
		return THREAD_RUNS;
	if (!search->allow_seccomp && status_number(tid, "Seccomp:"))
		return THREAD_FILTERED;
	return judge_place(search, tid, &place);
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
	if (verdict == THREAD_FITS || verdict == THREAD_FITS_LESS)
		return 0;
	search->seen[verdict]++;
	err = tracee_release(t);
	return err ? err : -EAGAIN;
}

/* --------------------------------------------------------------------------- rounds */

/* Go over all threads once; those that fit less only where @take_less. */
static int look_once(struct thread_search *search, struct tracee *t, bool take_less)
{
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
		if (verdict == THREAD_FITS || (verdict == THREAD_FITS_LESS && take_less))
			err = try_thread(search, t, tid);
		else
			search->seen[verdict]++;
	}
	(void)closedir(dir);
	return err;
}

int thread_search_stop(struct thread_search *search, struct tracee *t, unsigned limit_ms)
{
	static const struct timespec pause = {.tv_nsec = ROUND_MS * 1000000L};
	uint64_t until = tracee_now() + limit_ms * 1000000ull;
	int err;

	t->why[0] = '\0';
	for (;;) {
		char byte;

		err = look_once(search, t, false);
		if (err == -EAGAIN && search->seen[THREAD_FITS_LESS])
			err = look_once(search, t, true);
		if (err == -EAGAIN && remote_read(search->space, search->libc->start, &byte, 1))
			return -ESTALE;
		if (err != -EAGAIN || tracee_now() >= until)
			return err;
		(void)nanosleep(&pause, NULL);
	}
}
