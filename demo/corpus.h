/* SPDX-License-Identifier: MIT */
/*
 * The input of the demo: the regular files under a directory, read into memory
 * once so that the workers measure digests and not the file system.
 */
#ifndef DEMO_CORPUS_H
#define DEMO_CORPUS_H

#include <stddef.h>

struct corpus_file {
	char *path;
	unsigned char *data; /* never NULL, not even for an empty file */
	size_t size;         /* bytes */
};

struct corpus {
	struct corpus_file *files;
	size_t count;
	size_t capacity;
	size_t bytes;    /* sum of the sizes */
	size_t left_out; /* files that would have exceeded the limit */
};

/*
 * Reads every regular file under @dir, in the order of their paths (directory by
 * directory, names as strcmp() sorts them). Symbolic links are not followed, save
 * for @dir itself. A file that would bring the sum above @limit bytes is left out.
 * Returns 0, or -errno after a message on stderr that names the file; @corpus is to
 * be given to corpus_free() in either case.
 */
int corpus_load(struct corpus *corpus, const char *dir, size_t limit);

void corpus_free(struct corpus *corpus);

#endif
