/* SPDX-License-Identifier: MIT */
/*
 * The threads of this process, from /proc/self/task: which there are, and how one of
 * them stands to a signal.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <shunt/port.h>

#include "linux/base/base.h"
#include "linux/base/descriptor.h"
#include "linux/base/format.h"
#include "linux/base/syscall.h"
#include "linux/base/tasks.h"

static long open_read(const char *path, int flags)
{
	return shunt_fd_open(path, O_RDONLY | flags);
}

static void close_fd(long fd)
{
	shunt_fd_close((int)fd);
}

/* ------------------------------------------------------------------- the list */

/* What getdents64(2) fills in. */
struct entry {
	uint64_t inode;
	int64_t next;
	uint16_t size;
	uint8_t type;
	char name[];
};

#define ENTRY_SIZE 32 /* that of a thread, whose name is a number, at most */

/* Where it is interrupted by a copy of the process, the copy finds room for none, or all of it. */
int shunt_tasks_reserve(struct shunt_tasks *tasks, size_t n)
{
	size_t each = ENTRY_SIZE + sizeof(tasks->tids[0]), before = tasks->room;

	if (n <= before)
		return 0;
	tasks->room = 0;
	atomic_signal_fence(memory_order_seq_cst);
	if (tasks->entries)
		shunt_port_free(tasks->entries, before * each);
	tasks->entries = shunt_port_alloc(2 * n * each);
	if (!tasks->entries) {
		shunt_failed_call = "mmap";
		return shunt_port_no_memory();
	}
	tasks->tids = (int32_t *)((char *)tasks->entries + 2 * n * ENTRY_SIZE);
	atomic_signal_fence(memory_order_seq_cst);
	tasks->room = 2 * n;
	return 0;
}

static void parse_tids(struct shunt_tasks *tasks, size_t size)
{
	const char *entries = tasks->entries;

	for (size_t at = 0; at < size;) {
		const struct entry *entry = (const void *)(entries + at);

		if (entry->name[0] >= '1' && entry->name[0] <= '9')
			tasks->tids[tasks->n++] = (int32_t)strtol(entry->name, NULL, 10);
		at += entry->size;
	}
}

static long read_entries(struct shunt_tasks *tasks, long fd)
{
	return shunt_syscall(SYS_getdents64, fd, (long)tasks->entries,
			     (long)(tasks->room * ENTRY_SIZE), 0);
}

/*
 * The kernel walks its list without a lock: where the thread that it stands at ends, the
 * walk ends too, and where a walk is continued, threads can be left out. Hence one
 * call, and a count: the directory has as many links more than two as there are
 * threads. New threads come last in the list, so a walk that brings as many as there
 * were when it began has left out none of those.
 */
static int list_once(struct shunt_tasks *tasks, long fd, const char **call)
{
	struct stat status = {0};
	size_t threads;
	long ret = shunt_syscall(SYS_fstat, fd, (long)&status, 0, 0);

	*call = "fstat(/proc/self/task)";
	if (ret)
		return (int)ret;
	threads = status.st_nlink > 2 ? status.st_nlink - 2 : 1;
	*call = "mmap";
	ret = shunt_tasks_reserve(tasks, threads + 32);
	if (ret)
		return (int)ret;
	*call = "getdents64(/proc/self/task)";
	ret = read_entries(tasks, fd);
	if (ret < 0)
		return (int)ret;
	if (!ret) /* not even the directory itself: a filter has answered */
		return -EPERM;
	parse_tids(tasks, (size_t)ret);
	tasks->complete = tasks->n >= threads;
	/* It ends before the first thread, which the kernel's never does: it is another directory.
	 */
	if (!tasks->n && !read_entries(tasks, fd))
		return -EPERM;
	return 0;
}

/* How often a list that is not complete is made again, before the caller sees to that. */
#define LISTINGS 100

int shunt_tasks_list(struct shunt_tasks *tasks)
{
	long fd = open_read("/proc/self/task", O_DIRECTORY);
	const char *call = "lseek(/proc/self/task)";
	int ret = 0;

	tasks->complete = false;
	shunt_failed_call = "open(/proc/self/task)";
	if (fd == -ENOENT) {
		shunt_failed_call = "open(/proc/self/task) gave ENOENT";
		return -ENOSYS;
	}
	if (fd < 0)
		return (int)fd;
	for (int i = 0; i < LISTINGS && !ret && !tasks->complete; i++) {
		tasks->n = 0;
		if (i)
			ret = (int)shunt_syscall(SYS_lseek, fd, 0, SEEK_SET, 0);
		if (!ret)
			ret = list_once(tasks, fd, &call);
	}
	close_fd(fd);
	/* Behind them: a handler may have made an update of its own, which was refused. */
	shunt_failed_call = ret ? call : NULL;
	return ret;
}

