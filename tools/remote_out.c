/* SPDX-License-Identifier: MIT */
#include "remote_out.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "interrupt.h"
#include "shunt.h"

enum { READER_MS = 20 }; /* between two looks whether a pipe has a reader */

static int complain(const struct remote_out *out, const char *path, int error)
{
	tool_complain("%s: %s: %s", out->command, path, strerror(error));
	return -1;
}

/* In $TMPDIR, or /tmp. A descriptor or -errno. */
static int open_unnamed(void)
{
	const char *folder = getenv("TMPDIR");
	char name[PATH_MAX];
	int fd;

	if (!folder || !*folder)
		folder = "/tmp";
	fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd >= 0)
		return fd;
	/* A file system that has no such files. */
	if (snprintf(name, sizeof(name), "%s/shunt-XXXXXX", folder) >= (int)sizeof(name))
		return -ENAMETOOLONG;
	fd = mkostemp(name, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	(void)unlink(name);
	return fd;
}

int remote_out_open_unnamed(struct remote_out *out, const char *command)
{
	*out = (struct remote_out){.command = command, .path = "a temporary file", .copy_to = -1};
	out->fd = open_unnamed();
	return out->fd < 0 ? complain(out, out->path, -out->fd) : 0;
}

/* A file beside the one that is wanted. 0 or -errno. */
static int open_beside(struct remote_out *out, const struct stat *old)
{
	if (asprintf(&out->temporary, "%s.new-%d", out->final, (int)getpid()) < 0) {
		out->temporary = NULL;
		return -ENOMEM;
	}
	out->fd = open(out->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (out->fd >= 0) {
		if (old) /* as it was, where that can be had */
			(void)!fchmod(out->fd, old->st_mode & 0777);
		return 0;
	}
	free(out->temporary);
	out->temporary = NULL;
	return -errno;
}

/* A pipe without a reader is waited for, as ever. A descriptor or -errno. */
static int open_pipe(const char *path)
{
	int fd;

	while ((fd = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK)) < 0) {
		if (errno != ENXIO)
			return -errno;
		if (interrupt_wait(-1, 0, READER_MS) == -EINTR)
			return -EINTR;
	}
	(void)fcntl(fd, F_SETFL, 0);
	return fd;
}

