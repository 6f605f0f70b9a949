/* SPDX-License-Identifier: MIT */
/* `shunt export`: a recorded session in the formats of other programs. */
#include "export.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef SHUNT_HAVE_ZLIB
#include <zlib.h>
#endif

#include "options.h"
#include "shunt.h"
#include "trace_view.h"

#define USAGE                                                                                   \
	"export --chrome|--perfetto|--folded|--callgrind|--flame [--tid TID] [-o OUT] [FILE]\n" \
	"Write the recorded session in FILE (shunt.trace) in another format, to OUT or to "     \
	"standard output;\n"                                                                    \
	"compressed where OUT ends in .gz.\n"                                                   \
	"\n"                                                                                    \
	"      --chrome     Chrome's trace events (JSON): Perfetto, speedscope, "               \
	"chrome://tracing\n"                                                                    \
	"      --perfetto   Perfetto's own format\n"                                            \
	"      --folded     folded stacks, with the nanoseconds of each: flamegraph.pl, "       \
	"speedscope\n"                                                                          \
	"      --callgrind  callgrind_annotate, KCachegrind\n"                                  \
	"      --flame      a flame graph: a page of HTML that needs nothing else\n"            \
	"      --tid TID    this thread alone\n"                                                \
	"  -o, --output OUT\n"                                                                  \
	"\n"                                                                                    \
	"examples:\n"                                                                           \
	"  shunt export --flame -o flame.html out.trace\n"                                      \
	"  shunt export --chrome -o out.json.gz out.trace"

#ifndef SHUNT_HAVE_PROTOBUF_C
int export_perfetto(struct export *e)
{
	(void)e;
	tool_complain("--perfetto: built without protobuf-c");
	return -1;
}
#endif

static const struct format {
	const char *name;
	int (*write)(struct export *e);
	bool binary, needs_times;
} formats[] = {
	{"chrome", export_chrome, false, false}, {"perfetto", export_perfetto, true, false},
	{"folded", export_folded, false, true},  {"callgrind", export_callgrind, false, true},
	{"flame", export_flame, false, true},
};
#define FORMATS (sizeof(formats) / sizeof(formats[0]))

#ifdef SHUNT_HAVE_ZLIB
static ssize_t write_gz(void *cookie, const char *buf, size_t size)
{
	int n = gzwrite(cookie, buf, (unsigned int)size);

	/* Of fopencookie(): 0 is an error. */
	return n;
}

static int close_gz(void *cookie)
{
	int ret = gzclose(cookie);

	if (ret != Z_OK && ret != Z_ERRNO)
		errno = EIO;
	return ret == Z_OK ? 0 : EOF;
}

static FILE *open_gz(const char *path)
{
	const cookie_io_functions_t functions = {.write = write_gz, .close = close_gz};
	gzFile gz = gzopen(path, "wbe");
	FILE *out = gz ? fopencookie(gz, "w", functions) : NULL;

	if (gz && !out)
		(void)gzclose(gz);
	return out;
}
#else
static FILE *open_gz(const char *path)
{
	(void)path;
	errno = ENOSYS;
	return NULL;
}
#endif

static bool ends_in_gz(const char *path)
{
	size_t n = strlen(path);

	return n > 3 && !strcmp(path + n - 3, ".gz");
}

/* Whether both are the same file. */
static bool same_file(int fd, const char *path)
{
	struct stat a, b;

	return !fstat(fd, &a) && !stat(path, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* A file that is not whole is not left. */
static void remove_output(const char *path)
{
	struct stat st;

	if (!lstat(path, &st) && S_ISREG(st.st_mode))
		(void)unlink(path);
}

/* Of entries alone there are no times, nor who called whom. */
static int check_times(const struct trace_file *f, const struct format *format)
{
	if (!format->needs_times || !(f->session.flags & TRACE_ENTRY_ONLY))
		return 0;
	tool_complain("%s: recorded with --entries: it has no times, and --%s consists of them; "
		      "--chrome and --perfetto show the entries",
		      f->path, format->name);
	return -1;
}

static int write_to(struct export *e, const struct format *format, const char *path)
{
	int ret;

	if (!path) {
		e->out = stdout;
		return format->write(e);
	}
	if (same_file(e->f->fd, path)) {
		tool_complain("%s: is the session itself", path);
		return -1;
	}
	e->out = ends_in_gz(path) ? open_gz(path) : fopen(path, "we");
	if (!e->out) {
		tool_complain("%s: %s", path, strerror(errno));
		return -1;
	}
	ret = format->write(e);
	if (!ret && (fflush(e->out) || ferror(e->out))) {
		tool_complain("%s: %s", path, strerror(errno));
		ret = -1;
	}
	if (fclose(e->out) && !ret) {
		tool_complain("%s: %s", path, strerror(errno));
		ret = -1;
	}
	if (ret)
		remove_output(path);
	return ret;
}

/* The one that is chosen; NULL: none, or several, which is said. */
static const struct format *only(const bool chosen[FORMATS])
{
	const struct format *format = NULL;

	for (size_t i = 0; i < FORMATS; i++) {
		if (chosen[i] && format) {
			tool_complain("one format only");
			return NULL;
		}
		if (chosen[i])
			format = &formats[i];
	}
	if (!format)
		tool_complain("the format is missing");
	return format;
}

int cmd_export(int argc, char **argv)
{
	bool chosen[FORMATS] = {false};
	const char *out = NULL, *path;
	struct trace_file f;
	struct export e = {.f = &f};
	struct tool_option options[FORMATS + 3] = {{"tid", 0, tool_parse_tid, &e.tid},
						   {"output", 'o', tool_parse_text, &out}};
	const struct format *format;
	int status;

	for (size_t i = 0; i < FORMATS; i++)
		options[2 + i] = (struct tool_option){formats[i].name, 0, NULL, &chosen[i]};
	path = tool_parse_or(argc, argv, USAGE, options, TRACE_FILE, &status);
	if (!path)
		return status;
	format = only(chosen);
	if (!format)
		return tool_usage(USAGE);
	if (format->binary && !out && isatty(STDOUT_FILENO)) {
		tool_complain("not to a terminal: give --output");
		return EXIT_USAGE;
	}
	status = trace_open(&f, path);
	if (!status)
		status = check_times(&f, format);
	if (!status)
		status = write_to(&e, format, out);
	if (!status) {
		trace_say_open(&f);
		trace_say_lossy(&f);
		trace_say_no_return(&f);
	}
	trace_close(&f);
	return status ? 1 : 0;
}
