/* SPDX-License-Identifier: MIT */
/*
 * What is at /proc/self/mem is no file of procfs: in a chroot() it is a file with data, a link to
 * one, or one that is empty. A child of fork(), which opens its own, writes nothing to it, and its
 * updates are made by the other writer. Control: it is taken for procfs.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/static_call.h>

#include "../common/one_two.h"
#include "linux/base/descriptor.h"

#include "../api/tap.h"

DEFINE_STATIC_CALL(call, one);

static bool is_believed;

bool __real_shunt_fd_is_proc(int fd);
bool __wrap_shunt_fd_is_proc(int fd);
bool __wrap_shunt_fd_is_proc(int fd)
{
	return is_believed || __real_shunt_fd_is_proc(fd);
}

enum { CANNOT = 77, HAS_GROWN = 42 };

static const char *data = "precious data";
static const char *link_to;

static void make_jail(void)
{
	const char *name = link_to ? "victim" : "proc/self/mem";
	int fd;

	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", "/tmp", "tmpfs", 0, NULL) || chdir("/tmp") || mkdir("proc", 0700) ||
	    mkdir("proc/self", 0700))
		_exit(CANNOT);
	fd = open(name, O_CREAT | O_WRONLY, 0600);
	if (fd < 0 || write(fd, data, strlen(data)) != (ssize_t)strlen(data) || close(fd) ||
	    (link_to && symlink(link_to, "proc/self/mem")) || chroot("/tmp"))
		_exit(CANNOT);
}

static int update(void)
{
	struct stat st;

	if (static_call_update(call, two) || static_call(call)() != 2 ||
	    static_call_update(call, one) || static_call(call)() != 1)
		return 3;
	if (stat(link_to ? "/victim" : "/proc/self/mem", &st))
		return 4;
	return (size_t)st.st_size == strlen(data) ? 0 : HAS_GROWN;
}

/* How a child of a child ended. */
static int in_jail(void)
{
	int status = -1;
	pid_t child = fork();

	if (!child) {
		pid_t copy;

		if (static_call_update(call, two) || static_call_update(call, one))
			_exit(5);
		make_jail();
		copy = fork();
		if (!copy)
			_exit(update());
		if (copy < 0 || waitpid(copy, &status, 0) != copy)
			_exit(6);
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 7);
	}
	if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

static void row(const char *name, int wanted)
{
	int is = in_jail();

	if (is == CANNOT)
		skip(name, "not root, or nothing can be mounted here");
	else
		ok(is == wanted, "%s: %d", name, is);
}

int main(void)
{
	row("a file with data", 0);
	link_to = "../../victim";
	row("a link to one", 0);
	link_to = NULL;
	data = "";
	row("an empty file", 0);
	is_believed = true;
	row("control: an empty file is believed", HAS_GROWN);
	data = "precious data";
	row("control: a file with data is believed", HAS_GROWN);
	return tap_done();
}
