/* SPDX-License-Identifier: MIT */
#include "trace_follow.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void follow_begin(struct follow *follow, const char *file, bool keeps)
{
	*follow = (struct follow){.file = file, .keeps = keeps};
	(void)clock_gettime(CLOCK_REALTIME_COARSE, &follow->since);
}

static const char *path_at(const struct follow *follow, size_t i)
{
	return ((char **)follow->names.data)[i];
}

static bool is_followed(const struct follow *follow, const char *path)
{
	for (size_t i = 0; i < follow->names.n; i++)
		if (!strcmp(path_at(follow, i), path))
			return true;
	return false;
}

static bool is_new(const struct follow *follow, int fd)
{
	struct stat st;

	return !fstat(fd, &st) && S_ISREG(st.st_mode) &&
	       (st.st_ctim.tv_sec > follow->since.tv_sec ||
		(st.st_ctim.tv_sec == follow->since.tv_sec &&
		 st.st_ctim.tv_nsec >= follow->since.tv_nsec));
}

static void begin(struct follow *follow, const char *path)
{
	int fd = open(path, (follow->keeps ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);
	char *copy = fd >= 0 && is_new(follow, fd) ? strdup(path) : NULL;
	struct live live;

	if (!copy || !array_add(&follow->names, &copy, sizeof(copy))) {
		free(copy);
		if (fd >= 0)
			(void)close(fd);
		return;
	}
	live_open(&live, copy, fd, follow->keeps);
	if (array_add(&follow->lives, &live, sizeof(live)))
		return;
	follow->names.n--;
	live_close(&live);
	free(copy);
}

/* "FILE", "FILE.123", or "FILE.123.2" */
static bool is_of_session(const char *name, const char *file)
{
	size_t size = strlen(file);

	if (strncmp(name, file, size) != 0)
		return false;
	if (!name[size])
		return true;
	return name[size] == '.' && isdigit((unsigned char)name[size + 1]) &&
	       !name[size + 1 + strspn(name + size + 1, "0123456789.")];
}

static void look_for_files(struct follow *follow)
{
	const char *slash = strrchr(follow->file, '/');
	int size = (int)(slash - follow->file) + 1;
	const struct dirent *entry;
	char path[PATH_MAX];
	DIR *dir;

	(void)snprintf(path, sizeof(path), "%.*s", size, follow->file);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		if (!is_of_session(entry->d_name, slash + 1) ||
		    snprintf(path, sizeof(path), "%.*s%s", size, follow->file, entry->d_name) >=
			    (int)sizeof(path))
			continue;
		if (!is_followed(follow, path))
			begin(follow, path);
	}
	if (dir)
		(void)closedir(dir);
}

void follow_read(struct follow *follow)
{
	look_for_files(follow);
	for (size_t i = 0; i < follow->lives.n; i++) {
		struct live *live = follow_lives(follow) + i;

		if (!live->is_bad)
			live->is_bad = live_read(live);
	}
}

void follow_end(struct follow *follow)
{
	for (size_t i = 0; i < follow->lives.n; i++) {
		live_close(follow_lives(follow) + i);
		free(((char **)follow->names.data)[i]);
	}
	array_free(&follow->lives);
	array_free(&follow->names);
}

void follow_remove(const char *file)
{
	char folder[PATH_MAX], path[PATH_MAX + NAME_MAX + 2];
	const struct dirent *entry;
	DIR *dir;

	(void)snprintf(folder, sizeof(folder), "%.*s", (int)(strrchr(file, '/') - file), file);
	dir = opendir(folder);
	while (dir && (entry = readdir(dir))) {
		(void)snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
		if (entry->d_name[0] != '.')
			(void)unlink(path);
	}
	if (dir)
		(void)closedir(dir);
	(void)rmdir(folder);
}
