/* SPDX-License-Identifier: MIT */
/* The command line (kernel.h). */
#include "kernel.h"

static char line[512];
static bool known[sizeof(line)]; /* by a word's first character: somebody has asked for it */

void cmdline_init(const char *text)
{
	/* A multiboot loader puts the kernel's own name first. */
	while (*text && *text != ' ')
		text++;
	for (size_t i = 0; i < sizeof(line) - 1 && text[i]; i++)
		line[i] = text[i];
}

static bool starts_word(const char *c)
{
	return *c && *c != ' ' && (c == line || c[-1] == ' ');
}

static bool ends_word(const char *c)
{
	return *c == '\0' || *c == ' ';
}

/*
 * The word that is @name and then @rest, which may be NULL for anything behind a "=".
 * Returns what stands behind the name; NULL: there is no such word.
 */
static const char *find(const char *name, const char *rest)
{
	size_t len = strlen(name), rest_len = rest ? strlen(rest) : 0;

	for (const char *c = line; *c; c++) {
		const char *behind = c + len;

		if (!starts_word(c) || strncmp(c, name, len) != 0)
			continue;
		if (rest ? strncmp(behind, rest, rest_len) != 0 || !ends_word(behind + rest_len)
			 : *behind != '=')
			continue;
		known[c - line] = true;
		return behind;
	}
	return NULL;
}

bool cmdline_has(const char *word)
{
	return find(word, "");
}

unsigned long cmdline_number(const char *name, unsigned long otherwise)
{
	const char *c = find(name, NULL);
	unsigned long value = 0;

	if (!c)
		return otherwise;
	for (c++; *c >= '0' && *c <= '9'; c++)
		value = value * 10 + (unsigned long)(*c - '0');
	return value;
}

bool cmdline_is(const char *name, const char *value)
{
	char rest[64] = "=";

	for (size_t i = 0; i < sizeof(rest) - 2 && value[i]; i++)
		rest[i + 1] = value[i];
	return find(name, rest);
}

bool cmdline_lists(const char *name, const char *item)
{
	const char *c = find(name, NULL);
	size_t len = strlen(item);

	/* From the "=" or a comma to the next comma, or the end of the word. */
	while (c && !ends_word(c)) {
		c++;
		if (!strncmp(c, item, len) && (c[len] == ',' || ends_word(c + len)))
			return true;
		while (*c != ',' && !ends_word(c))
			c++;
	}
	return false;
}

const char *cmdline_unknown(void)
{
	for (const char *c = line; *c; c++)
		if (starts_word(c) && !known[c - line])
			return c;
	return NULL;
}
