/* SPDX-License-Identifier: MIT */
/*
 * shunt trace: runs a command with libshunt-trace preloaded, which does the rest (autostart.c), and
 * waits for it (trace_run.c).
 */
#include "quantity.h"
#include "remote_common.h"
#include "remote_trace.h"
#include "shunt.h"
#include "trace_follow.h"
#include "trace_place.h"
#include "trace_run.h"
#include "trace_words.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define USAGE                                                                               \
	"trace [OPTION...] [--] COMMAND [ARGUMENT...]\n"                                    \
	"       shunt trace [OPTION...] -p PID\n"                                           \
	"Run COMMAND, or look at process PID, and record which functions run when.\n"       \
	"\n"                                                                                \
	"  -F, --filter GLOB   functions whose name matches, alone; \"module:glob\";\n"     \
	"                      names of C++ are mangled: '*3app*parse*' is app::parse...\n" \
	"  -N, --notrace GLOB  not those\n"                                                 \
	"  -o, --output FILE   where to (default: shunt.trace)\n"                           \
	"      --min TIME      leave out shorter calls: 500ns, 20us, 1.5ms, 1s\n"           \
	"      --ring SIZE     of each thread: 64K, 16M (default: 1M); a bigger one\n"      \
	"                      loses less\n"                                                \
	"      --entries       no returns, and no durations\n"                              \
	"      --keep-all      short functions that are called very often, too\n"           \
	"      --flight        the last events alone, written when COMMAND ends or dies\n"  \
	"      --top           a table of functions, once a second, until q or Ctrl-C;\n"   \
	"                      nothing is kept but with -o\n"                               \
	"      --signal SIG    with --flight: and on this signal, a number or a name\n"     \
	"\n"                                                                                \
	"  -p, --pid PID       a running process; Ctrl-C ends it; an agent that is not\n"   \
	"                      there is put into it, and taken away at the end\n"           \
	"      --for TIME      with -p: so long; a number alone is of seconds\n"            \
	"\n"                                                                                \
	"The exit status is COMMAND's; 1 where it is 0 and the session is not whole.\n"     \
	"\n"                                                                                \
	"examples:\n"                                                                       \
	"  shunt trace -- ./program && shunt report shunt.trace\n"                          \
	"  shunt trace -F 'parse_*' -N '*_fast' -o out.trace -- ./program input\n"          \
	"  shunt trace --min 1ms -o slow.trace -- ./server\n"                               \
	"  shunt trace --flight --signal USR1 -o last.trace -- ./server\n"                  \
	"  shunt trace -p 1234 -F 'parse_*' --for 10s -o out.trace\n"                       \
	"  shunt trace -p 1234 --top"

