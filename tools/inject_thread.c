/* SPDX-License-Identifier: MIT */
/*
 * The choice of a thread. It is made from /proc first, which disturbs nobody, and once more on the
 * stopped thread, from its registers: between the two it may have gone anywhere.
 */
#include "inject_thread.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "inject_worker.h"
#include "proc_status.h"
#include "remote.h"

enum {
	TCB = 0x900, /* bytes of glibc's description of a thread that are looked at */
	THREADS_MAX = 65536,
	ROUND_MS = 2,
	WALK_MS = 1000 /* until a thread is stopped once more whose chain was walked in vain */
};

static const char *verdict_text(enum thread_verdict verdict)
{
	static const char *const texts[THREAD_VERDICTS] = {
		[THREAD_FITS] = "could not be stopped in time",
		[THREAD_FITS_LESS] = "could not be stopped in time",
		[THREAD_FITS_WALKED] = "could not be stopped in time",
		[THREAD_FITS_LEAST] = "could not be stopped in time",
		[THREAD_RUNS] = "running",
		[THREAD_ELSEWHERE] = "in other system calls",
		[THREAD_PARTS] = "in reads that would return a part",
		[THREAD_LOCK] = "in futex(), but in none of libc's waits",
		[THREAD_OLD_CALL] = "in a system call by int 0x80",
		[THREAD_HANDLER] = "in a signal handler",
		[THREAD_ALLOCATOR] = "in malloc() or the dynamic linker",
		[THREAD_FIBRE] = "on another stack than its own, as fibres are",
		[THREAD_FILTERED] = "under a seccomp filter",
		[THREAD_FOREIGN] = "not made by pthread_create()",
	};

	return texts[verdict];
}

void thread_search_say_none(const struct thread_search *search, unsigned limit_ms, char *why,
			    size_t size)
{
	char list[400] = "";
	size_t at = 0;

	for (int i = 0; i < THREAD_VERDICTS; i++)
		if (search->seen[i] && at < sizeof(list))
			at += (size_t)snprintf(list + at, sizeof(list) - at, "%s%u %s",
					       at ? ", " : "", search->seen[i],
					       verdict_text((enum thread_verdict)i));
	(void)snprintf(why, size,
		       "process %d: in %g s no thread slept in a system call in which no lock of "
		       "libc can be held; at the end: %s",
		       (int)search->space->pid, limit_ms / 1000.0, list[0] ? list : "no thread");
}

/* ---------------------------------------------------------------------------- place */

/* @wait: by the system call alone. */
static enum thread_verdict judge_place(const struct thread_search *search, pid_t tid,
				       const struct thread_place *place, enum thread_verdict *wait)
{
	enum thread_verdict stack;

#ifdef INJECT_ANYWHERE /* the tests' control: what comes of it when nothing is looked at */
	(void)search, (void)tid, (void)place, (void)stack;
	*wait = THREAD_FITS;
	return THREAD_FITS;
#endif
	*wait = thread_judge_wait(search, tid, place);
	if (*wait > THREAD_FITS_LESS)
		return *wait;
	stack = thread_judge_stack(search, place);
	return stack == THREAD_FITS ? *wait : stack;
}

/* Whether words of the stack speak against the thread, which need not be of its call chain. */
static bool is_by_words(enum thread_verdict verdict)
{
	return verdict == THREAD_ALLOCATOR || verdict == THREAD_HANDLER;
}

/* Whether only the stopped thread says so. */
static bool is_by_stop(enum thread_verdict verdict)
{
	return verdict == THREAD_FIBRE || verdict == THREAD_FOREIGN;
}

/* ----------------------------------------------------------------------- from /proc */

static bool read_place(pid_t tid, struct thread_place *place)
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

static bool is_filtered(pid_t tid)
{
	struct proc_status status;

	return !proc_status_read(tid, &status) && status.seccomp;
}

/*
 * Whether it has started processes: their SIGCHLD, which the kernel does not even send where it is
 * ignored, is sent while that thread is traced, and ends epoll_wait() of another one.
 */
static bool has_children(pid_t pid, pid_t tid, const struct thread_place *place)
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

/* Whether `int $0x80` is before @instruction: its numbers are others'. */
static bool is_old_call(const struct thread_search *search, uint64_t instruction)
{
	unsigned char text[2];

#ifdef INJECT_ANY_CALL /* the tests' control */
	(void)search, (void)instruction, (void)text;
	return false;
#endif
	return !remote_read(search->space, instruction - 2, text, 2) && text[0] == 0xcd &&
	       text[1] == 0x80;
}

