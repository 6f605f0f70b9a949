/* SPDX-License-Identifier: MIT */
/*
 * The socket of a process's agent is found by the descriptors of the process and the names of the
 * sockets in its network namespace, so that nothing need be registered anywhere.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "proc_status.h"
#include "remote.h"

enum { SOCKETS_MAX = 65536 /* descriptors of a process that are looked at */ };

/* The process's number as it sees itself; @pid where the kernel does not say. */
static pid_t inner_pid(pid_t pid)
{
	struct proc_status status;

	return !proc_status_read(pid, &status) && status.inner_tid ? status.inner_tid : pid;
}

/* Whether @path is the name that the agent of the process that calls itself @pid gives. */
static bool is_agents_name(const char *path, pid_t pid)
{
	const char *file = strrchr(path, '/');
	char *end;

	if (!file || !strstr(path, "/shunt"))
		return false;
	return strtol(file + 1, &end, 10) == pid && *end == '-';
}

/* Whether descriptor @name of the process, whose descriptors are in @dir, is socket @inode. */
static bool is_socket(int dir, const char *name, uint64_t inode)
{
	char target[64], wanted[64];
	ssize_t n = readlinkat(dir, name, target, sizeof(target) - 1);

	(void)snprintf(wanted, sizeof(wanted), "socket:[%" PRIu64 "]", inode);
	target[n > 0 ? n : 0] = '\0';
	return !strcmp(target, wanted);
}

/* Whether process @pid has socket @inode. Where its descriptors cannot be read: by the name. */
static bool has_socket(pid_t pid, uint64_t inode)
{
	const struct dirent *entry;
	bool found = false;
	char path[64];
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)remote_thread(pid));
	dir = opendir(path);
	if (!dir)
		return errno == EACCES || errno == EPERM;
	for (unsigned n = 0; !found && n < SOCKETS_MAX && (entry = readdir(dir)); n++)
		found = is_socket(dirfd(dir), entry->d_name, inode);
	(void)closedir(dir);
	return found;
}

/* One line of /proc/PID/net/unix: the inode and name of a socket that listens. */
static bool read_socket(const char *line, uint64_t *inode, char *path)
{
	unsigned flags;

	/* NOLINTNEXTLINE(cert-err34-c): numbers of the kernel's */
	return sscanf(line, "%*x: %*x %*x %x %*x %*x %" SCNu64 " %107s", &flags, inode, path) ==
		       3 &&
	       flags & 0x10000 && path[0] == '/';
}

/* In the network namespace of thread @tid. */
static int find_in(pid_t tid, pid_t pid, char *path)
{
	char name[64], *line = NULL;
	pid_t inner = inner_pid(pid);
	size_t room = 0;
	int err = -ENOENT;
	uint64_t inode;
	FILE *file;

	(void)snprintf(name, sizeof(name), "/proc/%d/net/unix", (int)tid);
	file = fopen(name, "re");
	if (!file)
		return errno == ENOENT || errno == EINVAL ? -ESRCH : -errno;
	while (err && getline(&line, &room, file) > 0)
		if (read_socket(line, &inode, path) && is_agents_name(path, inner) &&
		    has_socket(pid, inode))
			err = 0;
	free(line);
	(void)fclose(file);
	return err;
}

int remote_find(pid_t pid, char *path)
{
	int err = find_in(remote_thread(pid), pid, path);
	pid_t agent = err == -ENOENT ? remote_agent_thread(pid) : 0;

	return agent && !find_in(agent, pid, path) ? 0 : err;
}

/* Whether descriptor @name in @dir holds the file of the socket that was bound to @path, which is
 * gone. */
static bool holds_file(int dir, const char *name, const char *path)
{
	char target[4200];
	ssize_t n = readlinkat(dir, name, target, sizeof(target) - 1);
	const char *file = strrchr(path, '/'), *found;
	static const char gone[] = " (deleted)";

	target[n > 0 ? n : 0] = '\0';
	found = strrchr(target, '/');
	return file && found && !strncmp(found, file, strlen(file)) &&
	       !strcmp(found + strlen(file), gone);
}

int remote_find_hidden(pid_t pid, const char *path, char *by_descriptor)
{
	const struct dirent *entry;
	int err = -ENOENT;
	char folder[64];
	DIR *dir;

	(void)snprintf(folder, sizeof(folder), "/proc/%d/fd", (int)remote_thread(pid));
	dir = opendir(folder);
	if (!dir)
		return -errno;
	for (unsigned n = 0; err && n < SOCKETS_MAX && (entry = readdir(dir)); n++)
		if (holds_file(dirfd(dir), entry->d_name, path) &&
		    snprintf(by_descriptor, REMOTE_PATH, "%s/%s", folder, entry->d_name) <
			    REMOTE_PATH)
			err = 0;
	(void)closedir(dir);
	return err;
}

