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

void trace_say_unmatched(const char *glob, size_t len, char *why, size_t size)
{
	struct search s = {.n = 0};

	(void)snprintf(s.glob, sizeof(s.glob), "%.*s", (int)len, glob);
	why[0] = '\0';
	if (len >= sizeof(s.glob) || shunt_for_each_function(look_at, &s))
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