/* ------------------------------------------------------------------- one thread */

/* What stands behind @label in a status file; NULL where there is none. */
static const char *field(const char *status, const char *label)
{
	const char *line = strstr(status, label);

	return line ? line + strlen(label) : NULL;
}

/*
 * Whether such a mask is that of a thread in an update, of another libshunt in this process: it
 * blocks for a moment, and all there is: also what the C library keeps its callers from blocking,
 * but none of what its own instructions may raise. A handler of ours blocks SIGTRAP
 * (shunt_handler_mask()).
 */
static bool is_updating(uint64_t blocked)
{
	const uint64_t never = 1ul << (SIGKILL - 1) | 1ul << (SIGSTOP - 1);
	const uint64_t trap = 1ul << (SIGTRAP - 1);
	const uint64_t raised = trap | 1ul << (SIGSEGV - 1) | 1ul << (SIGBUS - 1) |
				1ul << (SIGILL - 1) | 1ul << (SIGFPE - 1) | 1ul << (SIGSYS - 1);

	return (blocked | never | raised) == ~0ul && !(blocked & trap);
}

static enum shunt_task read_status(const char *status, int sig)
{
	const char *state = field(status, "\nState:\t");
	const char *pending = field(status, "\nSigPnd:\t");
	const char *blocked = field(status, "\nSigBlk:\t");
	uint64_t bit = 1ul << (sig - 1);

	if (state && (*state == 'Z' || *state == 'X'))
		return SHUNT_TASK_GONE;
	if (!state || !pending || !blocked)
		return SHUNT_TASK_UNKNOWN;
	if (strtoul(blocked, NULL, 16) & bit) {
		if (!is_updating(strtoul(blocked, NULL, 16)))
			return SHUNT_TASK_BLOCKS;
		return strtoul(pending, NULL, 16) & bit ? SHUNT_TASK_PENDING : SHUNT_TASK_OPEN;
	}
	if (!(strtoul(pending, NULL, 16) & bit))
		return SHUNT_TASK_OPEN;
	/*
	 * Asleep where no signal wakes it (in vfork(), in a page fault), or stopped.
	 * Mask and pending signals are read after the state, and together: it has not
	 * been outside the kernel since without taking the signal.
	 */
	return strchr("DTt", *state) ? SHUNT_TASK_HELD : SHUNT_TASK_PENDING;
}

static char file[1 << 14]; /* update lock */

/* Why the last look has told nothing. Update lock. */
static struct {
	int error; /* -errno */
	char call[64];
} blind;

static void cannot_look(long error, const char *call, const char *path)
{
	blind.error = (int)error;
	shunt_format(blind.call, sizeof(blind.call), "%s(%s)", call, path);
}

/* Not an error of the look's: the thread has ended, or the kernel makes no such file. */
static bool is_absent(long error)
{
	return error == -ENOENT || error == -ESRCH;
}

/*
 * Read a file of thread @tid's; 0 or -errno, and then it is in @blind. Of one that is too long the
 * beginning and the end: in a status, the groups of a user come between them.
 */
static long read_file(int32_t tid, const char *name)
{
	const size_t half = sizeof(file) / 2;
	char path[48];
	size_t size = 0;
	long fd, n;

	shunt_format(path, sizeof(path), "/proc/self/task/%d/%s", (int)tid, name);
	fd = open_read(path, 0);
	if (fd < 0) {
		cannot_look(fd, "open", path);
		return fd;
	}
	do {
		if (size == sizeof(file) - 1) {
			size -= half / 2;
			memmove(file + half, file + half + half / 2, size - half);
		}
		n = shunt_syscall(SYS_read, fd, (long)(file + size),
				  (long)(sizeof(file) - 1 - size), 0);
		size += n > 0 ? (size_t)n : 0;
	} while (n > 0);
	close_fd(fd);
	file[size] = '\0';
	if (n)
		cannot_look(n, "read", path);
	return n;
}

/* Field @nr of a thread's stat, counted from its state, which is the first; NULL: there is none. */
static const char *stat_field(int nr)
{
	const char *at = strrchr(file, ')');

	for (int i = 0; at && i < nr; i++)
		at = strchr(at + 1, ' ');
	return at;
}

/*
 * Whether a thread is one of the kernel's own that io_uring has put into the process:
 * it blocks all signals, and never runs the program's code. By its flags, of which
 * this one is Linux's PF_IO_WORKER since 5.12.
 */
static bool is_io_worker(int32_t tid)
{
	/* state, parent, group, session, terminal, its group, flags */
	const char *flags = read_file(tid, "stat") ? NULL : stat_field(7);

	return flags && (strtoul(flags, NULL, 10) & 0x10);
}

