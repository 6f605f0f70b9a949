/* SPDX-License-Identifier: MIT */
/* The lines of an agent's answer. */
#include "remote.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/words.h"

/* Cut @text at the first @c; what is behind it, or NULL. */
static char *cut(char *text, char c)
{
	char *at = strchr(text, c);

	if (at)
		*at++ = '\0';
	return at;
}

/* Room for one more word, and those that are missing. */
static bool make_room(struct remote_line *line)
{
	size_t max = line->max ? 2 * line->max : REMOTE_LEAST;
	char **words;

	if (line->n < line->max)
		return true;
	words = reallocarray(line->words, max, sizeof(*words));
	if (!words)
		return false;
	line->words = words;
	line->max = max;
	return true;
}

int remote_next_line(char **at, struct remote_line *line)
{
	static char none[1];
	char *word = *at, *next;

	line->n = 0;
	if (!word || !*word)
		return 0;
	*at = cut(word, '\n');
	for (; word; word = next) {
		next = cut(word, '\t');
		agent_unescape(word);
		if (!make_room(line))
			return -ENOMEM;
		line->words[line->n++] = word;
	}
	for (size_t i = line->n; i < REMOTE_LEAST; i++)
		line->words[i] = none;
	return 1;
}

void remote_line_free(struct remote_line *line)
{
	free(line->words);
	*line = (struct remote_line){0};
}