/* Whether it is the agent's, or the recorder's, on its way to its end. */
static bool is_of_ours(pid_t tid)
{
	char name[REMOTE_THREAD_NAME];

	remote_thread_name(tid, name);
	return !strncmp(name, "shunt-", 6);
}

static struct thread_walk *find_walk(const struct thread_search *search, pid_t tid)
{
	for (size_t i = 0; i < search->walks_n; i++)
		if (search->walks[i].tid == tid)
			return &search->walks[i];
	return NULL;
}

/* What a walk has said of the thread not long ago; NULL: there was none. */
static const struct thread_walk *last_walk(const struct thread_search *search, pid_t tid)
{
	const struct thread_walk *walk = find_walk(search, tid);

	return walk && tracee_now() - walk->at < WALK_MS * 1000000ull ? walk : NULL;
}

/*
 * Whether a thread that words speak against may be stopped for a walk. It may be in malloc()
 * indeed, and is let go then: not again and again, and late where somebody may see that it was
 * stopped.
 */
static bool may_walk(struct thread_search *search, pid_t tid, const struct thread_place *place,
		     enum thread_verdict wait)
{
	if (!search->is_single && !search->is_late &&
	    (wait != THREAD_FITS || has_children(search->space->pid, tid, place)))
		return false;
	if (!search->has_opened_reader)
		search->reader = chain_reader_open(search->space);
	search->has_opened_reader = true;
	if (search->reader)
		thread_load_modules(search, place);
	return search->reader;
}

/* It was let go with @verdict. */
static void note_walk(struct thread_search *search, pid_t tid, enum thread_verdict verdict)
{
	struct thread_walk *walk = find_walk(search, tid);

	if (verdict == THREAD_RUNS)
		return;
	if (!walk) {
		walk = realloc(search->walks, (search->walks_n + 1) * sizeof(*walk));
		if (!walk)
			return;
		search->walks = walk;
		walk += search->walks_n++;
	}
	*walk = (struct thread_walk){tid, tracee_now(), verdict};
}

/* @said: what is said of it where it is not taken, which is never THREAD_FITS_WALKED. */
static enum thread_verdict judge(struct thread_search *search, pid_t tid, enum thread_verdict *said)
{
	enum thread_verdict verdict, wait;
	const struct thread_walk *walk;
	struct thread_place place = {0}, now = {0};

#ifdef INJECT_ANYWHERE
	(void)verdict, (void)wait, (void)walk;
	return *said = THREAD_FITS;
#endif
	if (!read_place(tid, &place))
		return *said = THREAD_RUNS;
	if (!search->allow_seccomp && is_filtered(tid))
		return *said = THREAD_FILTERED;
	if (is_old_call(search, place.instruction))
		return *said = THREAD_OLD_CALL;
	*said = verdict = judge_place(search, tid, &place, &wait);
	walk = verdict <= THREAD_FITS_WALKED || is_by_words(verdict) ? last_walk(search, tid)
								     : NULL;
	if (walk && (is_by_words(verdict) || is_by_stop(walk->verdict)))
		return *said = walk->verdict;
	if (is_by_words(verdict) && may_walk(search, tid, &place, wait))
		verdict = THREAD_FITS_WALKED;
	if (verdict > THREAD_FITS_WALKED)
		return verdict;
	if (is_of_ours(tid))
		return *said = THREAD_ELSEWHERE;
	if (verdict != THREAD_FITS_WALKED && !search->is_single &&
	    has_children(search->space->pid, tid, &place))
		*said = verdict = THREAD_FITS_LEAST;
	/* Last of all: what it does when it is stopped is not looked at before it is disturbed. */
	if (!read_place(tid, &now) || memcmp(&now, &place, sizeof(now)) != 0)
		return *said = THREAD_RUNS;
	return verdict;
}

/* ------------------------------------------------------------------ the stopped one */

