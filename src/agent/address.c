/* SPDX-License-Identifier: MIT */
/*
 * Where the agent's socket is: mode 0600 in a folder of mode 0700 of the same user, in
 * /run/user/UID, or else in /tmp, under one of several names: another user may have taken the
 * first, and so has root the one of a user namespace's root who sees the same /tmp. Clients find it
 * by the descriptors of the process
 * (/proc/PID/fd) and the names of sockets (/proc/PID/net/unix), so its name need only be one
 * that nobody has: also of two processes with one number, in two namespaces that share the folder.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "agent/agent.h"

enum {
	FOLDERS = 8, /* names that are tried; then one that nobody could take before */
	LOOKS_MAX = 4096,
	STALE_MAX = 256, /* at a time */
	STALE_AGE = 10   /* s: younger ones may not listen yet */
};

/* Make the folder @path, or see that it is this user's alone. 0 or -errno; -EPERM and *is_shared:
 * it is not. */
static int check_folder(const char *path, bool *is_shared)
{
	struct stat st;

	if (mkdir(path, 0700) && errno != EEXIST)
		return -errno;
	if (lstat(path, &st))
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return -ENOTDIR;
	*is_shared = st.st_uid != geteuid() || (st.st_mode & 077);
	return *is_shared ? -EPERM : 0;
}

static void name_folder(char *path, size_t size, unsigned n)
{
	unsigned long long random = 0;
	int len = snprintf(path, size, "/tmp/shunt-%u", (unsigned)geteuid());

	if (!n)
		return;
	if (n == FOLDERS)
		(void)!getrandom(&random, sizeof(random), 0);
	(void)snprintf(path + len, size - (size_t)len, n == FOLDERS ? "-%016llx" : "-%llu",
		       n == FOLDERS ? random : n);
}

/* One of those in /tmp: what stands there may be somebody else's, or no folder. */
static int find_temporary(char *path, size_t size, bool *is_shared, bool *is_only)
{
	int err = -EPERM;

	for (unsigned n = 0; n <= FOLDERS; n++) {
		*is_shared = false;
		name_folder(path, size, n);
		err = check_folder(path, is_shared);
		*is_only = !err && n == FOLDERS;
#ifdef AGENT_ONE_FOLDER /* the tests' control */
		break;
#endif
		if (!*is_shared && err != -ENOTDIR)
			break;
	}
	return err;
}

/*
 * A folder for it, in @path. As check_folder(), and then @path is the one that failed last.
 * *is_only: it is for this socket alone.
 */
static int find_folder(char *path, size_t size, bool *is_shared, bool *is_only)
{
	struct stat st;

	(void)snprintf(path, size, "/run/user/%u", (unsigned)geteuid());
	if (!lstat(path, &st) && S_ISDIR(st.st_mode) && st.st_uid == geteuid()) {
		(void)snprintf(path, size, "/run/user/%u/shunt", (unsigned)geteuid());
		if (!check_folder(path, is_shared))
			return 0;
	}
	return find_temporary(path, size, is_shared, is_only);
}

static int connect_to(const struct sockaddr_un *to)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), err = 0;

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)to, sizeof(*to)))
		err = -errno;
	(void)close(fd);
	return err;
}

static bool is_old(const char *path)
{
	struct stat st;

	return !lstat(path, &st) && time(NULL) - st.st_mtime > STALE_AGE;
}

/*
 * Whether the process that @name is of may have left it: it is gone, as far as can be seen from
 * this namespace, or is this one, which has executed another program since. Those of others that
 * live are not woken up.
 */
static bool may_be_left(const char *name)
{
	char *end;
	long pid = strtol(name, &end, 10);

	if (end == name || *end != '-' || pid <= 0 || pid > 0x3fffffff)
		return false;
	return pid == getpid() || (kill((pid_t)pid, 0) && errno == ESRCH);
}

