/* SPDX-License-Identifier: MIT */
/*
 * Walks the tree with fts, which sorts as it walks and, unlike nftw, needs no
 * global variables.
 */
#include "corpus.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int complain(const char *path, const char *what, int error)
{
	fprintf(stderr, "shunt-demo: %s: %s: %s\n", path, what, strerror(error));
	return -error;
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
	return strcmp((*a)->fts_name, (*b)->fts_name);
}

/* Up to @size bytes: a file that grew is cut, one that shrank gives fewer. */
static ssize_t read_whole(int fd, unsigned char *data, size_t size)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = read(fd, data + done, size - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

static int read_file(struct corpus_file *file, const char *path, size_t size)
{
	ssize_t n;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return complain(path, "open", errno);
	file->path = strdup(path);
	file->data = malloc(size + 1);
	if (file->path && file->data)
		n = read_whole(fd, file->data, size);
	else
		n = -ENOMEM;
	if (close(fd) != 0 && n >= 0)
		n = -errno;
	if (n < 0) {
		free(file->path);
		free(file->data);
		return complain(path, "read", (int)-n);
	}
	file->size = (size_t)n;
	return 0;
}

static int make_room(struct corpus *corpus)
{
	size_t capacity = corpus->capacity ? corpus->capacity * 2 : 1024;
	struct corpus_file *files;

	if (corpus->count < corpus->capacity)
		return 0;
	files = reallocarray(corpus->files, capacity, sizeof(*files));
	if (!files)
		return -ENOMEM;
	corpus->files = files;
	corpus->capacity = capacity;
	return 0;
}

static int add_file(struct corpus *corpus, const FTSENT *entry, size_t limit)
{
	size_t size = (size_t)entry->fts_statp->st_size;
	struct corpus_file *file;
	int err;

	if (size > limit - corpus->bytes) {
		corpus->left_out++;
		return 0;
	}
	err = make_room(corpus);
	if (err)
		return complain(entry->fts_path, "remember", -err);
	file = &corpus->files[corpus->count];
	err = read_file(file, entry->fts_accpath, size);
	if (err)
		return err;
	corpus->count++;
	corpus->bytes += file->size;
	return 0;
}

static int add_entry(struct corpus *corpus, const FTSENT *entry, size_t limit)
{
	switch (entry->fts_info) {
	case FTS_F:
		return add_file(corpus, entry, limit);
	case FTS_DNR:
	case FTS_ERR:
	case FTS_NS:
		return complain(entry->fts_path, "walk", entry->fts_errno);
	default: /* directories, symbolic links, sockets, devices */
		return 0;
	}
}

static FTS *open_walk(const char *dir)
{
	/* fts_open() takes strings that are not const, and copies them. */
	char *const roots[] = {(char *)dir, NULL};

	return fts_open(roots, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, by_name);
}

int corpus_load(struct corpus *corpus, const char *dir, size_t limit)
{
	FTS *walk = open_walk(dir);
	int err = 0;

	*corpus = (struct corpus){0};
	if (!walk)
		return complain(dir, "walk", errno);
	while (!err) {
		FTSENT *entry;

		errno = 0;
		entry = fts_read(walk);
		if (!entry && errno != 0)
			err = complain(dir, "walk", errno);
		if (!entry)
			break;
		err = add_entry(corpus, entry, limit);
	}
	if (fts_close(walk) != 0 && !err)
		err = complain(dir, "walk", errno);
	return err;
}

void corpus_free(struct corpus *corpus)
{
	for (size_t i = 0; i < corpus->count; i++) {
		free(corpus->files[i].path);
		free(corpus->files[i].data);
	}
	free(corpus->files);
	*corpus = (struct corpus){0};
}
