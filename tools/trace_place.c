/* SPDX-License-Identifier: MIT */
#include "trace_place.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shunt.h"

char *trace_place_absolute(const char *file)
{
	char *folder = file[0] == '/' ? NULL : getcwd(NULL, 0), *path = NULL;

	if (asprintf(&path, "%s%s%s", folder ? folder : "", folder ? "/" : "", file) < 0)
		path = NULL;
	free(folder);
	return path;
}

/* Of a link, what it leads to: it stays itself (/dev/stdout), and files of others stand beside
 * that. */
static void follow_link(char **file)
{
	struct stat link, st, found;
	char *to = NULL;

	if (!lstat(*file, &link) && S_ISLNK(link.st_mode) && !stat(*file, &st))
		to = realpath(*file, NULL);
	if (!to || stat(to, &found) || found.st_ino != st.st_ino || found.st_dev != st.st_dev) {
		free(to);
		return;
	}
	free(*file);
	*file = to;
}

/* The recorder makes a file of its own: what is there goes aside, or away where it is not to be
 * had back. */
static int put_aside(struct trace_place *place, const char *file, bool was_there)
{
	if (!was_there || asprintf(&place->earlier, "%s.earlier-%d", file, (int)getpid()) < 0)
		place->earlier = NULL;
	if (was_there && !place->earlier)
		return -ENOMEM;
	if (place->earlier && rename(file, place->earlier)) {
		was_there = errno != ENAMETOOLONG;
		free(place->earlier);
		place->earlier = NULL;
	}
	if (!was_there)
		(void)unlink(file);
	return 0;
}

int trace_place_take(struct trace_place *place, char **file)
{
	struct stat st;
	bool was_there = !stat(*file, &st);
	int fd;

	/* A pipe's reader would see its end. */
	if (was_there && !S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : access(*file, W_OK) ? -errno : 0;
	fd = open(*file, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	if (fd < 0)
		return -errno;
	(void)close(fd);
	follow_link(file);
	place->file = *file;
	return !lstat(*file, &st) && S_ISREG(st.st_mode) ? put_aside(place, *file, was_there) : 0;
}

void trace_place_settle(struct trace_place *place, bool has_begun)
{
	if (!place->earlier)
		return;
	if (has_begun)
		(void)unlink(place->earlier);
	else if (renameat2(AT_FDCWD, place->earlier, AT_FDCWD, place->file, RENAME_NOREPLACE) &&
		 (access(place->file, F_OK) == 0 || rename(place->earlier, place->file)))
		tool_complain("trace: the earlier %s is %s now", place->file, place->earlier);
	free(place->earlier);
	place->earlier = NULL;
}
