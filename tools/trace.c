/* SPDX-License-Identifier: MIT */
/*
 * shunt trace: runs a command with libshunt-trace preloaded, which does the rest (autostart.c). The
 * command takes this process's place, so its exit status and its signals are its own.
 */
#include "shunt.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char usage[] =
	"trace [-F GLOB]... [-N GLOB]... [-o FILE] [--min TIME] [--ring SIZE] [--entries]\n"
	"                   [--keep-all] [--flight [--signal NUMBER]] [--] COMMAND [ARGUMENT...]";

struct request {
	char *filter, *notrace; /* globs with a space between them */
	const char *file;
	unsigned long long min_ns, ring;
	int signal;
	bool is_flight, entries, keep_all;
};

static int add_glob(char **globs, const char *glob)
{
	char *all = NULL;

	if (asprintf(&all, "%s%s%s", *globs ? *globs : "", *globs ? " " : "", glob) < 0)
		return -ENOMEM;
	free(*globs);
	*globs = all;
	return 0;
}

/* A number with one of the units that @units lists by pairs; false: it is none. */
struct unit {
	const char *name;
	double factor;
};

static bool read_quantity(const char *text, const struct unit *units, unsigned long long *value)
{
	char *end;
	double number = strtod(text, &end);

	if (end == text || !(number >= 0) || number > 1e15)
		return false;
	for (; units->name; units++)
		if (!strcmp(end, units->name)) {
			*value = (unsigned long long)(number * units->factor);
			return true;
		}
	return false;
}

static bool read_time(const char *text, unsigned long long *ns)
{
	static const struct unit units[] = {{"ns", 1},  {"us", 1e3}, {"ms", 1e6},
					    {"s", 1e9}, {"", 1},     {NULL, 0}};

	return read_quantity(text, units, ns);
}

static bool read_size(const char *text, unsigned long long *bytes)
{
	static const struct unit units[] = {
		{"", 1},          {"K", 1024},       {"KiB", 1024},       {"M", 1048576},
		{"MiB", 1048576}, {"G", 1073741824}, {"GiB", 1073741824}, {NULL, 0}};

	return read_quantity(text, units, bytes);
}

enum { OPT_MIN = 256, OPT_RING, OPT_FLIGHT, OPT_SIGNAL, OPT_ENTRIES, OPT_KEEP, OPT_HELP };

static bool take_option(struct request *r, int option)
{
	unsigned long long number = 0;

	switch (option) {
	case 'F':
		return !add_glob(&r->filter, optarg);
	case 'N':
		return !add_glob(&r->notrace, optarg);
	case 'o':
		r->file = optarg;
		return true;
	case OPT_MIN:
		return read_time(optarg, &r->min_ns);
	case OPT_RING:
		return read_size(optarg, &r->ring);
	case OPT_SIGNAL:
		r->signal = read_size(optarg, &number) && number < NSIG ? (int)number : 0;
		return r->signal > 0;
	case OPT_FLIGHT:
		return r->is_flight = true;
	case OPT_ENTRIES:
		return r->entries = true;
	case OPT_KEEP:
		return r->keep_all = true;
	default:
		return false;
	}
}

/* ------------------------------------------------------------------------ the library */

#define LIBRARY "libshunt-trace.so.0"

/* Beside this program, in the tree that it was built in or installed to; else the linker's to find.
 */
static int find_library(char *path, size_t size)
{
	static const char *const places[] = {"../src/trace", SHUNT_TOOL_TO_LIB};
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	self[n > 0 ? n : 0] = '\0';
	slash = strrchr(self, '/');
	for (size_t i = 0; slash && i < sizeof(places) / sizeof(places[0]); i++) {
		*slash = '\0';
		if (snprintf(path, size, "%s/%s/%s", self, places[i], LIBRARY) >= (int)size)
			return -ENAMETOOLONG;
		if (!access(path, R_OK))
			return 0;
	}
	(void)snprintf(path, size, "%s", LIBRARY);
	return 0;
}

static int preload(void)
{
	const char *others = getenv("LD_PRELOAD");
	char library[4200], *all = NULL;
	int err = find_library(library, sizeof(library));

	/* The list is parted by colons and spaces. */
	if (!err && strpbrk(library, " :"))
		err = -EINVAL;
	if (!err && asprintf(&all, "%s%s%s", library, others && *others ? ":" : "",
			     others ? others : "") < 0)
		err = -ENOMEM;
	if (!err && setenv("LD_PRELOAD", all, 1))
		err = -errno;
	free(all);
	return err;
}