/* --------------------------------------------------------------------- connecting */

/* How a process's agent is connected to. */
struct way {
	pid_t pid;
	unsigned ms;
	bool is_as_owner; /* of the socket */
};

/* Who listens there is @pid, as far as that can be seen from this process's namespace. */
static bool is_its_socket(int fd, pid_t pid)
{
	struct ucred peer = {0};
	socklen_t size = sizeof(peer);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) &&
	       (!peer.pid || peer.pid == pid);
}

/* A limit for each system call, for connect() too, which waits for a place in the backlog. */
int remote_set_patience(int fd, unsigned ms)
{
	struct timeval patience = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)))
		return -errno;
	return 0;
}

/*
 * A user namespace has no name for the user who is root here: so root comes as the user whose the
 * socket is.
 */
static int connect_as_owner(int fd, struct sockaddr_un *to)
{
	int file = open(to->sun_path, O_PATH | O_CLOEXEC), err = 0;
	struct stat st;

	if (file < 0)
		return -errno;
	(void)snprintf(to->sun_path, sizeof(to->sun_path), "/proc/self/fd/%d", file);
	if (fstat(file, &st) || seteuid(st.st_uid) ||
	    connect(fd, (const struct sockaddr *)to, sizeof(*to)))
		err = -errno;
	if (seteuid(0))
		abort();
	(void)close(file);
	return err;
}

static int connect_to(const struct way *way, const char *root, const char *path)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int len = snprintf(to.sun_path, sizeof(to.sun_path), "%s%s", root, path), err;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	err = len >= (int)sizeof(to.sun_path) ? -ENAMETOOLONG : remote_set_patience(fd, way->ms);
	if (!err && way->is_as_owner)
		err = connect_as_owner(fd, &to);
	else if (!err && connect(fd, (const struct sockaddr *)&to, sizeof(to)))
		err = -errno;
	if (!err && !is_its_socket(fd, way->pid))
		err = -ENOENT;
	if (!err)
		return fd;
	(void)close(fd);
	return err;
}

/* As connect_to(), below the root directory of thread @tid. */
static int connect_by(const struct way *way, pid_t tid, const char *path)
{
	char root[32];

	(void)snprintf(root, sizeof(root), "/proc/%d/root", (int)tid);
	return connect_to(way, root, path);
}

static bool is_elsewhere(int ret)
{
	return ret == -ENOENT || ret == -EACCES || ret == -ECONNREFUSED;
}

int remote_connect_socket(pid_t pid, unsigned ms, bool is_as_owner)
{
	const struct way way = {pid, ms, is_as_owner};
	char path[REMOTE_PATH], hidden[REMOTE_PATH];
	int ret = remote_find(pid, path);
	pid_t agent;

	if (ret)
		return ret;
	ret = connect_by(&way, remote_thread(pid), path);
	/* Its first thread may have another root than the agent's has; or it has changed it since,
	 * or does not let it be seen. */
	agent = is_elsewhere(ret) ? remote_agent_thread(pid) : 0;
	if (agent)
		ret = connect_by(&way, agent, path);
	if (is_elsewhere(ret))
		ret = connect_to(&way, "", path);
	if (ret == -ENOENT && !remote_find_hidden(pid, path, hidden))
		ret = connect_to(&way, "", hidden);
	return ret;
}

static bool has_thread(pid_t pid, pid_t tid)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/task/%d", (int)pid, (int)tid);
	return !access(path, F_OK);
}

void remote_wait_for_start(pid_t pid, unsigned ms)
{
	static const struct timespec pause = {.tv_nsec = 1000000};
	char path[REMOTE_PATH];

	for (unsigned i = 0; i < ms && !remote_agent_thread(pid) && !remote_find(pid, path); i++)
		(void)nanosleep(&pause, NULL);
}

/* Behind its thread somebody may have put another one there. */
bool remote_wait_for_end(pid_t pid, pid_t agent, unsigned ms)
{
	static const struct timespec pause = {.tv_nsec = 1000000};
	char path[REMOTE_PATH];

	for (unsigned i = 0; i < ms; i++) {
		if (agent ? !has_thread(pid, agent) : remote_find(pid, path))
			return true;
		(void)nanosleep(&pause, NULL);
	}
	return false;
}
