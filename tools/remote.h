/* SPDX-License-Identifier: MIT */
/*
 * Talking to the agent of another process (src/agent/agent.h has the protocol): finding its socket,
 * one request and its answer, the words of an answer.
 */
#ifndef SHUNT_TOOLS_REMOTE_H
#define SHUNT_TOOLS_REMOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { REMOTE_PATH = 108 }; /* of a socket's address */

/*
 * The name of the socket on which the agent of process @pid listens, as that process sees it, in
 * @path of REMOTE_PATH bytes. 0; -ESRCH: no such process; -ENOENT: no agent in it; or -errno.
 */
int remote_find(pid_t pid, char *path);

/*
 * Until the thread of an agent that has just been started is there under its name, for at most @ms,
 * or until the process has no agent; the socket is there before it.
 */
void remote_wait_for_start(pid_t pid, unsigned ms);

/* Until the agent's thread @agent has ended (0: not seen; until the process has no socket of ours);
 * false: it has not, behind @ms. */
bool remote_wait_for_end(pid_t pid, pid_t agent, unsigned ms);

/*
 * Where that name is gone, because the process is a child of fork(): the descriptor that holds the
 * file, as /proc/PID/fd/NUMBER, in @by_descriptor of REMOTE_PATH bytes. 0, or -errno.
 */
int remote_find_hidden(pid_t pid, const char *path, char *by_descriptor);

/*
 * A socket that is connected to it, with a limit of @ms for each system call; -errno: -ENOENT there
 * is no agent. @is_as_owner: root is the socket's user meanwhile, for an agent in a user namespace
 * that root is nobody in.
 */
int remote_connect_socket(pid_t pid, unsigned ms, bool is_as_owner);
int remote_set_patience(int fd, unsigned ms); /* 0 or -errno */

/*
 * A thread whose folder /proc/TID has what is the process's: @pid; or another one, where the first
 * has ended before it. And the letter of a thread's state, 'X' where there is none.
 */
pid_t remote_thread(pid_t pid);
char remote_thread_state(pid_t tid);
/*
 * Call @visit for one thread of process @pid after the other, until it returns true. -errno: its
 * threads cannot be read. Those that begin or end meanwhile may be among them or not.
 */
int remote_each_thread(pid_t pid, bool (*visit)(pid_t tid, void *arg), void *arg);
bool remote_has_children(pid_t pid); /* as far as can be seen */
/* As the kernel has it, without a newline; "": it is gone. */
enum { REMOTE_THREAD_NAME = 32 };
void remote_thread_name(pid_t tid, char name[REMOTE_THREAD_NAME]);
/* A thread that has this name, and is not @but; 0: none that can be seen. */
pid_t remote_thread_called(pid_t pid, const char *name, pid_t but);
/*
 * The agent's thread, by its name; 0: none that can be seen. Threads may leave the namespaces and
 * the root directory of the others (unshare(), setns()): the agent has those in which it was
 * started.
 */
pid_t remote_agent_thread(pid_t pid);
/* Whether it is a thread of the kernel, as its flags say: who ends has no memory, too. */
bool remote_is_of_kernel(pid_t pid);
/* Words for an agent that does not answer: what its thread does meanwhile. */
void remote_say_mute(pid_t pid, char *why, size_t size);
/* Whether process @pid has ended, or is about to: its descriptors are closed before that is seen by
 * its state. */
bool remote_is_ending(pid_t pid);

/* How long a client waits for an agent that answers others, or has as many as it takes. */
enum { REMOTE_PATIENCE_MS = 5000 };

/*
 * Connect to the agent of process @pid, and see that it answers, for at most @patience_ms. A
 * descriptor, close-on-exec; or -errno: -ESRCH no such process, -ENOENT no agent in it, -EACCES and
 * -EPERM another user's, -EAGAIN it has as many clients as it takes, -ETIMEDOUT it does not answer,
 * -EPROTO another protocol; then @why says so.
 */
int remote_connect_within(pid_t pid, unsigned patience_ms, char *why, size_t size);

/* For REMOTE_PATIENCE_MS. */
int remote_connect(pid_t pid, char *why, size_t size);

/*
 * Send the @n words as one request, with descriptor @passed_fd beside it unless that is -1, and
 * wait for the answer, at most a minute for each part of it. 0, and @reply is the answer, of
 * malloc(), with a NUL behind its @reply_size bytes (NULL for both: not wanted); or -errno, the
 * agent's or of the connection, and @why says more.
 */
int remote_ask(int fd, const char *const words[], size_t n, int passed_fd, char **reply,
	       size_t *reply_size, char *why, size_t size);

/*
 * The same of one word, and without a descriptor; the whole answer is waited for at most @ms. Then
 * that is the limit for what is sent on @fd later on as well.
 */
int remote_ask_within(int fd, unsigned ms, const char *word, char **reply, char *why, size_t size);

/* A line of an answer, taken apart. All zero at first. */
enum { REMOTE_LEAST = 16 };
struct remote_line {
	char **words; /* @n, without escapes; those up to REMOTE_LEAST that it does not have are ""
		       */
	size_t n, max;
};

/*
 * Take the next line of an answer apart, in place: @at is its beginning, and the next one's
 * afterwards. 1; 0: there is no further line; -ENOMEM. Then remote_line_free().
 */
int remote_next_line(char **at, struct remote_line *line);
void remote_line_free(struct remote_line *line);

#endif
