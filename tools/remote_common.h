/* SPDX-License-Identifier: MIT */
/* What the commands that ask the agent of a process have in common. */
#ifndef SHUNT_TOOLS_REMOTE_COMMON_H
#define SHUNT_TOOLS_REMOTE_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <jansson.h>

#include "remote.h"

/* A process's number; false: it is none, which has been said for @command. */
bool remote_read_pid(const char *command, const char *text, pid_t *pid);

/* Its state as of proc(5), "Z" being one that has ended; 'X': it is not there. */
char remote_state(pid_t pid);

/* Connect; a descriptor, or -1 having complained, with what can be done. */
int remote_open(const char *command, pid_t pid);

/* Ask on @fd as remote_ask() does. 0, or -errno having complained. */
int remote_request(const char *command, pid_t pid, int fd, const char *const words[], size_t n,
		   int passed_fd, char **reply);

/* Connect, ask one thing, disconnect. 0, or -1 having complained. */
int remote_request_once(const char *command, pid_t pid, const char *const words[], size_t n,
			int passed_fd, char **reply);

/* The next line of an answer, as remote_next_line(), complaining of what fails. */
int remote_next_row(const char *command, char **at, struct remote_line *line);

/*
 * For a terminal, in place: what is no UTF-8, and control characters, become '?'. A tool that
 * writes JSON takes words as they are.
 */
void remote_make_printable(struct remote_line *line);

/* A number where the word is one, else a string. */
json_t *remote_json_value(const char *word);
json_t *remote_json_number(const char *word);
json_t *remote_json_text(const char *word); /* "": null */
/* A string, also "", in which what is no UTF-8 has become U+FFFD. */
json_t *remote_json_string(const char *word);

/* Print @root, or complain. The exit status; takes the reference. */
int remote_print_json(const char *command, json_t *root);

#endif