/* Whether nobody listens there: a process of another namespace may. */
static bool is_stale(const char *path)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int len = snprintf(to.sun_path, sizeof(to.sun_path), "%s", path);

	return len < (int)sizeof(to.sun_path) && is_old(path) && connect_to(&to) == -ECONNREFUSED;
}

static bool remove_if_stale(const char *folder, const char *name, const char *own)
{
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	int len = snprintf(path, sizeof(path), "%s/%s", folder, name);

	if (len >= (int)sizeof(path) || !may_be_left(name) || !strcmp(path, own))
		return false;
	if (is_stale(path))
		(void)unlink(path);
	return true;
}

/* Without opendir(), which takes memory of malloc(). */
void agent_remove_stale(const char *folder, const char *own)
{
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	unsigned looks = 0, n = 0;
	char entries[2048] __attribute__((aligned(8)));
	ssize_t size = 1;

	while (fd >= 0 && size > 0 && looks < LOOKS_MAX && n < STALE_MAX) {
		size = getdents64(fd, entries, sizeof(entries));
		for (ssize_t at = 0; at < size; looks++) {
			const struct dirent64 *entry = (const void *)(entries + at);

			n += remove_if_stale(folder, entry->d_name, own);
			at += entry->d_reclen;
		}
	}
	if (fd >= 0)
		(void)close(fd);
}

static int bind_in(const char *folder, int fd, struct agent_address *address)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	(void)snprintf(to.sun_path, sizeof(to.sun_path), "%s/%d-%llx", folder, (int)getpid(),
		       (unsigned long long)now.tv_sec * 1000000000u +
			       (unsigned long long)now.tv_nsec);
	(void)snprintf(address->path, sizeof(address->path), "%s", to.sun_path);
	/* The folder keeps others out; the mode is for those who look. */
	if (bind(fd, (const struct sockaddr *)&to, sizeof(to)) || chmod(to.sun_path, 0600) ||
	    listen(fd, AGENT_CLIENTS))
		return -errno;
	return 0;
}

static int open_socket(const char *folder, struct agent_address *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int err = fd < 0 ? -errno : agent_keep(&address->socket, fd);

	if (err)
		return err;
	err = bind_in(folder, address->socket.fd, address);
	if (err)
		agent_close(&address->socket);
	return err;
}

/* Its file goes, and can be reached by a descriptor of ours: where clients may see those. */
static void hide_file(struct agent_address *address)
{
	int fd = prctl(PR_GET_DUMPABLE) == 1 ? open(address->path, O_PATH | O_NOFOLLOW | O_CLOEXEC)
					     : -1;

#ifdef AGENT_KEEPS_FILES /* the tests' control */
	(void)close(fd);
	return;
#endif
	if (fd >= 0 && !agent_keep(&address->file, fd))
		agent_remove_address(address);
}

void agent_remove_address(const struct agent_address *address)
{
	char folder[sizeof(address->path)];
	char *slash;

	(void)unlink(address->path);
	(void)snprintf(folder, sizeof(folder), "%s", address->path);
	slash = strrchr(folder, '/');
	if (!address->has_folder || !slash)
		return;
	*slash = '\0';
	(void)rmdir(folder);
}

void agent_unlisten(struct agent_address *address)
{
	if (address->file.fd < 0 && address->path[0])
		agent_remove_address(address);
	agent_close(&address->file);
	agent_close(&address->socket);
}

int agent_listen(struct agent_address *address, bool is_child, char *message, size_t size)
{
	char folder[64];
	bool is_shared = false, is_only = false;
	int err = find_folder(folder, sizeof(folder), &is_shared, &is_only);

	address->file.fd = -1;
	address->has_folder = is_only;
	if (!err) {
		agent_remove_stale(folder, "");
		err = open_socket(folder, address);
	}
	if (err && is_only)
		(void)rmdir(folder);
	if (!err && is_child)
		hide_file(address);
	if (err)
		(void)snprintf(message, size, "agent: the socket in %s: %s", folder,
			       is_shared ? "it is not this user's alone" : strerror(-err));
	return err;
}
