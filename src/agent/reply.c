/* SPDX-License-Identifier: MIT */
/* Lines of words, as they are made. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/agent.h"

static bool make_room(struct agent_reply *reply, size_t more)
{
	size_t max = reply->max ? reply->max : 4096;
	char *text;

	if (reply->error)
		return false;
	while (max < reply->size + more)
		max *= 2;
	if (max == reply->max)
		return true;
	text = max <= AGENT_REPLY ? agent_resize(reply->text, max) : NULL;
	if (!text) {
		agent_reply_fail(reply, ENOMEM, "no memory for an answer of %zu bytes", max);
		return false;
	}
	reply->text = text;
	reply->max = max;
	return true;
}

static void put(struct agent_reply *reply, char c)
{
	reply->text[reply->size++] = c;
}

void agent_reply_word(struct agent_reply *reply, const char *word)
{
	const char *p = word ? word : "";

	if (!make_room(reply, 2 * strlen(p) + 1))
		return;
	if (reply->size && reply->text[reply->size - 1] != '\n')
		put(reply, '\t');
	for (; *p; p++) {
		if (*p == '\t' || *p == '\n' || *p == '\\')
			put(reply, '\\');
		put(reply, *p == '\t' ? 't' : *p == '\n' ? 'n' : *p);
	}
}

void agent_reply_number(struct agent_reply *reply, const char *name, unsigned long long value)
{
	char digits[24];

	(void)snprintf(digits, sizeof(digits), "%llu", value);
	if (name)
		agent_reply_word(reply, name);
	agent_reply_word(reply, digits);
	if (name)
		agent_reply_line(reply);
}

void agent_reply_line(struct agent_reply *reply)
{
	if (make_room(reply, 1))
		put(reply, '\n');
}

void agent_reply_fail(struct agent_reply *reply, int error, const char *format, ...)
{
	va_list args;

	if (reply->error)
		return;
	reply->error = error ? error : EIO;
	va_start(args, format);
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): va_start() is above */
	(void)vsnprintf(reply->message, sizeof(reply->message), format, args);
	va_end(args);
	for (char *p = reply->message; *p; p++)
		if (*p == '\n')
			*p = ' ';
}
