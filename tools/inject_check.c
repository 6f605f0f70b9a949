/* SPDX-License-Identifier: MIT */
/* Processes that cannot be attached to, and what to say then. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "inject.h"
#include "proc_status.h"
#include "remote.h"
#include "remote_elf.h"

static int refuse(int err, char *why, size_t size, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static int refuse(int err, char *why, size_t size, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): va_start() is above */
	(void)vsnprintf(why, size, format, args);
	va_end(args);
	return err;
}

static void read_name(pid_t pid, char *name, size_t size)
{
	char path[64];
	FILE *file;

	(void)snprintf(name, size, "?");
	(void)snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	file = fopen(path, "re");
	if (file && fgets(name, (int)size, file))
		name[strcspn(name, "\n")] = '\0';
	if (file)
		(void)fclose(file);
}

int inject_ptrace_scope(void)
{
	FILE *file = fopen("/proc/sys/kernel/yama/ptrace_scope", "re");
	int scope = -1;

	/* NOLINTNEXTLINE(cert-err34-c): a number of the kernel's */
	if (file && fscanf(file, "%d", &scope) != 1)
		scope = -1;
	if (file)
		(void)fclose(file);
	return scope;
}

/* The files of a process that may not be dumped are root's. */
static bool is_undumpable(pid_t pid, unsigned uid)
{
	char path[64];
	struct stat st;

	(void)snprintf(path, sizeof(path), "/proc/%d/mem", (int)remote_thread(pid));
	return uid && !lstat(path, &st) && st.st_uid != uid;
}

void inject_say_denied(pid_t pid, char *why, size_t size)
{
	int scope = inject_ptrace_scope();
	struct proc_status status, own;

	if (proc_status_read(pid, &status))
		(void)refuse(0, why, size, "no process %d", (int)pid);
	else if (geteuid() && status.uid != geteuid())
		(void)refuse(0, why, size, "process %d is another user's (%u)", (int)pid,
			     status.uid);
	else if (is_undumpable(pid, status.uid))
		(void)refuse(0, why, size,
			     "process %d does not let itself be traced (its dumpable flag is 0)",
			     (int)pid);
	else if (scope > 0)
		(void)refuse(0, why, size,
			     "ptrace of process %d is not permitted: "
			     "/proc/sys/kernel/yama/ptrace_scope is %d (%s)",
			     (int)pid, scope,
			     scope == 1   ? "only a parent may, or root"
			     : scope == 2 ? "only root may"
					  : "nobody may");
	else if (!proc_status_read(getpid(), &own) && status.permitted & ~own.effective)
		(void)refuse(0, why, size,
			     "ptrace of process %d is not permitted: it has capabilities that this "
			     "process has not (%#lx)",
			     (int)pid, status.permitted & ~own.effective);
	else
		(void)refuse(0, why, size,
			     "ptrace of process %d is not permitted, and no reason is seen",
			     (int)pid);
}

static int check_program(pid_t pid, char *why, size_t size)
{
	unsigned char head[20];
	char path[64];
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/exe", (int)remote_thread(pid));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		int err = -errno;

		if (err == -EACCES || err == -EPERM) {
			inject_say_denied(pid, why, size);
			return -EPERM;
		}
		return refuse(err, why, size, "%s: %s", path, strerror(-err));
	}
	n = read(fd, head, sizeof(head));
	(void)close(fd);
	if (n != sizeof(head) || memcmp(head, ELFMAG, SELFMAG) != 0)
		return refuse(-ENOEXEC, why, size, "%s is no ELF file", path);
	if (head[EI_CLASS] != ELFCLASS64 || head[18] != EM_X86_64)
		return refuse(-ENOEXEC, why, size,
			      "process %d runs a program that is not for x86-64 (%s)", (int)pid,
			      head[EI_CLASS] == ELFCLASS32 ? "32 bits" : "another machine");
	return 0;
}

