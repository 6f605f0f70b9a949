/* SPDX-License-Identifier: MIT */
/*
 * What a thread that sleeps in a system call was called from: whether malloc(), the dynamic linker
 * or a signal handler is in its call chain. The words of its stack say so without disturbing it,
 * but some may be of calls that have returned; the frames say it once the thread is stopped.
 */
#include <inttypes.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "inject_thread.h"

enum {
	NEAR = 64,           /* words of the stack: the frames of libc's own functions */
	FAR = (1 << 20) / 8, /* words in which a signal's frame is looked for */
	/* Words of a signal's frame: rsp, rip, cs and ss. */
	FRAME_SP = 21,
	FRAME_IP = 22,
	FRAME_CS = 24
};

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
		if (thread_is_of_allocator(search, words[i]))
			return true;
	return false;
}

/* Whether a thread that was interrupted at @ip was in one of libc's waits, or its letting in of
 * signals. */
static bool is_wait(const struct thread_search *search, uint64_t ip)
{
	unsigned char text[2];

	if (!thread_is_return_to(search->interrupted, search->interrupted_n, ip))
		return false;
	/* Behind the system call, or at it where it is to begin anew. */
	return (!remote_read(search->space, ip - 2, text, 2) && text[0] == 0x0f &&
		text[1] == 0x05) ||
	       (!remote_read(search->space, ip, text, 2) && text[0] == 0x0f && text[1] == 0x05);
}

/*
 * Whether what the handler has interrupted was one of those waits, called by neither malloc() nor
 * the dynamic linker: servers that start their children in a handler have such a frame on their
 * stacks for good.
 */
static bool has_interrupted_wait(const struct thread_search *search, const uint64_t *frame)
{
	uint64_t words[NEAR];
	size_t n;

	if (!is_wait(search, frame[FRAME_IP]))
		return false;
	n = read_stack(search, frame[FRAME_SP], words, NEAR);
	return n && !is_in_allocator(search, words, n);
}

/* How many of the words are below the first handler; what that has interrupted is looked at apart.
 */
static size_t words_before_frame(const struct thread_search *search, const uint64_t *words,
				 size_t n)
{
	size_t near = n < NEAR ? n : NEAR;

	for (size_t i = 0; i < near && i + FRAME_CS < n; i++)
		if (is_signal_frame(search, words + i))
			return i;
	return near;
}

/* Whether a handler is among the words that may have interrupted anything. */
static bool has_handler(const struct thread_search *search, const uint64_t *words, size_t n)
{
	for (size_t i = 0; i + FRAME_CS < n; i++)
		if (is_signal_frame(search, words + i) && !has_interrupted_wait(search, words + i))
			return true;
	return false;
}

/*
 * A wait with a time limit that was stopped before goes on as restart_syscall(2), with the
 * registers that it had: of nanosleep() and poll(), which libc has functions for, or of futex(2).
 */
bool thread_is_in_futex(const struct thread_search *search, const struct thread_place *place)
{
	int command = (int)place->arguments[1] & FUTEX_CMD_MASK;

#ifdef INJECT_FORGETS_FUTEX /* the tests' control */
	return place->number == SYS_futex;
#endif
	return place->number == SYS_futex ||
	       (place->number == SYS_restart_syscall &&
		(command == FUTEX_WAIT || command == FUTEX_WAIT_BITSET) &&
		!thread_is_return_to(search->interrupted, search->interrupted_n,
				     place->instruction));
}

bool thread_is_in_barrier(const struct thread_search *search, const struct thread_place *place)
{
#ifdef INJECT_NO_TAILS
	(void)search, (void)place;
	return false;
#endif
	return thread_is_return_to(search->barriers, search->barriers_n, place->instruction);
}

/* Whether a futex need not be one of the waits' to be slept in. */
static bool needs_no_wait(const struct thread_search *search, const struct thread_place *place)
{
	return !thread_is_in_futex(search, place) || thread_is_in_barrier(search, place);
}

/* By the words from @stack on. @waits: it is known to be in one of the waits. */
static enum thread_verdict judge_words(const struct thread_search *search, uint64_t stack,
				       bool waits)
{
	uint64_t *words = malloc(FAR * sizeof(*words));
	size_t n = words ? read_stack(search, stack, words, FAR) : 0;
	size_t near = words ? words_before_frame(search, words, n) : 0;
	enum thread_verdict verdict = n ? THREAD_FITS : THREAD_ELSEWHERE;

	for (size_t i = 0; i < near; i++)
		waits |= thread_is_return_to(search->waits, search->waits_n, words[i]);
	if (is_in_allocator(search, words, near))
		verdict = THREAD_ALLOCATOR;
	if (verdict == THREAD_FITS && !waits)
		verdict = THREAD_LOCK;
	if (verdict == THREAD_FITS && has_handler(search, words, n))
		verdict = THREAD_HANDLER;
	free(words);
	return verdict;
}

