/* SPDX-License-Identifier: MIT */
/*
 * Descriptors of ours among those of the program. fork() copies them first and memory afterwards:
 * one that the agent's thread closes in between would be open in the child, under a number that
 * nobody knows there any more. So none comes or goes while a fork() is under way.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/agent.h"

enum { FD_HIGH = 700 };

int agent_keep(struct agent_descriptor *to, int fd)
{
	int high = fcntl(fd, F_DUPFD_CLOEXEC, FD_HIGH), err;
	struct stat st;

	if (high < 0 && errno == EINVAL) /* the limit is below that */
		high = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	err = -errno;
	if (high < 0 && err == -EMFILE && fd > 2) /* it is the last one that there was */
		high = fd;
	else
		(void)close(fd);
	to->fd = -1;
	if (high < 0)
		return err;
	if (fstat(high, &st)) {
		err = -errno;
		(void)close(high);
		return err;
	}
	*to = (struct agent_descriptor){high, st.st_dev, st.st_ino};
	return 0;
}

bool agent_is_ours(const struct agent_descriptor *d)
{
	struct stat st;

#ifdef AGENT_NO_OURS /* the tests' control */
	return d->fd >= 0;
#endif
	return d->fd >= 0 && !fstat(d->fd, &st) && st.st_dev == d->device && st.st_ino == d->inode;
}

void agent_close(struct agent_descriptor *d)
{
	if (agent_is_ours(d))
		(void)close(d->fd);
	d->fd = -1;
}

void agent_close_here(struct agent_descriptor *d)
{
#ifndef AGENT_CLOSES_IN_FORK /* the tests' control */
	agent_hold_fork();
#endif
	agent_close(d);
#ifndef AGENT_CLOSES_IN_FORK
	agent_allow_fork();
#endif
}
