/* SPDX-License-Identifier: MIT */
/*
 * `shunt bake`: the command line, and the replacing of the file. The baked image goes
 * to a temporary file beside the old one, with its owner, mode and extended
 * attributes; only when it is safely on the disk it takes the old one's place. So
 * whoever runs or maps the old file keeps it, and no failure leaves half a file.
 */
#include "bake.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "options.h"
#include "shunt.h"
#include "write_all.h"

#define USAGE                                                                             \
	"bake [-o OUT] FILE\n"                                                            \
	"Put a table of FILE's static calls into it, direct calls into the sites, and\n"  \
	"drop the relocations that the linker kept; and make five nops at a function's\n" \
	"entry (-fpatchable-function-entry=5) one. FILE is replaced, or OUT written.\n"   \
	"\n"                                                                              \
	"example:\n"                                                                      \
	"  shunt bake -o program.baked program && shunt sites program.baked"

/* What became of the step that failed, for the message. */
struct failure {
	const char *step;
	int error; /* errno */
};

static int fail(struct failure *failure, const char *step)
{
	failure->step = step;
	failure->error = errno;
	return -1;
}

/* Capabilities, labels and the like. An attribute that this file system refuses is an error. */
static int copy_attributes(int from, int to)
{
	char names[65536], value[65536];
	ssize_t n = flistxattr(from, names, sizeof(names));

	if (n < 0)
		return errno == ENOTSUP ? 0 : -1;
	for (const char *name = names; name < names + n; name += strlen(name) + 1) {
		ssize_t len = fgetxattr(from, name, value, sizeof(value));

		/* The kernel labels a new file itself, and may forbid to relabel it. */
		if (len < 0 || (fsetxattr(to, name, value, (size_t)len, 0) &&
				strcmp(name, "security.selinux") != 0))
			return -1;
	}
	return 0;
}

/* Give @fd what the file @source has; the owner before the mode, which chown() curtails. */
static int copy_properties(int fd, const char *source, bool keep_owner, struct failure *failure)
{
	int from = open(source, O_RDONLY | O_CLOEXEC), ret = 0;
	struct stat st;

	if (from < 0)
		return fail(failure, "open");
	if (fstat(from, &st))
		ret = fail(failure, "fstat");
	else if (keep_owner && fchown(fd, st.st_uid, st.st_gid))
		ret = fail(failure, "keep the owner");
	else if (fchmod(fd, st.st_mode & (keep_owner ? 07777 : 0777)))
		ret = fail(failure, "keep the mode");
	else if (keep_owner && copy_attributes(from, fd))
		ret = fail(failure, "keep the extended attributes");
	(void)close(from);
	return ret;
}

/* Make the rename last. A directory that cannot be opened or synced is no failure. */
static void sync_directory(const char *path)
{
	char dir[PATH_MAX];
	char *slash;
	int fd;

	(void)snprintf(dir, sizeof(dir), "%s", path);
	slash = strrchr(dir, '/');
	if (slash)
		slash[1] = '\0';
	fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	(void)fsync(fd);
	(void)close(fd);
}

struct output {
	const char *path;   /* to be replaced or made */
	const char *source; /* the file whose mode and, if it is replaced, owner are kept */
	const struct stat *source_stat; /* @source as it was read */
	const void *image;
	size_t size;
	const struct bake_result *result; /* what is said of it */
};

/* Whether @source is still the file that was read: another writer must not lose his. */
static bool is_unchanged(const struct output *o)
{
	struct stat now;

	return !stat(o->source, &now) && now.st_dev == o->source_stat->st_dev &&
	       now.st_ino == o->source_stat->st_ino && now.st_size == o->source_stat->st_size &&
	       now.st_mtim.tv_sec == o->source_stat->st_mtim.tv_sec &&
	       now.st_mtim.tv_nsec == o->source_stat->st_mtim.tv_nsec;
}

/* Say why sites have not got the direct call. */
static void show_not_direct(const char *path, size_t n, const char *why)
{
	if (n)
		(void)printf("%s: %zu site%s %s: bound when loaded, on the trampoline until the "
			     "process's first update\n",
			     path, n, tool_plural(n), why);
}

