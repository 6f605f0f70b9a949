/* SPDX-License-Identifier: MIT */
/*
 * The C library's functions that take away what the session's file is opened with: the root
 * directory, the rights, the descriptors. It is opened when there is something to write, up to 10
 * ms behind the first call, and by the flight recorder at the end: now at the latest. And daemon(),
 * whose own process ends by a call that nobody sees. Before the C library's, as in exits.c.
 */
#undef _FILE_OFFSET_BITS /* which gives setrlimit() the name of another one */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include "trace/finish.h"
#include "trace/pause.h"

#define EXPORT __attribute__((visibility("default")))

/* @pause: whether the session's thread is away meanwhile (pause.h). */
#define BEHIND_OPENING(is_change, pause, name, parameters, ...)    \
	EXPORT int name parameters                                 \
	{                                                          \
		static int(*real) parameters;                      \
		bool is_paused;                                    \
		int ret;                                           \
                                                                   \
		if (is_change)                                     \
			trace_open_now();                          \
		if (!real)                                         \
			*(void **)&real = dlsym(RTLD_NEXT, #name); \
		if (!real) {                                       \
			errno = ENOSYS;                            \
			return -1;                                 \
		}                                                  \
		is_paused = pause;                                 \
		ret = real(__VA_ARGS__);                           \
		if (is_paused)                                     \
			trace_resume();                            \
		return ret;                                        \
	}
#define BY_EACH_THREAD(...)            BEHIND_OPENING(true, trace_pause_if_unequal(), __VA_ARGS__)
#define OF_DESCRIPTORS(is_change, ...) BEHIND_OPENING(is_change, false, __VA_ARGS__)

/* unshare() refuses these to a process of several threads. */
#define ALONE (CLONE_NEWUSER | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM)

BEHIND_OPENING(true, false, chroot, (const char *path), path)
BEHIND_OPENING(true, flags &ALONE &&trace_pause(), unshare, (int flags), flags)
BEHIND_OPENING(true, trace_pause(), setns, (int fd, int type), fd, type)

BY_EACH_THREAD(setuid, (uid_t uid), uid)
BY_EACH_THREAD(seteuid, (uid_t uid), uid)
BY_EACH_THREAD(setreuid, (uid_t ruid, uid_t euid), ruid, euid)
BY_EACH_THREAD(setresuid, (uid_t ruid, uid_t euid, uid_t suid), ruid, euid, suid)
BY_EACH_THREAD(setgid, (gid_t gid), gid)
BY_EACH_THREAD(setegid, (gid_t gid), gid)
BY_EACH_THREAD(setregid, (gid_t rgid, gid_t egid), rgid, egid)
BY_EACH_THREAD(setresgid, (gid_t rgid, gid_t egid, gid_t sgid), rgid, egid, sgid)
BY_EACH_THREAD(setgroups, (size_t n, const gid_t *groups), n, groups)
BY_EACH_THREAD(initgroups, (const char *user, gid_t group), user, group)

OF_DESCRIPTORS(which == RLIMIT_NOFILE, setrlimit,
	       (__rlimit_resource_t which, const struct rlimit *limit), which, limit)
OF_DESCRIPTORS(which == RLIMIT_NOFILE, setrlimit64,
	       (__rlimit_resource_t which, const struct rlimit64 *limit), which, limit)
OF_DESCRIPTORS(which == RLIMIT_NOFILE && limit, prlimit,
	       (pid_t pid, enum __rlimit_resource which, const struct rlimit *limit,
		struct rlimit *old),
	       pid, which, limit, old)
OF_DESCRIPTORS(which == RLIMIT_NOFILE && limit, prlimit64,
	       (pid_t pid, enum __rlimit_resource which, const struct rlimit64 *limit,
		struct rlimit64 *old),
	       pid, which, limit, old)

static void lead_to_null(void)
{
	int fd = open("/dev/null", O_RDWR);

	if (fd < 0)
		return;
	for (int i = 0; i < 3; i++)
		(void)dup2(fd, i);
	if (fd > 2)
		(void)close(fd);
}

/* As the C library's; but the process that ends does so by _exit() of exits.c. */
EXPORT int daemon(int nochdir, int noclose)
{
	pid_t pid = fork();

	if (pid < 0)
		return -1;
	if (pid)
		_exit(0);
	if (setsid() < 0)
		return -1;
	if (!nochdir)
		(void)chdir("/");
	if (!noclose)
		lead_to_null();
	return 0;
}