static int open_copied(struct remote_out *out, bool is_pipe)
{
	out->copy_to =
		is_pipe ? open_pipe(out->path) : open(out->path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	if (out->copy_to < 0)
		return is_pipe ? out->copy_to : -errno;
	out->fd = open_unnamed();
	return out->fd < 0 ? out->fd : 0;
}

enum { LINKS_MAX = 40 }; /* as the kernel has it */

/* @path, or where the link there leads to, whether or not that is there. NULL: see errno. */
static char *follow_links(const char *path)
{
	char *at = strdup(path);

	for (int links = 0; at; links++) {
		char to[PATH_MAX], *next = NULL, *slash = strrchr(at, '/');
		ssize_t n = readlink(at, to, sizeof(to) - 1);

		if (n < 0)
			return at;
		to[n] = '\0';
		if (links == LINKS_MAX)
			errno = ELOOP;
		else if (to[0] == '/' || !slash)
			next = strdup(to);
		else if (asprintf(&next, "%.*s/%s", (int)(slash - at), at, to) < 0)
			next = NULL;
		free(at);
		at = next;
	}
	return NULL;
}

/* Of a link, what it leads to, if that is the file (/dev/stdout may lead to one without a name). */
static char *final_name(const char *path, const struct stat *st)
{
	char *to = st ? realpath(path, NULL) : NULL;
	struct stat found;

	if (to && !stat(to, &found) && found.st_ino == st->st_ino && found.st_dev == st->st_dev)
		return to;
	free(to);
	return st ? strdup(path) : follow_links(path);
}

static int open_both(struct remote_out *out)
{
	struct stat st;
	bool is_there = !stat(out->path, &st);
	int err;

	if (is_there)
		out->earlier = st;

	if (is_there && !S_ISREG(st.st_mode))
		return open_copied(out, S_ISFIFO(st.st_mode));
	if (is_there && access(out->path, W_OK))
		return -errno;
	out->final = final_name(out->path, is_there ? &st : NULL);
	if (!out->final)
		return -errno;
	err = open_beside(out, is_there ? &st : NULL);
	return is_there && (err == -EACCES || err == -EPERM || err == -EROFS)
		       ? open_copied(out, false)
		       : err;
}

int remote_out_open(struct remote_out *out, const char *command, const char *path)
{
	int err;

	*out = (struct remote_out){.command = command, .path = path, .fd = -1, .copy_to = -1};
	err = open_both(out);
	if (!err)
		return 0;
	(void)complain(out, path, -err);
	remote_out_discard(out);
	return -1;
}

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Whether others have written to what was there, or have put something there. */
static bool has_changed(const struct remote_out *out)
{
	const struct stat *then = &out->earlier;
	struct stat now;

	if (stat(out->final, &now))
		return false;
	return !is_same(then, &now) || then->st_size != now.st_size ||
	       then->st_mtim.tv_sec != now.st_mtim.tv_sec ||
	       then->st_mtim.tv_nsec != now.st_mtim.tv_nsec;
}

int remote_out_take_place(struct remote_out *out)
{
	if (!out->temporary)
		return 0;
	if (out->is_guarded && has_changed(out)) {
		tool_complain("%s: %s: others have written to it meanwhile; what is recorded is "
			      "in %s",
			      out->command, out->path, out->temporary);
		free(out->temporary);
		out->temporary = NULL;
		return -1;
	}
	if (rename(out->temporary, out->final))
		return complain(out, out->path, errno);
	free(out->temporary);
	out->temporary = NULL;
	return 0;
}

int remote_out_take_place_of_aside(struct remote_out *out)
{
	if (out->temporary && S_ISREG(out->earlier.st_mode) && !has_changed(out) &&
	    asprintf(&out->aside, "%s.earlier-%d", out->final, (int)getpid()) < 0)
		out->aside = NULL;
	/* Not a name that is too long. */
	if (out->aside && rename(out->final, out->aside)) {
		free(out->aside);
		out->aside = NULL;
	}
	if (!remote_out_take_place(out))
		return 0;
	if (out->aside)
		(void)rename(out->aside, out->final);
	free(out->aside);
	out->aside = NULL;
	return -1;
}

void remote_out_settle(struct remote_out *out)
{
	if (out->aside)
		(void)unlink(out->aside);
	free(out->aside);
	out->aside = NULL;
}

bool remote_out_is_there(const struct remote_out *out)
{
	struct stat ours, there;

	if (!out->final || out->copy_to >= 0)
		return true;
	return !fstat(out->fd, &ours) && !stat(out->final, &there) && is_same(&ours, &there);
}

void remote_out_keep_earlier(struct remote_out *out)
{
	out->keeps_earlier = true;
	if (out->aside)
		(void)rename(out->aside, out->final);
	free(out->aside);
	out->aside = NULL;
	if (out->temporary)
		(void)unlink(out->temporary);
	free(out->temporary);
	out->temporary = NULL;
}

int remote_out_copy(int from, long long *offset, int to)
{
	static char block[1 << 16];

	for (;;) {
		ssize_t n = pread(from, block, sizeof(block), *offset);
		int err;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : 0;
		err = interrupt_write(to, block, (size_t)n);
		if (err)
			return err;
		*offset += n;
	}
}

static void close_all(struct remote_out *out)
{
	if (out->fd >= 0)
		(void)close(out->fd);
	if (out->copy_to >= 0)
		(void)close(out->copy_to);
	out->fd = out->copy_to = -1;
	free(out->temporary);
	free(out->final);
	out->temporary = out->final = NULL;
}

/* Of a regular file what it held goes now. */
static int copy_out(const struct remote_out *out)
{
	long long offset = 0;
	struct stat st;

	if (!fstat(out->copy_to, &st) && S_ISREG(st.st_mode) && ftruncate(out->copy_to, 0))
		return -errno;
	return remote_out_copy(out->fd, &offset, out->copy_to);
}

int remote_out_finish(struct remote_out *out)
{
	int err = out->copy_to >= 0 && !out->keeps_earlier ? copy_out(out) : 0;

	if (err)
		(void)complain(out, out->path, -err);
	close_all(out);
	return err ? -1 : 0;
}

void remote_out_discard(struct remote_out *out)
{
	if (out->temporary)
		(void)unlink(out->temporary);
	close_all(out);
}