/* Whether the thread has libc's description of it: not one of clone() without. */
static bool has_libc(const struct thread_search *search, const struct tracee *t)
{
	uint64_t self = t->regs.fs_base, words[TCB / 8];
	struct proc_status status;
	int32_t numbers[TCB / 4];

	if (proc_status_read(t->tid, &status) || !self ||
	    remote_read(search->space, self, words, sizeof(words)) || words[0] != self ||
	    words[2] != self)
		return false;
	memcpy(numbers, words, sizeof(numbers));
	for (size_t i = 0; i < TCB / 4; i++)
		if (numbers[i] == status.inner_tid)
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

/* The thread is stopped, and words speak against it: whether the frames do. */
static enum thread_verdict judge_frames(struct thread_search *search, const struct tracee *t,
					const struct thread_place *place,
					enum thread_verdict by_words, enum thread_verdict wait)
{
	enum thread_verdict verdict;

#ifdef INJECT_TRUST_WORDS /* the tests' controls: the words decide; nothing does */
	(void)verdict, (void)t, (void)place, (void)wait;
	return by_words;
#endif
#ifdef INJECT_DISMISS_WORDS
	(void)verdict, (void)t, (void)place, (void)by_words;
	return wait;
#endif
	if (!search->reader)
		return by_words;
	chain_read(search->reader, t->tid, &t->regs, &search->chain);
	verdict = thread_judge_chain(search, place);
	return verdict == THREAD_FITS ? wait : verdict;
}

static enum thread_verdict judge_stopped(struct thread_search *search, const struct tracee *t)
{
	enum thread_verdict verdict, wait;
	const struct user_regs_struct *regs = &t->regs;
	struct thread_place place = {
		(long)regs->orig_rax,
		{regs->rdi, regs->rsi, regs->rdx, regs->r10, regs->r8, regs->r9},
		regs->rsp,
		regs->rip};

	if (is_old_call(search, regs->rip))
		return THREAD_OLD_CALL;
	if (!is_at_syscall(search, regs) || !is_restartable(regs))
		return THREAD_RUNS;
	if (!has_libc(search, t))
		return THREAD_FOREIGN;
#ifndef INJECT_ANY_STACK /* the tests' control */
	if (!search->allow_fibres && !thread_is_on_own_stack(search, &place, t->tid, regs->fs_base))
		return THREAD_FIBRE;
#endif
	verdict = judge_place(search, t->tid, &place, &wait);
	return is_by_words(verdict) ? judge_frames(search, t, &place, verdict, wait) : verdict;
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
	note_walk(search, tid, verdict);
	err = tracee_release(t);
	return err ? err : -EAGAIN;
}

/* --------------------------------------------------------------------------- rounds */

struct look {
	struct thread_search *search;
	struct tracee *t;
	enum thread_verdict least; /* those that fit as well, or better, are tried */
	unsigned threads;
	int err;
};

static bool look_at(pid_t tid, void *arg)
{
	struct look *look = arg;
	struct thread_search *search = look->search;
	enum thread_verdict verdict, said;

	verdict = judge(search, tid, &said);
	look->threads++;
	if (verdict <= look->least) {
		look->err = try_thread(search, look->t, tid);
	} else {
		search->seen[said]++;
		search->walkable += verdict == THREAD_FITS_WALKED;
	}
	return look->err != -EAGAIN || look->threads == THREADS_MAX;
}

/* Go over all threads once. */
static int look_once(struct thread_search *search, struct tracee *t, enum thread_verdict least)
{
	struct look look = {search, t, least, 0, -EAGAIN};

	memset(search->seen, 0, sizeof(search->seen));
	search->walkable = 0;
	if (remote_each_thread(search->space->pid, look_at, &look))
		return -ESRCH;
	search->is_single = look.threads == 1;
	return look.err;
}

static int search_rounds(struct thread_search *search, struct tracee *t, unsigned limit_ms)
{
	static const struct timespec pause = {.tv_nsec = ROUND_MS * 1000000L};
	const uint64_t began = tracee_now(), limit = limit_ms * 1000000ull;
	int err;

	for (;;) {
		char byte;

		search->is_late = tracee_now() - began >= limit / 2;
		err = look_once(search, t, THREAD_FITS);
		if (err == -EAGAIN && search->seen[THREAD_FITS_LESS])
			err = look_once(search, t, THREAD_FITS_LESS);
		if (err == -EAGAIN && search->walkable)
			err = look_once(search, t, THREAD_FITS_WALKED);
		/* Of several threads: others have half of the time to come to sleep. */
		if (err == -EAGAIN && search->seen[THREAD_FITS_LEAST] &&
		    (search->is_single || search->is_late))
			err = look_once(search, t, THREAD_FITS_LEAST);
		if (err == -EAGAIN && remote_read(search->space, search->libc->start, &byte, 1))
			return -ESTALE;
		if (err == -EAGAIN && worker_is_to_end())
			return -EINTR;
		if (err != -EAGAIN || tracee_now() - began >= limit)
			return err;
		(void)nanosleep(&pause, NULL);
	}
}

int thread_search_stop(struct thread_search *search, struct tracee *t, unsigned limit_ms)
{
	int err;

	t->why[0] = '\0';
	err = search_rounds(search, t, limit_ms);
	chain_reader_close(search->reader);
	free(search->walks);
	search->reader = NULL;
	search->walks = NULL;
	search->walks_n = 0;
	return err;
}