/* Say what is done. */
static int show(const struct output *o, struct failure *failure)
{
	const struct bake_result *result = o->result;
	size_t links = (size_t)o->source_stat->st_nlink;

	if (result->entries)
		(void)printf("%s: %zu function%s with five nops at the entry: now one\n", o->path,
			     result->entries, tool_plural(result->entries));
	(void)printf("%s: %zu site%s of %zu key%s, %zu with the direct call; %zu bytes, were %zu\n",
		     o->path, result->sites, tool_plural(result->sites), result->keys,
		     tool_plural(result->keys), result->direct, o->size,
		     (size_t)o->source_stat->st_size);
	show_not_direct(o->path, result->interposable, "may be interposed");
	show_not_direct(o->path, result->foreign, "may go to another module");
	show_not_direct(o->path, result->far, "out of reach of the target");
	show_not_direct(o->path, result->at_run_time, "may go to a function made at run time");
	if (result->refs)
		(void)printf("%s: %zu reference%s that %s no site%s: on the trampoline for good "
			     "(shunt sites --check)\n",
			     o->path, result->refs, tool_plural(result->refs),
			     result->refs == 1 ? "is" : "are", tool_plural(result->refs));
	if (result->branches)
		(void)printf("%s: %zu static branch%s that %s no site%s: never changed "
			     "(shunt sites --check)\n",
			     o->path, result->branches, result->branches == 1 ? "" : "es",
			     result->branches == 1 ? "is" : "are", tool_plural(result->branches));
	if (!strcmp(o->path, o->source) && links > 1)
		(void)printf("%s: %lu other name%s (hard link%s), with the file as it was\n",
			     o->path, (unsigned long)links - 1, tool_plural(links - 1),
			     tool_plural(links - 1));
	if (!fflush(stdout) && !ferror(stdout))
		return 0;
	(void)fail(failure, "write to standard output");
	__fpurge(stdout); /* it is said once */
	clearerr(stdout);
	return -1;
}

/*
 * Put @temporary in the place of the file, and say so. Where it cannot be said the file is as it
 * was again; @temporary is to be removed, whatever this returns.
 */
static int put_in_place(const char *temporary, const struct output *o, struct failure *failure)
{
	bool replaces = !access(o->path, F_OK);
	unsigned how = replaces ? RENAME_EXCHANGE : RENAME_NOREPLACE;

	if (renameat2(AT_FDCWD, temporary, AT_FDCWD, o->path, how)) {
		/* A file system that cannot exchange two files: there it is said before. */
		if (errno != EINVAL && errno != ENOSYS)
			return fail(failure, "rename");
		if (show(o, failure))
			return -1;
		return rename(temporary, o->path) ? fail(failure, "rename") : 0;
	}
	if (!show(o, failure))
		return 0;
	(void)renameat2(AT_FDCWD, o->path, AT_FDCWD, temporary, how);
	return -1;
}

static int fill(int fd, const char *temporary, const struct output *o, struct failure *failure)
{
	if (write_all(fd, o->image, o->size))
		return fail(failure, "write");
	if (copy_properties(fd, o->source, !strcmp(o->path, o->source), failure))
		return -1;
	if (fsync(fd))
		return fail(failure, "fsync");
	if (!is_unchanged(o)) {
		errno = EBUSY;
		return fail(failure, "it changed meanwhile");
	}
	return put_in_place(temporary, o, failure);
}

/* Make a file of the first @len bytes of @path, and @suffix; its name is then in @temporary. */
static int make_file(const char *path, size_t len, const char *suffix, char temporary[PATH_MAX])
{
	int n = snprintf(temporary, PATH_MAX, "%.*s%s", (int)len, path, suffix);

	if (n >= 0 && n < PATH_MAX)
		return mkostemp(temporary, O_CLOEXEC);
	errno = ENAMETOOLONG;
	return -1;
}

/* A file beside @path: PATH.XXXXXX, or where that is too long a name another one. */
static int make_temporary(const char *path, char temporary[PATH_MAX])
{
	const char *slash = strrchr(path, '/');
	int fd = make_file(path, strlen(path), ".XXXXXX", temporary);

	if (fd >= 0 || errno != ENAMETOOLONG)
		return fd;
	return make_file(path, slash ? (size_t)(slash + 1 - path) : 0, "bake.XXXXXX", temporary);
}

