/* SPDX-License-Identifier: MIT */
/*
 * By system calls alone, and without a descriptor that stays open. A process that can get none
 * leaves its words in memory that it shares with those which it was forked from; they tell them.
 */
#include "trace/tell.h"

#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "linux/base/syscall.h"

static struct sockaddr_un listener = {.sun_family = AF_UNIX};
static uint32_t listener_size;

enum { KEPT_MAX = 30 };

/* Nothing is taken out, so that they stay in order. */
static struct kept {
	_Atomic uint32_t n;     /* that were to be kept */
	_Atomic uint32_t taken; /* of these */
	_Atomic uint32_t over_told;
	_Atomic uint32_t size[KEPT_MAX]; /* 0: not there yet, or taken */
	struct trace_word words[KEPT_MAX];
} * kept;

static uint32_t append(char *to, uint32_t room, const char *from)
{
	uint32_t n = 0;

	for (; from && from[n] && n < room; n++)
		((volatile char *)to)[n] = from[n];
	return n;
}

void trace_tell_to(const char *name)
{
	uint32_t n = append(listener.sun_path + 1, TRACE_NAME_MAX, name);

	listener_size = n ? (uint32_t)offsetof(struct sockaddr_un, sun_path) + 1 + n : 0;
	if (n && !kept) {
		void *shared = mmap(NULL, sizeof(*kept), PROT_READ | PROT_WRITE,
				    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

		kept = shared == MAP_FAILED ? NULL : shared;
	}
}

bool trace_has_listener(void)
{
	return listener_size != 0;
}

/* It reads while it waits; where it does not, nobody waits for it for long. */
static bool send_word(const struct trace_word *word, uint32_t size)
{
	static const struct timeval patience = {.tv_sec = 1};
	long fd = shunt_syscall(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, 0), ret;

	if (fd < 0)
		return false;
	(void)shunt_syscall6(SYS_setsockopt, fd, SOL_SOCKET, SO_SNDTIMEO, (long)&patience,
			     sizeof(patience), 0);
	do
		ret = shunt_syscall6(SYS_sendto, fd, (long)word, size, MSG_NOSIGNAL,
				     (long)&listener, listener_size);
	while (ret == -EINTR);
	(void)shunt_syscall(SYS_close, fd, 0, 0, 0);
	return ret >= 0;
}

/* ------------------------------------------------------------- words that are not told */

/* At the end something would be missing without it. */
static bool is_to_be_told(enum trace_word_kind kind)
{
	return kind == TRACE_WORD_REFUSED || kind == TRACE_WORD_FAILED || kind == TRACE_WORD_LOST ||
	       kind == TRACE_WORD_NO_RETURN || kind == TRACE_WORD_EXECUTES ||
	       kind == TRACE_WORD_NOT_EXECUTED;
}

static void keep_word(const struct trace_word *word, uint32_t size)
{
	uint32_t i = kept ? atomic_fetch_add(&kept->n, 1) : KEPT_MAX;

	if (i >= KEPT_MAX)
		return;
	shunt_copy_text(&kept->words[i], word, size);
	kept->words[i].kind |= TRACE_WORD_LATE;
	atomic_store(&kept->size[i], size);
}

/* One that cannot be told now either is kept again, if it is there still. */
static void tell_kept(uint32_t i)
{
	uint32_t size = atomic_exchange(&kept->size[i], 0);

	if (!size)
		return;
	if (send_word(&kept->words[i], size))
		atomic_fetch_add(&kept->taken, 1);
	else
		atomic_store(&kept->size[i], size);
}

static void tell_over(uint32_t n)
{
	uint32_t told = atomic_exchange(&kept->over_told, n);
	struct trace_word word = {.magic = TRACE_WORD_MAGIC, .kind = TRACE_WORD_UNTOLD};

	if (n <= told)
		return;
	word.pid = shunt_own_pid();
	word.n = n - told;
	if (!send_word(&word, (uint32_t)offsetof(struct trace_word, text) + 1))
		atomic_fetch_sub(&kept->over_told, n - told);
}

void trace_tell_rest(void)
{
	uint32_t n = kept ? atomic_load(&kept->n) : 0;

	if (!n)
		return;
	for (uint32_t i = 0; i < n && i < KEPT_MAX && atomic_load(&kept->taken) < KEPT_MAX; i++)
		tell_kept(i);
	if (n > KEPT_MAX)
		tell_over(n - KEPT_MAX);
}

void trace_tell(enum trace_word_kind kind, int error, uint64_t n, const char *text)
{
	struct trace_word word;
	uint32_t len;

	if (!listener_size)
		return;
	word.magic = TRACE_WORD_MAGIC;
	word.kind = kind;
	word.pid = shunt_own_pid();
	word.error = error < 0 ? -error : error;
	word.n = n;
	len = append(word.text, TRACE_WORD_TEXT - 1, text);
	word.text[len] = '\0';
	len += (uint32_t)offsetof(struct trace_word, text) + 1;
	if (send_word(&word, len))
		trace_tell_rest();
	else if (is_to_be_told(kind))
		keep_word(&word, len);
}
