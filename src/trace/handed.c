/* SPDX-License-Identifier: MIT */
/*
 * A program that gives another one an environment of its own would leave the recorder out of it.
 * So execs.c gives that one a copy in which SHUNT_TRACE_* and LD_PRELOAD are. Where somebody has
 * taken LD_PRELOAD out, and left SHUNT_TRACE_FILE in, he wants that program without the recorder.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "linux/base/syscall.h"
#include "trace/handed.h"

#define PREFIX   "SHUNT_TRACE_"
#define PRELOAD  "LD_PRELOAD="
#define LISTENER PREFIX "TELL="
#define LIBRARY  "libshunt-trace.so.0"

enum { KEPT_MAX = 32 };

static const char *kept[KEPT_MAX]; /* "SHUNT_TRACE_...=..." */
static size_t nr_kept;
static const char *listener; /* one of these */
static const char *library;  /* as LD_PRELOAD names it */
static size_t library_length;

/* ---------------------------------------------------------------------- at the start */

static size_t name_length(const char *path, size_t length)
{
	size_t n = 0;

	while (n < length && path[length - 1 - n] != '/')
		n++;
	return n;
}

static bool is_library(const char *path, size_t length)
{
	size_t name = name_length(path, length);

	return name == sizeof(LIBRARY) - 1 &&
	       !memcmp(path + length - name, LIBRARY, sizeof(LIBRARY) - 1);
}

/* The part of LD_PRELOAD that is the recorder; NULL: none is. */
static const char *find_library(const char *value, size_t *length)
{
	for (; *value; value += *length + (value[*length] != '\0')) {
		*length = strcspn(value, ": ");
		if (is_library(value, *length))
			return value;
	}
	return NULL;
}

static bool is_variable(const char *text)
{
	return !strncmp(text, PREFIX, sizeof(PREFIX) - 1);
}

static bool is_preload(const char *text)
{
	return !strncmp(text, PRELOAD, sizeof(PRELOAD) - 1);
}

static char *keep(char *room, const char *text, size_t length)
{
	memcpy(room, text, length);
	room[length] = '\0';
	return room + length + 1;
}

/* A copy: the program may overwrite what it has begun with. */
void trace_handed_keep(void)
{
	const char *preload = NULL;
	size_t bytes = 0, length = 0;
	char *room;

	for (char **text = environ; *text; text++) {
		if (is_variable(*text))
			bytes += strlen(*text) + 1;
		if (is_preload(*text))
			preload = *text + sizeof(PRELOAD) - 1;
	}
	preload = preload ? find_library(preload, &length) : NULL;
	if (!preload || !bytes)
		return;
	room = mmap(NULL, bytes + length + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		    -1, 0);
	if (room == MAP_FAILED)
		return;
	for (char **text = environ; *text && nr_kept < KEPT_MAX; text++) {
		if (!is_variable(*text))
			continue;
		if (!strncmp(*text, LISTENER, sizeof(LISTENER) - 1))
			listener = room;
		kept[nr_kept++] = room;
		room = keep(room, *text, strlen(*text));
	}
	(void)keep(room, preload, length);
	library = room;
	library_length = length;
}

bool trace_handed_is_kept(void)
{
	return library != NULL;
}

/* Where it is no path it is the dynamic linker's to find. */
bool trace_handed_can_open(void)
{
	long fd;

	if (library[0] != '/')
		return true;
	fd = shunt_syscall(SYS_openat, AT_FDCWD, (long)library, O_RDONLY | O_CLOEXEC, 0);
	if (fd >= 0)
		(void)shunt_syscall(SYS_close, fd, 0, 0, 0);
	return fd != -ENOENT && fd != -EACCES && fd != -ENOTDIR;
}

/* --------------------------------------------------- environments that others hand over */

/* The last pages that were found to be readable: of the array, and of texts. */
struct reader {
	uintptr_t pages[2];
	bool has_failed;
};
#define NO_PAGE 1