/* -------------------------------------------------------------------- the environment */

static int set_number(const char *name, unsigned long long value, bool is_set)
{
	char text[32];

	(void)snprintf(text, sizeof(text), "%llu", value);
	return is_set ? setenv(name, text, 1) : unsetenv(name);
}

static int set_text(const char *name, const char *value)
{
	return value ? setenv(name, value, 1) : unsetenv(name);
}

static int set_environment(const struct request *r, const char *file)
{
	int err = set_text("SHUNT_TRACE_FILE", file);

	err |= set_text("SHUNT_TRACE_FILTER", r->filter);
	err |= set_text("SHUNT_TRACE_NOTRACE", r->notrace);
	err |= set_number("SHUNT_TRACE_MIN_NS", r->min_ns, r->min_ns != 0);
	err |= set_number("SHUNT_TRACE_RING", r->ring, r->ring != 0);
	err |= set_number("SHUNT_TRACE_AUTO_OFF", 0, r->keep_all);
	err |= set_number("SHUNT_TRACE_FLIGHT", 1, r->is_flight);
	err |= set_number("SHUNT_TRACE_SIGNAL", (unsigned long long)r->signal, r->signal != 0);
	err |= set_number("SHUNT_TRACE_ENTRIES", 1, r->entries);
	err |= set_number("SHUNT_TRACE_PID", (unsigned long long)getpid(), true);
	return err ? -errno : 0;
}

/* The last session's file goes away, and what cannot be written is known before the command runs.
 */
static int make_way(const char *file)
{
	int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (!fstat(fd, &st) && S_ISREG(st.st_mode))
		(void)unlink(file);
	(void)close(fd);
	return 0;
}

/* Absolute, because the command may change its folder; NULL: no memory. */
static char *absolute(const char *file)
{
	char *folder = file[0] == '/' ? NULL : getcwd(NULL, 0), *path = NULL;

	if (asprintf(&path, "%s%s%s", folder ? folder : "", folder ? "/" : "", file) < 0)
		path = NULL;
	free(folder);
	return path;
}

static int run(const struct request *r, char **command)
{
	char *file = absolute(r->file ? r->file : "shunt.trace");
	int err = file ? make_way(file) : -ENOMEM;

	if (err) {
		tool_complain("trace: %s: %s", file ? file : "memory", strerror(-err));
		free(file);
		return EXIT_FAILURE;
	}
	err = set_environment(r, file);
	free(file);
	if (!err)
		err = preload();
	if (err) {
		tool_complain("trace: the environment for %s: %s", command[0], strerror(-err));
		return EXIT_FAILURE;
	}
	(void)execvp(command[0], command);
	err = errno;
	tool_complain("trace: %s: %s", command[0], strerror(err));
	return err == ENOENT ? 127 : 126;
}

int cmd_trace(int argc, char **argv)
{
	static const struct option options[] = {
		{"min", required_argument, NULL, OPT_MIN},
		{"ring", required_argument, NULL, OPT_RING},
		{"flight", no_argument, NULL, OPT_FLIGHT},
		{"signal", required_argument, NULL, OPT_SIGNAL},
		{"entries", no_argument, NULL, OPT_ENTRIES},
		{"keep-all", no_argument, NULL, OPT_KEEP},
		{"help", no_argument, NULL, OPT_HELP},
		{NULL, 0, NULL, 0},
	};
	struct request request = {0};
	int option, status;

	optind = 1;
	while ((option = getopt_long(argc, argv, "+F:N:o:h", options, NULL)) != -1) {
		if (option == OPT_HELP || option == 'h') {
			(void)printf("usage: shunt %s\n", usage);
			return 0;
		}
		if (!take_option(&request, option))
			return tool_usage(usage);
	}
	if (optind == argc || (request.signal && !request.is_flight)) {
		tool_complain(optind == argc ? "COMMAND is missing"
					     : "--signal is of use with --flight alone");
		return tool_usage(usage);
	}
	status = run(&request, argv + optind);
	free(request.filter);
	free(request.notrace);
	return status;
}