struct request {
	char *filter, *notrace; /* globs with a space between them */
	const char *file;
	unsigned long long min_ns, ring;
	unsigned long long for_ns;
	pid_t pid; /* 0: a command is run */
	int signal;
	bool is_flight, entries, keep_all, has_top;
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

/* What the recorder takes (session.c); what is less it would make 4K of. */
#define RING_MIN (4ull << 10)
#define RING_MAX (4ull << 30)

static bool read_ring(const char *text, unsigned long long *bytes)
{
	return tool_read_size(text, bytes) && *bytes >= RING_MIN && *bytes <= RING_MAX;
}

static bool is_number(const char *text)
{
	return *text && text[strspn(text, "0123456789")] == '\0';
}

/* "10", "USR1", "SIGUSR1": one that a process can have a handler for. 0: it is none. */
static int read_signal(const char *text)
{
	int sig = is_number(text) && strlen(text) < 4 ? atoi(text) : 0;
	const char *name = strncmp(text, "SIG", 3) ? text : text + 3;

	for (int i = 1; i < NSIG && !sig; i++)
		if (sigabbrev_np(i) && !strcmp(name, sigabbrev_np(i)))
			sig = i;
	return sig < NSIG && sig != SIGKILL && sig != SIGSTOP && sig != SIGTRAP ? sig : 0;
}

enum {
	OPT_MIN = 256,
	OPT_RING,
	OPT_FLIGHT,
	OPT_SIGNAL,
	OPT_ENTRIES,
	OPT_KEEP,
	OPT_FOR,
	OPT_TOP,
	OPT_HELP
};

static bool is_value(bool good, const char *option, const char *kind)
{
	if (!good)
		tool_complain("trace: %s %s: not %s", option, optarg, kind);
	return good;
}

/* More than what parts patterns from each other. */
static bool is_pattern(const char *text)
{
	return text[strspn(text, " ,")] != '\0';
}

/* False: it is wrong, and was complained of. */
static bool take_option(struct request *r, int option)
{
	switch (option) {
	case 'F':
		return is_value(is_pattern(optarg) && !add_glob(&r->filter, optarg), "-F",
				"a pattern");
	case 'N':
		return is_value(is_pattern(optarg) && !add_glob(&r->notrace, optarg), "-N",
				"a pattern");
	case 'o':
		r->file = optarg;
		return is_value(*optarg, "-o", "a file");
	case OPT_MIN:
		return is_value(tool_read_time(optarg, &r->min_ns), "--min",
				"a time with its unit, as 500ns, 20us, 1.5ms, 1s");
	case OPT_RING:
		return is_value(read_ring(optarg, &r->ring), "--ring",
				"a size from 4K to 4G, as 64K, 16M");
	case OPT_FOR:
		return is_value(tool_read_seconds(optarg, &r->for_ns) && r->for_ns, "--for",
				"a time, as 500ms, 10s");
	case 'p':
		return remote_read_pid("trace", optarg, &r->pid);
	case OPT_SIGNAL:
		r->signal = read_signal(optarg);
		return is_value(r->signal, "--signal", "a signal that can be handled");
	case OPT_FLIGHT:
		return r->is_flight = true;
	case OPT_TOP:
		return r->has_top = true;
	case OPT_ENTRIES:
		return r->entries = true;
	case OPT_KEEP:
		return r->keep_all = true;
	default:
		return false; /* getopt_long() has complained */
	}
}

/* Options that contradict each other. */
static bool fit_together(const struct request *r)
{
	if (r->signal && !r->is_flight)
		tool_complain("trace: --signal saves what --flight keeps, which is not given");
	else if (r->entries && r->min_ns)
		tool_complain("trace: --entries records no durations that --min could look at");
	else if (r->has_top && r->is_flight)
		tool_complain("trace: --top shows all calls, and --flight keeps the last ones");
	else if (r->for_ns && !r->pid)
		tool_complain("trace: --for is for -p");
	else if (r->signal && r->pid)
		tool_complain("trace: --signal is for a command; shunt snapshot saves");
	else
		return true;
	return false;
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
	if (!err && strpbrk(library, " :")) {
		tool_complain("trace: LD_PRELOAD cannot name %s: its path has a space or a colon; "
			      "install Shunt elsewhere",
			      library);
		return -EINVAL;
	}
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
	struct timespec now = {0, 0};

	(void)clock_gettime(CLOCK_REALTIME_COARSE, &now);
	err |= set_number("SHUNT_TRACE_SINCE",
			  (unsigned long long)now.tv_sec * 1000000000u +
				  (unsigned long long)now.tv_nsec,
			  now.tv_sec > 0);
	err |= set_text("SHUNT_TRACE_FILTER", r->filter);
	err |= set_text("SHUNT_TRACE_NOTRACE", r->notrace);
	err |= set_number("SHUNT_TRACE_MIN_NS", r->min_ns, r->min_ns != 0);
	err |= set_number("SHUNT_TRACE_RING", r->ring, r->ring != 0);
	err |= set_number("SHUNT_TRACE_AUTO_OFF", 0, r->keep_all);
	err |= set_number("SHUNT_TRACE_FLIGHT", 1, r->is_flight);
	err |= set_number("SHUNT_TRACE_SIGNAL", (unsigned long long)r->signal, r->signal != 0);
	err |= set_number("SHUNT_TRACE_ENTRIES", 1, r->entries);
	return err ? -errno : 0;
}

static int run_as(const struct request *r, char **file, char **command)
{
	struct trace_run run = {.has_filters = r->filter || r->notrace,
				.has_min = r->min_ns,
				.is_flight = r->is_flight,
				.has_top = r->has_top,
				.keeps = r->file};
	struct trace_place place = {.is_save = r->is_flight};
	char left[32];
	int err = trace_place_take(&place, file), status = EXIT_FAILURE;

	if (err) {
		trace_place_complain(&place, *file, err);
		return EXIT_FAILURE;
	}
	run.place = &place;
	run.file = *file;
	err = trace_words_has_musl(command[0]) ? 0 : preload();
	if (!err)
		err = set_environment(r, *file);
	if (!err)
		status = trace_run(&run, command);
	else if (err != -EINVAL)
		tool_complain("trace: the environment for %s: %s", command[0], strerror(-err));
	(void)trace_place_end(&place, *file, left, sizeof(left));
	return status;
}

/* In files that go with the table. */
static int run_for_top(const struct request *r, char **command)
{
	const char *parent = getenv("TMPDIR");
	char folder[PATH_MAX], *file = NULL;
	int status;

	if (snprintf(folder, sizeof(folder), "%s/shunt-top-XXXXXX",
		     parent && *parent == '/' ? parent : "/tmp") >= (int)sizeof(folder) ||
	    !mkdtemp(folder)) {
		tool_complain("trace: a folder for what is recorded: %s", strerror(errno));
		return EXIT_FAILURE;
	}
	if (asprintf(&file, "%s/trace", folder) < 0) {
		tool_complain("trace: no memory");
		(void)rmdir(folder);
		return EXIT_FAILURE;
	}
	status = run_as(r, &file, command);
	follow_remove(file);
	free(file);
	return status;
}

static int run(const struct request *r, char **command)
{
	const char *wanted = r->file ? r->file : r->has_top ? NULL : "shunt.trace";
	char *file = wanted ? trace_place_absolute(wanted) : NULL;
	int status;

	if (wanted && !file) {
		tool_complain("trace: no memory");
		return EXIT_FAILURE;
	}
	if (r->pid)
		status = remote_trace(&(struct remote_trace){
			r->pid, r->filter, r->notrace, file, r->min_ns, r->ring, r->for_ns,
			r->is_flight, r->entries, r->keep_all, r->has_top});
	else
		status = file ? run_as(r, &file, command) : run_for_top(r, command);
	free(file);
	return status;
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
		{"for", required_argument, NULL, OPT_FOR},
		{"top", no_argument, NULL, OPT_TOP},
		{"help", no_argument, NULL, OPT_HELP},
		{"filter", required_argument, NULL, 'F'},
		{"notrace", required_argument, NULL, 'N'},
		{"output", required_argument, NULL, 'o'},
		{"pid", required_argument, NULL, 'p'},
		{NULL, 0, NULL, 0},
	};
	struct request request = {0};
	int option, status;

	optind = 1;
	while ((option = getopt_long(argc, argv, "+F:N:o:p:h", options, NULL)) != -1) {
		if (option == OPT_HELP || option == 'h') {
			(void)puts("usage: shunt " USAGE);
			return 0;
		}
		if (!take_option(&request, option))
			return EXIT_USAGE;
	}
	if (!fit_together(&request))
		return EXIT_USAGE;
	if (optind != argc && request.pid) {
		tool_complain("trace: -p and a command: %s", argv[optind]);
		return tool_usage(USAGE);
	}
	if (optind == argc && !request.pid) {
		tool_complain("COMMAND is missing");
		return tool_usage(USAGE);
	}
	status = run(&request, argv + optind);
	free(request.filter);
	free(request.notrace);
	return status;
}
