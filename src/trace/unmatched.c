/* SPDX-License-Identifier: MIT */
/* The names that a filter was meant for are looked for among all functions, traceable or not. */
#include <fnmatch.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <shunt/ftrace.h>

#include "trace/unmatched.h"

struct search {
	char glob[256];
	size_t n;
	char why[120]; /* of the first */
};

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* "GLOB", or "MODULE:GLOB". */
static bool is_meant(struct search *s, const struct shunt_function_info *f)
{
	char *colon = strchr(s->glob, ':');
	bool is_meant;

	if (!f->name)
		return false;
	if (!fnmatch(s->glob, f->name, 0))
		return true;
	if (!colon)
		return false;
	*colon = '\0';
	is_meant = !fnmatch(s->glob, base_name(f->module ? f->module : ""), 0) &&
		   !fnmatch(colon + 1, f->name, 0);
	*colon = ':';
	return is_meant;
}

static int look_at(const struct shunt_function_info *f, void *arg)
{
	struct search *s = arg;

	if (is_meant(s, f) && !s->n++)
		(void)snprintf(s->why, sizeof(s->why), "%s", f->why ? f->why : "it is not traced");
	return 0;
}

static bool is_identifier(const char *name, size_t len)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789");

	return len && n >= len;
}

static size_t put_star(char *to, size_t at)
{
	if (!at || to[at - 1] != '*')
		to[at++] = '*';
	return at;
}

/* "app::parse*" -> "*3app*parse*": what takes the mangled names. Room for three times @name. */
static void mangle(char *to, const char *name)
{
	size_t at = put_star(to, 0);

	while (*name && *name != '(') {
		const char *colons = strstr(name, "::");
		size_t len = strcspn(name, "(");

		if (colons && (size_t)(colons - name) < len)
			len = (size_t)(colons - name);
		if (is_identifier(name, len))
			at += (size_t)sprintf(to + at, "%zu", len);
		else
			at = put_star(to, at);
		for (size_t i = 0; i < len; i++)
			if (name[i] == '*')
				at = put_star(to, at);
			else
				to[at++] = name[i];
		name += len + (name + len == colons ? 2 : 0);
	}
	to[put_star(to, at)] = '\0';
}

/* Whether it is a C++ name as the source has it; then what would match. */
static bool say_mangled(const struct search *s, char *why, size_t size)
{
	const char *colons = strstr(s->glob, "::"), *name = s->glob;
	const char *colon = strchr(s->glob, ':');
	char glob[3 * sizeof(s->glob)];

	if (!colons && !strchr(s->glob, '('))
		return false;
	if (colon && colon[1] != ':') /* its module's */
		name = colon + 1;
	mangle(glob, name);
	(void)snprintf(why, size,
		       ": names of C++ are matched as they are mangled: try \"%.*s%.100s\"",
		       (int)(name - s->glob < 100 ? name - s->glob : 100), s->glob, glob);
	return true;
}

void trace_say_unmatched(const char *glob, size_t len, char *why, size_t size)
{
	struct search s = {.n = 0};

	(void)snprintf(s.glob, sizeof(s.glob), "%.*s", (int)len, glob);
	why[0] = '\0';
	if (len >= sizeof(s.glob) || shunt_for_each_function(look_at, &s))
		return;
	if (!s.n && say_mangled(&s, why, size))
		return;
	if (!s.n)
		(void)snprintf(why, size, ": there is no function of such a name");
	else if (s.n == 1)
		(void)snprintf(why, size, ": there is a function of such a name; %s", s.why);
	else
		(void)snprintf(why, size,
			       ": there are %zu functions of such names; of the first, %s", s.n,
			       s.why);
}
