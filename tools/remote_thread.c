/* SPDX-License-Identifier: MIT */
/*
 * The first thread of a process may have ended (pthread_exit() in main()) while others run. Then
 * /proc/PID has no memory, descriptors, root directory or namespaces any more; those of another
 * thread's folder are the process's.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "remote.h"

enum { EXITING = 4 /* the kernel's PF_EXITING */ };

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

bool remote_is_ending(pid_t pid)
{
	unsigned flags = 0;
	char text[600], state = 'X';

	read_stat(remote_thread(pid), text);
	/* NOLINTNEXTLINE(cert-err34-c): numbers of the kernel's */
	(void)sscanf(text, "%c %*d %*d %*d %*d %*d %u", &state, &flags);
	return strchr("ZX", state) || (flags & EXITING);
}

pid_t remote_thread(pid_t pid)
{
	const struct dirent *entry;
	pid_t found = pid;
	char path[32];
	DIR *dir;

	if (remote_thread_state(pid) != 'Z')
		return pid;
	(void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	while (dir && found == pid && (entry = readdir(dir))) {
		pid_t tid = (pid_t)strtol(entry->d_name, NULL, 10);

		if (tid > 0 && !strchr("ZX", remote_thread_state(tid)))
			found = tid;
	}
	if (dir)
		(void)closedir(dir);
	return found;
}

void remote_thread_name(pid_t tid, char name[REMOTE_THREAD_NAME])
{
	read_first_line(tid, "comm", name, REMOTE_THREAD_NAME);
	name[strcspn(name, "\n")] = '\0';
}

static bool is_agents_thread(pid_t tid)
{
	char name[REMOTE_THREAD_NAME];

	remote_thread_name(tid, name);
	return !strcmp(name, "shunt-agent");
}

pid_t remote_agent_thread(pid_t pid)
{
	const struct dirent *entry;
	pid_t found = 0;
	char path[32];
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	while (dir && !found && (entry = readdir(dir))) {
		pid_t tid = (pid_t)strtol(entry->d_name, NULL, 10);

		if (tid > 0 && tid != pid && is_agents_thread(tid))
			found = tid;
	}
	if (dir)
		(void)closedir(dir);
	return found;
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

/* PF_KTHREAD of the flags in its stat, the ninth word. */
bool remote_is_of_kernel(pid_t pid)
{
	char path[64], line[512];
	unsigned flags = 0;
	const char *at;
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return false;
	at = fgets(line, sizeof(line), file) ? strrchr(line, ')') : NULL;
	(void)fclose(file);
	/* NOLINTNEXTLINE(cert-err34-c): a number of the kernel's */
	return at && sscanf(at, ") %*c %*d %*d %*d %*d %*d %u", &flags) == 1 && flags & 0x200000;
}