static int replace_by_temporary(const struct output *o, struct failure *failure)
{
	char temporary[PATH_MAX];
	int fd = make_temporary(o->path, temporary), ret;

	if (fd < 0)
		return fail(failure, "make a temporary file beside it");
	ret = fill(fd, temporary, o, failure);
	/* Not there where it has been renamed; else it, or what it has taken the place of. */
	(void)unlink(temporary);
	if (!ret)
		sync_directory(o->path);
	(void)close(fd);
	return ret;
}

/*
 * Signals that would end us wait until the temporary file is gone or in its place. That a file
 * may not be as long (SIGXFSZ) is an error of write() like others.
 */
static int replace(const struct output *o, struct failure *failure)
{
	sigset_t all, before;
	int ret;

	(void)signal(SIGXFSZ, SIG_IGN);
	(void)sigfillset(&all);
	(void)sigprocmask(SIG_BLOCK, &all, &before);
	ret = replace_by_temporary(o, failure);
	(void)sigprocmask(SIG_SETMASK, &before, NULL);
	return ret;
}

/* ---------------------------------------------------------------------- the command */

static int bake(const char *path, const char *out_path)
{
	struct output o = {.path = out_path ? out_path : path, .source = path};
	struct bake_result result;
	struct failure failure;
	struct stat was, out_st;
	size_t in_size = 0, size = 0;
	void *in = NULL, *image;
	int ret;

	if (!stat(o.path, &out_st) && !S_ISREG(out_st.st_mode)) {
		tool_complain("%s: not a regular file", o.path);
		return 1;
	}
	ret = stat(path, &was) ? -errno : tool_read_file(path, &in, &in_size);
	if (ret) {
		tool_complain("%s: %s", path, tool_why(ret, NULL));
		return 1;
	}
	ret = shunt_bake(in, in_size, &image, &size, &result);
	free(in);
	if (ret == -EALREADY && !out_path) {
		(void)printf("%s: baked already\n", path);
		return 0;
	}
	if (ret) {
		tool_complain("%s: %s%s", path, tool_why(ret, result.why),
			      ret == -ENODATA && !result.nothing
				      ? "; relink with -Wl,--emit-relocs, and bake before stripping"
				      : "");
		return 1;
	}
	o.source_stat = &was;
	o.image = image;
	o.size = size;
	o.result = &result;
	ret = replace(&o, &failure);
	if (ret)
		tool_complain("%s: %s: %s", o.path, failure.step, strerror(failure.error));
	free(image);
	return ret ? 1 : 0;
}

/*
 * Put what the symbolic link @path leads to into @to, of PATH_MAX bytes; false: it is none. What it
 * says counts from its own folder.
 */
static bool follow(const char *path, char *to)
{
	const char *slash = strrchr(path, '/');
	char link[PATH_MAX];
	ssize_t len = readlink(path, link, sizeof(link) - 1);
	int n;

	if (len < 0)
		return false;
	link[len] = '\0';
	n = snprintf(to, PATH_MAX, "%.*s%s", link[0] != '/' && slash ? (int)(slash + 1 - path) : 0,
		     path, link);
	return n >= 0 && n < PATH_MAX;
}

/*
 * A symlink stays, and what it points to is baked, or made if it is not there yet. A path that is
 * none, and is not there, is as given.
 */
static const char *resolve(const char *path, char *buf)
{
	char next[PATH_MAX];

	if (!path || realpath(path, buf))
		return path ? buf : NULL;
	if (errno != ENOENT || !follow(path, buf))
		return path;
	for (int i = 0; i < 40 && follow(buf, next); i++)
		(void)snprintf(buf, PATH_MAX, "%s", next);
	return buf;
}

int cmd_bake(int argc, char **argv)
{
	static char path_buf[PATH_MAX], out_buf[PATH_MAX];
	const char *out = NULL, *path;
	const struct tool_option options[] = {{"output", 'o', tool_parse_text, &out}, {0}};
	int status;

	path = tool_parse(argc, argv, USAGE, options, &status);
	if (!path)
		return status;
	out = resolve(out, out_buf);
	path = resolve(path, path_buf);
	/* -o FILE itself is the same as none. */
	return bake(path, out && !strcmp(out, path) ? NULL : out);
}