static int check_state(pid_t pid, const struct proc_status *status, char *why, size_t size)
{
	char name[64];

	if (status->tgid != (int)pid)
		return refuse(-ESRCH, why, size, "%d is a thread of process %d", (int)pid,
			      status->tgid);
	if (status->state == 'Z' || status->state == 'X')
		return refuse(-ESRCH, why, size, "process %d has ended (a zombie)", (int)pid);
	if (!status->has_memory)
		return remote_is_of_kernel(pid)
			       ? refuse(-EPERM, why, size, "%d is a thread of the kernel", (int)pid)
			       : refuse(-ESRCH, why, size, "process %d is about to end", (int)pid);
	if (status->tracer) {
		read_name(status->tracer, name, sizeof(name));
		return refuse(-EBUSY, why, size,
			      "process %d is being traced already, by process %d (%s)", (int)pid,
			      status->tracer, name);
	}
	if (status->state == 'T' || status->state == 't')
		return refuse(-EBUSY, why, size, "process %d is stopped", (int)pid);
	return 0;
}

bool inject_is_static(pid_t pid)
{
	char path[64];
	uint64_t word[2];
	bool has_linker = false, has_entry = false; /* it has neither until execve() is done */
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/%d/auxv", (int)remote_thread(pid));
	file = fopen(path, "re");
	while (file && fread(word, sizeof(word), 1, file) == 1) {
		has_linker |= word[0] == AT_BASE && word[1];
		has_entry |= word[0] == AT_ENTRY;
	}
	if (file)
		(void)fclose(file);
	return has_entry && !has_linker;
}

#define GONE_MS   1000
#define ABSENT_MS 200

/*
 * Where another thread executes a program the first one ends, and the process has a zombie's state
 * and no memory until that thread has taken its place: seen then, nothing of it could be opened.
 */
static int look_absent(pid_t pid, int err, char *why, size_t size)
{
	struct proc_status status;

	for (int ms = 0; ms < ABSENT_MS; ms++) {
		if (proc_status_read(remote_thread(pid), &status) || status.tgid != (int)pid)
			return err;
		if (status.has_memory)
			return refuse(-ESTALE, why, size,
				      "process %d has executed another program meanwhile",
				      (int)pid);
		(void)usleep(1000);
	}
	return err;
}

int inject_look_gone(pid_t pid, const struct remote_space *space, int err, char *why, size_t size)
{
	if (space->memory < 0 && (err == -ESRCH || err == -ENOENT))
		return look_absent(pid, err, why, size);
	/* A thread that is held ends with the process, or before another program takes its place.
	 */
	for (int ms = 0; err == -ESRCH && ms < GONE_MS && !remote_space_is_gone(space); ms++)
		(void)usleep(1000);
	if (!err || err == -EINTR || !remote_space_is_gone(space))
		return err;
	(void)refuse(-ESRCH, why, size, "process %d has ended meanwhile", (int)pid);
	return look_absent(pid, -ESRCH, why, size);
}

/* A thread that filters its system calls, and its mode. */
struct filtered {
	pid_t tid;
	unsigned mode;
};

static bool is_filtered(pid_t tid, void *arg)
{
	struct filtered *filtered = arg;
	struct proc_status status;

	if (proc_status_read(tid, &status) || !status.seccomp)
		return false;
	*filtered = (struct filtered){tid, status.seccomp};
	return true;
}

int inject_check(pid_t pid, bool allow_seccomp, char *why, size_t size)
{
	struct proc_status status;
	struct filtered filtered = {0};
	int err;

	if (pid == getpid())
		return refuse(-EINVAL, why, size, "that is this process itself");
	err = proc_status_read(remote_thread(pid), &status);
	if (err)
		return refuse(err, why, size, "no process %d", (int)pid);
	err = check_state(pid, &status, why, size);
	if (!err)
		err = check_program(pid, why, size);
	if (err)
		return err;
	if (!allow_seccomp)
		(void)remote_each_thread(pid, is_filtered, &filtered);
	if (filtered.tid)
		return refuse(
			-EPERM, why, size,
			"process %d filters its system calls (thread %d, seccomp mode %u), and "
			"the filter may end it for those of the agent, or of tracing in that "
			"thread: --allow-seccomp tries it",
			(int)pid, (int)filtered.tid, filtered.mode);
	if (status.has_shadow_stack)
		return refuse(-EOPNOTSUPP, why, size, "process %d has a shadow stack", (int)pid);
	return 0;
}
