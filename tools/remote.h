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
 * Connect to the agent of process @pid. A descriptor, close-on-exec; or -errno: -ESRCH no such
 * process, -ENOENT no agent in it, -EACCES and -EPERM another user's; then @why says so.
 */
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
 * Take the next line of an answer apart, in place: @at is its beginning, and the next one's
 * afterwards. The first @max words go to @words, without escapes; those that the line does not
 * have become "". False: there is no further line.
 */
bool remote_next_line(char **at, char **words, size_t max, size_t *n);

#endif
