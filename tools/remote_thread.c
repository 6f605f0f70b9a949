/* SPDX-License-Identifier: MIT */
/*
 * The first thread of a process may have ended (pthread_exit() in main()) while others run. Then
 * /proc/PID has no memory, descriptors, root directory or namespaces any more; those of another
 * thread's folder are the process's.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "remote.h"

enum {
	EXITING = 4,         /* the kernel's PF_EXITING */
	OF_KERNEL = 0x200000 /* PF_KTHREAD */
};

/* Of the thread's file @name in /proc; "": there is none. */
static void read_first_line(pid_t tid, const char *name, char *line, int size)
{
	char path[32];
	FILE *file;

	line[0] = '\0';
	(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)tid, name);
	file = fopen(path, "re");
	if (file && !fgets(line, size, file))
		line[0] = '\0';
	if (file)
		(void)fclose(file);
}

/* Of the thread's line in stat what is behind its name, which may hold anything; "": there is none.
 */
static void read_stat(pid_t tid, char text[600])
{
	const char *behind;
	char line[600];

	read_first_line(tid, "stat", line, sizeof(line));
	behind = strrchr(line, ')');
	(void)snprintf(text, 600, "%s", behind && behind[1] ? behind + 2 : "");
}

char remote_thread_state(pid_t tid)
{
	char text[600];

	read_stat(tid, text);
	return (char)(text[0] ? text[0] : 'X');
}

/* The kernel's flags of the thread, and its state. */
static unsigned read_flags(pid_t tid, char *state)
{
	unsigned flags = 0;
	char text[600];

	read_stat(tid, text);
	*state = 'X';
	/* NOLINTNEXTLINE(cert-err34-c): numbers of the kernel's */
	(void)sscanf(text, "%c %*d %*d %*d %*d %*d %u", state, &flags);
	return flags;
}

bool remote_is_ending(pid_t pid)
{
	char state;
	unsigned flags = read_flags(remote_thread(pid), &state);

	return strchr("ZX", state) || (flags & EXITING);
}

int remote_each_thread(pid_t pid, bool (*visit)(pid_t tid, void *arg), void *arg)
{
	const struct dirent *entry;
	bool is_enough = false;
	char path[32];
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	if (!dir)
		return -errno;
	while (!is_enough && (entry = readdir(dir))) {
		pid_t tid = (pid_t)strtol(entry->d_name, NULL, 10);

		is_enough = tid > 0 && visit(tid, arg);
	}
	(void)closedir(dir);
	return 0;
}

static bool is_alive(pid_t tid, void *found)
{
	if (strchr("ZX", remote_thread_state(tid)))
		return false;
	*(pid_t *)found = tid;
	return true;
}

pid_t remote_thread(pid_t pid)
{
	pid_t found = pid;

	if (remote_thread_state(pid) == 'Z')
		(void)remote_each_thread(pid, is_alive, &found);
	return found;
}

static bool has_child(pid_t tid, void *found)
{
	char path[64], byte;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)tid, (int)tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	*(bool *)found = fd >= 0 && read(fd, &byte, 1) == 1;
	if (fd >= 0)
		(void)close(fd);
	return *(bool *)found;
}

bool remote_has_children(pid_t pid)
{
	bool found = false;

	(void)remote_each_thread(pid, has_child, &found);
	return found;
}

void remote_thread_name(pid_t tid, char name[REMOTE_THREAD_NAME])
{
	read_first_line(tid, "comm", name, REMOTE_THREAD_NAME);
	name[strcspn(name, "\n")] = '\0';
}

struct called {
	const char *name;
	pid_t but, found;
};

static bool is_called(pid_t tid, void *arg)
{
	struct called *called = arg;
	char name[REMOTE_THREAD_NAME];

	if (tid == called->but)
		return false;
	remote_thread_name(tid, name);
	if (strcmp(name, called->name) != 0)
		return false;
	called->found = tid;
	return true;
}

pid_t remote_thread_called(pid_t pid, const char *name, pid_t but)
{
	struct called called = {name, but, 0};

	(void)remote_each_thread(pid, is_called, &called);
	return called.found;
}

pid_t remote_agent_thread(pid_t pid)
{
	return remote_thread_called(pid, "shunt-agent", pid);
}

void remote_say_mute(pid_t pid, char *why, size_t size)
{
	pid_t agent = remote_agent_thread(pid);
	char state = agent ? remote_thread_state(agent) : 'X';
	const char *does = state == 'R'           ? "is running"
			   : strchr("Tt", state)  ? "is stopped"
			   : strchr("SDI", state) ? "is asleep"
						  : NULL;

	if (does)
		(void)snprintf(why, size,
			       "the agent of process %d does not answer; its thread (%d) %s",
			       (int)pid, (int)agent, does);
	else
		(void)snprintf(why, size, "the agent of process %d does not answer", (int)pid);
}

bool remote_is_of_kernel(pid_t pid)
{
	char state;

	return read_flags(pid, &state) & OF_KERNEL;
}
