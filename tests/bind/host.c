/* SPDX-License-Identifier: MIT */
/*
 * A program that opens plugins and calls them as its arguments say, one after the other.
 * It knows nothing of libshunt.
 *
 *	local:FILE global:FILE deep:FILE lazy:FILE space:FILE same:FILE
 *	                      dlopen() (lazy: RTLD_LAZY; space: in a new namespace; same: in
 *	                      that of the first plugin)
 *	FUNCTION(ARGUMENT)=RESULT
 *	                      call a function of the last plugin; -: whatever it is
 *	@N, @host             the plugin that was opened as the Nth, from 0 on, is the last one; or
 *	                      the program is
 *
 * Exit status 1 and a line of what went otherwise than it should.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *handles[16], *last;
static unsigned nr_handles;

static Lmid_t space_of(void *handle)
{
	Lmid_t space = LM_ID_BASE;

	return dlinfo(handle, RTLD_DI_LMID, &space) ? LM_ID_BASE : space;
}

static int open_plugin(const char *how, const char *file)
{
	static const struct {
		const char *how;
		int flags;
	} ways[] = {{"local", RTLD_NOW | RTLD_LOCAL},
		    {"global", RTLD_NOW | RTLD_GLOBAL},
		    {"deep", RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND},
		    {"lazy", RTLD_LAZY | RTLD_LOCAL}};

	last = NULL;
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		if (!strcmp(how, ways[i].how))
			last = dlopen(file, ways[i].flags);
	if (!strcmp(how, "space"))
		last = dlmopen(LM_ID_NEWLM, file, RTLD_NOW | RTLD_LOCAL);
	if (!strcmp(how, "same"))
		last = dlmopen(space_of(handles[0]), file, RTLD_NOW | RTLD_LOCAL);
	if (!last) {
		(void)printf("%s: %s\n", how, dlerror());
		return 1;
	}
	handles[nr_handles++] = last;
	return 0;
}

/* @call: FUNCTION(ARGUMENT)=RESULT, where the argument of state() is a string. */
static int call(const char *text)
{
	char name[64], argument[64] = "", wanted[256], got[256];
	int (*function)(int);

	if (sscanf(text, "%63[^(](%63[^)])=%255[^\n]", name, argument, wanted) != 3 &&
	    sscanf(text, "%63[^(]()=%255[^\n]", name, wanted) != 2)
		return printf("%s: not understood\n", text), 2;
	function = (int (*)(int))dlsym(last, name);
	if (!function)
		return printf("%s: %s\n", name, dlerror()), 1;
	if (!strcmp(name, "state"))
		(void)snprintf(got, sizeof(got), "%s",
			       ((const char *(*)(const char *))(void (*)(void))function)(argument));
	else
		(void)snprintf(got, sizeof(got), "%d", function(atoi(argument)));
	if (!strcmp(wanted, "-") || !strcmp(wanted, got))
		return 0;
	(void)printf("%s, but it is %s\n", text, got);
	return 1;
}

int main(int argc, char **argv)
{
	last = dlopen(NULL, RTLD_NOW);
	for (int i = 1; i < argc; i++) {
		char *colon = strchr(argv[i], ':'), *paren = strchr(argv[i], '(');
		int ret = 0;

		if (argv[i][0] == '@') {
			last = strcmp(argv[i], "@host") ? handles[atoi(argv[i] + 1)]
							: dlopen(NULL, RTLD_NOW);
		} else if (paren) {
			ret = call(argv[i]);
		} else if (colon) {
			*colon = '\0';
			ret = open_plugin(argv[i], colon + 1);
		}
		if (ret)
			return ret;
	}
	return 0;
}
