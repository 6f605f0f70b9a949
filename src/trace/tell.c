/* SPDX-License-Identifier: MIT */
/* By system calls alone, and without a descriptor that stays open. */
#include "trace/tell.h"

#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "linux/base/syscall.h"

static struct sockaddr_un listener = {.sun_family = AF_UNIX};
static uint32_t listener_size;

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
}

bool trace_has_listener(void)
{
	return listener_size != 0;
}

/* It reads while it waits; where it does not, nobody waits for it for long. */
static void send_word(const struct trace_word *word, uint32_t size)
{
	static const struct timeval patience = {.tv_sec = 1};
	long fd = shunt_syscall(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, 0);

	if (fd < 0)
		return;
	(void)shunt_syscall6(SYS_setsockopt, fd, SOL_SOCKET, SO_SNDTIMEO, (long)&patience,
			     sizeof(patience), 0);
	while (shunt_syscall6(SYS_sendto, fd, (long)word, size, MSG_NOSIGNAL, (long)&listener,
			      listener_size) == -EINTR)
		;
	(void)shunt_syscall(SYS_close, fd, 0, 0, 0);
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
	send_word(&word, (uint32_t)offsetof(struct trace_word, text) + len + 1);
}
