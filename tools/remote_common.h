/* SPDX-License-Identifier: MIT */
/* What the commands that ask the agent of a process have in common. */
#ifndef SHUNT_TOOLS_REMOTE_COMMON_H
#define SHUNT_TOOLS_REMOTE_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <jansson.h>

/* A process's number; false: it is none, which has been said for @command. */
bool remote_read_pid(const char *command, const char *text, pid_t *pid);

/* Connect; a descriptor, or -1 having complained, with what can be done. */
int remote_open(const char *command, pid_t pid);

/* Ask on @fd as remote_ask() does. 0, or -errno having complained. */
int remote_request(const char *command, pid_t pid, int fd, const char *const words[], size_t n,
		   int passed_fd, char **reply);

/* Connect, ask one thing, disconnect. 0, or -1 having complained. */
int remote_request_once(const char *command, pid_t pid, const char *const words[], size_t n,
			int passed_fd, char **reply);

/*
 * The next line of an answer as remote_next_line(), whose words a terminal and JSON can be shown:
 * what is no UTF-8, and control characters, have become '?'.
 */
bool remote_next_row(char **at, char **words, size_t max, size_t *n);

/* The words of an answer's line are at most so many here: a key has choices. */
enum { REMOTE_WORDS = 256 };

/* A number where the word is one, else a string. */
json_t *remote_json_value(const char *word);
json_t *remote_json_number(const char *word);
json_t *remote_json_text(const char *word); /* "": null */

/* Print @root, or complain. The exit status; takes the reference. */
int remote_print_json(const char *command, json_t *root);

#endif