enum thread_verdict thread_judge_stack(const struct thread_search *search,
				       const struct thread_place *place)
{
	return judge_words(search, place->stack, needs_no_wait(search, place));
}

/* ---------------------------------------------------------------------- call chain */

enum thread_verdict thread_judge_chain(const struct thread_search *search,
				       const struct thread_place *place)
{
	const struct chain *chain = &search->chain;
	bool waits = needs_no_wait(search, place), in_handler = false, in_other = false;

	if (!chain->n)
		return thread_judge_stack(search, place);
	for (size_t i = 0; i < chain->n; i++) {
		uint64_t ip = chain->frames[i].instruction;

		if (thread_is_of_allocator(search, ip))
			return THREAD_ALLOCATOR;
		/* The next frame is the one that it has interrupted. */
		if (is_restorer(search->space, ip)) {
			in_handler = true;
			in_other |= i + 1 == chain->n ||
				    !is_wait(search, chain->frames[i + 1].instruction);
		}
		/* By its callers, as from words: where it sleeps itself is what the waits share
		 * with locks. */
		waits |=
			i && !in_handler && thread_is_return_to(search->waits, search->waits_n, ip);
	}
	if (in_other)
		return THREAD_HANDLER;
	if (!chain->is_whole)
		return judge_words(search, chain->frames[chain->n - 1].stack, waits);
	return waits ? THREAD_FITS : THREAD_LOCK;
}

void thread_load_modules(const struct thread_search *search, const struct thread_place *place)
{
	uint64_t *words = malloc(FAR * sizeof(*words));
	size_t n = words ? read_stack(search, place->stack, words, FAR) : 0;

	chain_reader_load(search->reader, place->instruction);
	for (size_t i = 0; i < n; i++)
		chain_reader_load(search->reader, words[i]);
	free(words);
}

/* ----------------------------------------------------------------------- whose stack */

/* As find_mapping(), as it is now: the stack may be younger than what is known, or have grown. */
static bool find_new_mapping(pid_t tid, uint64_t address, struct remote_range *range,
			     bool *is_first)
{
	char path[64], line[512];
	bool found = false;
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/%d/maps", (int)tid);
	file = fopen(path, "re");
	/* NOLINTNEXTLINE(cert-err34-c): numbers of the kernel's */
	while (file && !found && fgets(line, sizeof(line), file))
		found = sscanf(line, "%" SCNx64 "-%" SCNx64, &range->start, &range->end) == 2 &&
			address >= range->start && address < range->end;
	*is_first = found && strstr(line, "[stack]");
	if (file)
		(void)fclose(file);
	return found;
}

/* @is_first: of the first thread, which has a name of its own. */
static bool find_mapping(const struct thread_search *search, pid_t tid, uint64_t address,
			 struct remote_range *range, bool *is_first)
{
	const struct remote_map *map = remote_map_at(search->space, address);

	if (!map)
		return find_new_mapping(tid, address, range, is_first);
	*range = (struct remote_range){map->start, map->end};
	*is_first = !strcmp(map->name, "[stack]");
	return true;
}

/* The first thread's description is elsewhere. */
static bool is_of_own_stack(const struct thread_search *search, pid_t tid, uint64_t tcb,
			    uint64_t stack)
{
	struct remote_range mapping;
	bool is_first, found = find_mapping(search, tid, stack, &mapping, &is_first);

	if (found && !is_first && !(tcb > stack && tcb < mapping.end))
		found = find_new_mapping(tid, stack, &mapping, &is_first);
	if (!found || is_first)
		return found && tid == search->space->pid;
	return tcb > stack && tcb < mapping.end;
}

bool thread_is_on_own_stack(const struct thread_search *search, const struct thread_place *place,
			    pid_t tid, uint64_t tcb)
{
	bool is_own = is_of_own_stack(search, tid, tcb, place->stack);
	uint64_t *words = is_own ? NULL : malloc(FAR * sizeof(*words));
	size_t n = words ? read_stack(search, place->stack, words, FAR) : 0;

	for (size_t i = 0; !is_own && i + FRAME_CS < n; i++)
		is_own = is_signal_frame(search, words + i) &&
			 is_wait(search, words[i + FRAME_IP]) &&
			 is_of_own_stack(search, tid, tcb, words[i + FRAME_SP]);
	free(words);
	return is_own;
}