bool shunt_task_is_ready(int32_t tid, uint64_t *ticks)
{
	const char *state = read_file(tid, "stat") ? NULL : stat_field(1);
	const char *user = state ? stat_field(12) : NULL; /* and, behind it, system time */
	char *system;

	if (!user || state[1] != 'R')
		return false;
	*ticks = strtoul(user, &system, 10);
	*ticks += strtoul(system, NULL, 10);
	return true;
}

/*
 * Of a thread that does not block the signal: whether it sits in sigtimedwait() with the signal in
 * its set. Then the kernel lets it in for as long as the call lasts, and yet no handler would run.
 * The file is root's where the process has given up privileges (PR_SET_DUMPABLE): not seen there.
 */
static enum shunt_task look_if_waited_for(int32_t tid, int sig)
{
	uint64_t set = 0;
	struct iovec to = {&set, sizeof(set)}, from = {NULL, sizeof(set)};
	char *arguments;
	long ret = read_file(tid, "syscall");

	if (ret && !is_absent(ret) && ret != -EACCES && ret != -EPERM)
		return SHUNT_TASK_UNKNOWN;
	if (ret || strtol(file, &arguments, 10) != SYS_rt_sigtimedwait)
		return SHUNT_TASK_OPEN;
	from.iov_base = (void *)strtoul(arguments, NULL, 16);
	/* By a copy that fails, not faults: the thread may have left it meanwhile. */
	if (shunt_syscall6(SYS_process_vm_readv, shunt_own_pid(), (long)&to, 1, (long)&from, 1,
			   0) != sizeof(set))
		return SHUNT_TASK_BLOCKS;
	return set >> (sig - 1) & 1 ? SHUNT_TASK_BLOCKS : SHUNT_TASK_OPEN;
}

enum shunt_task shunt_task_look(int32_t tid, int sig)
{
	long ret = read_file(tid, "status");
	enum shunt_task task;

	if (ret)
		return is_absent(ret) ? SHUNT_TASK_GONE : SHUNT_TASK_UNKNOWN;
	task = read_status(file, sig);
	if (task == SHUNT_TASK_UNKNOWN) /* a filter has answered, or it is another file */
		cannot_look(-EPERM, "read", "/proc/self/task/.../status");
	if (task == SHUNT_TASK_BLOCKS && is_io_worker(tid))
		return SHUNT_TASK_GONE;
	return task == SHUNT_TASK_OPEN ? look_if_waited_for(tid, sig) : task;
}

int shunt_task_why_unknown(void)
{
	shunt_failed_call = blind.call;
	return blind.error;
}

/*
 * Whether process @pid runs in this memory: in any other one something else is there. (Not by the
 * CPU's counter: a thread may have forbidden itself that, by PR_SET_TSC.) Or -errno: a process that
 * may not be looked at is not in this memory, of which the kernel asks no permission.
 */
static int shares_memory(int32_t pid)
{
	static uint32_t looks; /* guarded by the update lock */
	volatile uint64_t here = (uint64_t)(uint32_t)shunt_own_tid() << 32 | ++looks;
	uint64_t seen = 0;
	char path[32];
	long fd, n;

	shunt_format(path, sizeof(path), "/proc/%d/mem", (int)pid);
	fd = open_read(path, 0);
	if (fd < 0) {
		cannot_look(fd, "open", path);
		return is_absent(fd) || fd == -EACCES || fd == -EPERM ? 0 : (int)fd;
	}
	n = shunt_syscall(SYS_lseek, fd, (long)&here, SEEK_SET, 0);
	if (n == (long)&here)
		n = shunt_syscall(SYS_read, fd, (long)&seen, sizeof(seen), 0);
	close_fd(fd);
	if (n == -ENOMEM || n == -EINTR) {
		cannot_look(n, "read", path);
		return (int)n;
	}
	return n == sizeof(seen) && seen == here;
}

/* Of the children that are listed in @file; 0, or -errno. */
static int32_t find_sharing(void)
{
	char *at = file;

	for (;;) {
		char *end;
		long pid = strtol(at, &end, 10);
		int ret;

		if (end == at)
			return 0;
		ret = shares_memory((int32_t)pid);
		if (ret)
			return ret < 0 ? ret : (int32_t)pid;
		at = end;
	}
}

int32_t shunt_task_sharing_memory(const struct shunt_tasks *tasks)
{
	int32_t found = 0;

	for (size_t i = 0; i < tasks->n && !found; i++) {
		long ret = read_file(tasks->tids[i], "children");

		if (!ret)
			found = find_sharing();
		else if (!is_absent(ret))
			found = (int32_t)ret;
	}
	return found;
}
