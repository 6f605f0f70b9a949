/* SPDX-License-Identifier: MIT */
#include "remote_common.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "print_json.h"
#include "remote.h"
#include "shunt.h"
#include "trace_file.h"

bool remote_read_pid(const char *command, const char *text, pid_t *pid)
{
	char *end;
	long number;

	errno = 0;
	number = strtol(text, &end, 10);
	*pid = (pid_t)number;
	if (!errno && *text >= '0' && *text <= '9' && !*end && number > 0 && number <= 0x3fffffff)
		return true;
	tool_complain("%s: %s: not the number of a process", command, text);
	return false;
}

char remote_state(pid_t pid)
{
	return remote_thread_state(remote_thread(pid));
}

int remote_open(const char *command, pid_t pid)
{
	char why[700];
	int fd = remote_connect(pid, why, sizeof(why));

	if (fd >= 0)
		return fd;
	tool_complain("%s: %s%s", command, why,
		      fd == -ENOENT ? "; shunt attach puts one there, and SHUNT_AGENT=1 in the "
				      "environment starts one that is linked or preloaded"
				    : "");
	return -1;
}

int remote_request(const char *command, pid_t pid, int fd, const char *const words[], size_t n,
		   int passed_fd, char **reply)
{
	char why[700];
	size_t size;
	int err = remote_ask(fd, words, n, passed_fd, reply, &size, why, sizeof(why));

	if ((err == -ECONNRESET || err == -EPIPE) && remote_is_ending(pid))
		tool_complain("%s: process %d has ended", command, (int)pid);
	else if (err)
		tool_complain("%s: process %d: %s", command, (int)pid, why);
	return err;
}

int remote_request_once(const char *command, pid_t pid, const char *const words[], size_t n,
			int passed_fd, char **reply)
{
	int fd = remote_open(command, pid), err;

	if (fd < 0)
		return -1;
	err = remote_request(command, pid, fd, words, n, passed_fd, reply);
	(void)close(fd);
	return err ? -1 : 0;
}

void remote_make_printable(struct remote_line *line)
{
	for (size_t i = 0; i < line->n; i++)
		(void)trace_make_printable(line->words[i]);
}

int remote_next_row(const char *command, char **at, struct remote_line *line)
{
	int ret = remote_next_line(at, line);

	if (ret < 0)
		tool_complain("%s: %s", command, strerror(-ret));
	return ret;
}

json_t *remote_json_number(const char *word)
{
	return json_integer((json_int_t)strtoll(word, NULL, 10));
}

/* Where no UTF-8 begins, one byte is taken for U+FFFD, which has three. */
json_t *remote_json_string(const char *word)
{
	static const char unknown[] = "\xef\xbf\xbd";
	size_t size = strlen(word);
	char *text = malloc(3 * size + 1), *to = text;
	json_t *string;

	if (!text)
		return NULL;
	for (size_t i = 0; i < size;) {
		size_t n = trace_utf8_length(word + i, size - i);

		to = n ? mempcpy(to, word + i, n) : mempcpy(to, unknown, 3);
		i += n ? n : 1;
	}
	string = json_stringn(text, (size_t)(to - text));
	free(text);
	return string;
}

json_t *remote_json_text(const char *word)
{
	return *word ? remote_json_string(word) : json_null();
}

json_t *remote_json_value(const char *word)
{
	bool is_number = *word && !word[strspn(word, "0123456789")] && strlen(word) < 19;

	return is_number ? remote_json_number(word) : remote_json_text(word);
}

int remote_print_json(const char *command, json_t *root)
{
	return tool_print_json(command, root) ? EXIT_FAILURE : 0;
}