static bool can_read(struct reader *reader, unsigned which, const void *at)
{
	uintptr_t page = (uintptr_t)at & ~(uintptr_t)4095;

	if (reader->has_failed)
		return false;
	/* Never of address 0, which to the kernel is that no set was given: it reads nothing. */
	if (page != reader->pages[which] && !shunt_is_readable(((uintptr_t)at & ~(uintptr_t)7) | 8))
		reader->has_failed = true;
	reader->pages[which] = page;
	return !reader->has_failed;
}

/* NUL behind what cannot be read, too: @reader says so. */
static char read_char(struct reader *reader, const char *at)
{
	return can_read(reader, 1, at) ? *at : '\0';
}

static const char *variable_at(struct reader *reader, char *const envp[], size_t i)
{
	const char *const *at = (const char *const *)envp + i;

	/* It may stand across two pages. */
	return can_read(reader, 0, at) && can_read(reader, 0, (const char *)(at + 1) - 1) ? *at
											  : NULL;
}

/* Behind @name; NULL: it begins otherwise. */
static const char *behind(struct reader *reader, const char *text, const char *name)
{
	for (; *name; text++, name++)
		if (read_char(reader, text) != *name)
			return NULL;
	return text;
}

static bool is_same(struct reader *reader, const char *text, const char *other)
{
	text = other ? behind(reader, text, other) : NULL;
	return text && !read_char(reader, text);
}

static size_t read_length(struct reader *reader, const char *text)
{
	size_t n = 0;

	while (read_char(reader, text + n))
		n++;
	return n;
}

void trace_handed_look(struct trace_handed *handed, char *const envp[])
{
	struct reader reader = {.pages = {NO_PAGE, NO_PAGE}};
	bool has_file = false, names_file = false, has_library = false;
	bool has_listener = false, has_other = false; /* somebody else listens */
	const char *text, *value;
	size_t length;

	memset(handed, 0, sizeof(*handed));
	handed->preload_at = SIZE_MAX;
	if (!library)
		return;
	for (; envp && (text = variable_at(&reader, envp, handed->n)); handed->n++) {
		value = behind(&reader, text, PREFIX "FILE=");
		has_file |= value != NULL;
		names_file |= value && read_char(&reader, value);
		value = behind(&reader, text, LISTENER);
		has_listener |= value && is_same(&reader, text, listener);
		has_other |=
			value && read_char(&reader, value) && !is_same(&reader, text, listener);
		value = behind(&reader, text, PRELOAD);
		if (!value)
			continue;
		handed->preload_at = handed->n;
		handed->preload_length = read_length(&reader, value);
		has_library = !reader.has_failed && find_library(value, &length);
	}
	if (reader.has_failed)
		return;
	if (handed->preload_at == SIZE_MAX)
		handed->preload_at = handed->n;
	handed->is_taken_out = has_file && !handed->preload_length;
	handed->is_others = names_file && has_other && !has_listener;
	handed->is_unheard = names_file && !has_other && !has_listener && !handed->is_taken_out;
	handed->lacks_variables = !has_file;
	handed->lacks_library = !has_library && !handed->is_taken_out;
	if (!handed->lacks_variables && !handed->lacks_library)
		return;
	handed->bytes = (handed->n + nr_kept + 2) * sizeof(char *) + sizeof(PRELOAD) +
			library_length + 1 + handed->preload_length;
}

static char *append(char *to, const char *from, size_t length)
{
	memcpy(to, from, length);
	return to + length;
}

char *const *trace_handed_add(const struct trace_handed *handed, char *const envp[], void *room)
{
	char **to = room;
	size_t n = 0;
	char *preload = (char *)(to + handed->n + nr_kept + 2), *at = preload;

	for (size_t i = 0; i < nr_kept && handed->lacks_variables; i++)
		to[n++] = (char *)(uintptr_t)kept[i];
	for (size_t i = 0; i < handed->n; i++)
		if (!handed->lacks_library || i != handed->preload_at)
			to[n++] = envp[i];
	if (handed->lacks_library) {
		at = append(at, PRELOAD, sizeof(PRELOAD) - 1);
		at = append(at, library, library_length);
		if (handed->preload_length) {
			*at++ = ':';
			at = append(at, envp[handed->preload_at] + sizeof(PRELOAD) - 1,
				    handed->preload_length);
		}
		*at = '\0';
		to[n++] = preload;
	}
	to[n] = NULL;
	return to;
}
