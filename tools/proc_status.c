/* SPDX-License-Identifier: MIT */
#include "proc_status.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is behind @name, if the line is that; NULL. */
static const char *behind(const char *line, const char *name)
{
	size_t size = strlen(name);

	return strncmp(line, name, size) ? NULL : line + size;
}

static void read_line(const char *line, struct proc_status *status)
{
	const char *at;
	char *rest;

	if ((at = behind(line, "State:\t"))) {
		status->state = *at;
	} else if ((at = behind(line, "Tgid:"))) {
		status->tgid = (pid_t)strtol(at, NULL, 10);
	} else if ((at = behind(line, "TracerPid:"))) {
		status->tracer = (pid_t)strtol(at, NULL, 10);
	} else if ((at = behind(line, "Uid:"))) {
		status->real_uid = (uid_t)strtoul(at, &rest, 10);
		status->uid = (uid_t)strtoul(rest, NULL, 10);
	} else if (behind(line, "NSpid:")) {
		at = strrchr(line, '\t');
		status->inner_tid = at ? (pid_t)strtol(at, NULL, 10) : 0;
	} else if (behind(line, "VmSize:")) {
		status->has_memory = true;
	} else if ((at = behind(line, "SigPnd:")) || (at = behind(line, "ShdPnd:"))) {
		status->pending |= strtoull(at, NULL, 16);
	} else if ((at = behind(line, "SigCgt:"))) {
		status->caught = strtoull(at, NULL, 16);
	} else if ((at = behind(line, "CapPrm:"))) {
		status->permitted = strtoull(at, NULL, 16);
	} else if ((at = behind(line, "CapEff:"))) {
		status->effective = strtoull(at, NULL, 16);
	} else if ((at = behind(line, "Seccomp:"))) {
		status->seccomp = (unsigned)strtoul(at, NULL, 10);
	} else if ((at = behind(line, "x86_Thread_features:"))) {
		status->has_shadow_stack = strstr(at, "shstk");
	}
}

int proc_status_read(pid_t tid, struct proc_status *status)
{
	char path[64], line[512];
	FILE *file;

	*status = (struct proc_status){0};
	(void)snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	file = fopen(path, "re");
	if (!file)
		return errno == ENOENT ? -ESRCH : -errno;
	while (fgets(line, sizeof(line), file))
		read_line(line, status);
	(void)fclose(file);
	return 0;
}
