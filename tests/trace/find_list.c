/* SPDX-License-Identifier: MIT */
/*
 * What the finder says of a file, a line an entry and a function:
 *
 *	entry IP FUNC NAME KIND FORM PREPARE LEN [WHY]
 *	function START NAME [cold]
 *
 * With two files: the first one's text as it stands in the second, as if that were in memory.
 * With --damage SEED: the finder reads copies of it with a byte changed, and cut off; no output.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <shunt/port.h>

#include "linux/base/base.h"
#include "linux/entry/finder.h"

void *shunt_port_alloc(size_t size)
{
	return calloc(1, size);
}

void shunt_port_free(void *p, size_t size)
{
	(void)size;
	free(p);
}

void *shunt_memory_grow(void *p, size_t from, size_t to)
{
	char *more = realloc(p, to);

	if (more)
		memset(more + from, 0, to - from);
	return more;
}

static uint8_t *load(const char *path, size_t *size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	uint8_t *image;

	if (fd < 0 || fstat(fd, &st))
		exit(2);
	*size = (size_t)st.st_size;
	image = malloc(*size + 1);
	if (!image || read(fd, image, *size) != (ssize_t)*size)
		exit(2);
	close(fd);
	return image;
}

static bool read_other(const struct shunt_find *f, void *to, uint64_t vaddr, size_t len)
{
	const uint8_t *code = shunt_elf_at(f->arg, vaddr, len);

	if (code)
		memcpy(to, code, len);
	return code != NULL;
}

static const char *name_of(const struct shunt_find *f, uint64_t start)
{
	const struct shunt_found_function *fn = f->functions.data;

	for (size_t i = 0; i < f->functions.n; i++)
		if (fn[i].start == start)
			return fn[i].name;
	return "-";
}

static void print(const struct shunt_find *f)
{
	static const char *const kinds[] = {"none", "patchable", "fentry", "xray", "instrument"};
	static const char *const forms[] = {"head", "call",        "return",
					    "tail", "call-return", "jump-return"};
	static const char *const prepares[] = {"ready", "single-nops", "xray-head", "long-nop"};
	const struct shunt_found_function *fn = f->functions.data;
	const struct shunt_found_entry *e = f->entries.data;

	for (size_t i = 0; i < f->entries.n; i++)
		printf("entry %#lx %#lx %s %s %s %s %u %s\n", e[i].ip, e[i].func,
		       name_of(f, e[i].func), kinds[e[i].kind], forms[e[i].form],
		       prepares[e[i].prepare], e[i].len, e[i].why ? e[i].why : "");
	for (size_t i = 0; i < f->functions.n; i++)
		printf("function %#lx %s%s\n", fn[i].start, fn[i].name,
		       fn[i].is_cold ? " cold" : "");
}

static int find(const uint8_t *image, size_t size, const struct shunt_elf *live, bool quiet)
{
	struct shunt_find f = {.arg = live, .read = live ? read_other : NULL};
	struct shunt_elf elf;
	int ret = shunt_elf_open(&elf, image, size);

	if (ret)
		return ret;
	f.elf = &elf;
	ret = shunt_find(&f);
	if (!quiet)
		print(&f);
	shunt_find_free(&f);
	return ret;
}

/* Copies of exactly their size, so that a sanitizer sees what is read behind their end. */
static void damage(const uint8_t *image, size_t size, unsigned seed)
{
	srandom(seed);
	for (unsigned i = 0; i < 300; i++) {
		size_t len = i % 3 ? size : (size_t)random() % size;
		uint8_t *copy = malloc(len ? len : 1);

		memcpy(copy, image, len);
		/* Headers and tables more than text. */
		for (unsigned k = 0; len && k < i % 5 + 1; k++) {
			size_t at = (size_t)random() % len;

			if (i % 2 && len > 4096)
				at = i % 4 == 1 ? at % 1024 : len - 1 - at % 4096;
			copy[at] = (uint8_t)random();
		}
		(void)find(copy, len, NULL, true);
		free(copy);
	}
}

int main(int argc, char **argv)
{
	struct shunt_elf live;
	size_t size, other_size;
	uint8_t *image, *other = NULL;
	int ret;

	if (argc == 4 && !strcmp(argv[1], "--damage")) {
		image = load(argv[3], &size);
		damage(image, size, (unsigned)strtoul(argv[2], NULL, 0));
		free(image);
		return 0;
	}
	if (argc < 2)
		return 2;
	image = load(argv[1], &size);
	if (argc > 2) {
		other = load(argv[2], &other_size);
		if (shunt_elf_open(&live, other, other_size))
			return 2;
	}
	ret = find(image, size, argc > 2 ? &live : NULL, false);
	free(image);
	free(other);
	if (ret)
		fprintf(stderr, "error %d\n", ret);
	return ret != 0;
}
