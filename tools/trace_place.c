/* SPDX-License-Identifier: MIT */
#include "trace_place.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shunt.h"
#include "trace/format.h"
#include "trace_end.h"
#include "trace_tally.h"

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

static size_t folder_of(const char *file)
{
	const char *slash = strrchr(file, '/');

	return slash ? (size_t)(slash - file) + 1 : 0;
}

/* Beside it. A name that has no room for more is left out. */
static char *name_beside(const char *file, const char *what)
{
	const char *name = file + folder_of(file);
	char *path = NULL;

	if (asprintf(&path, "%.*s%s.%s-%d", (int)folder_of(file), file,
		     strlen(name) + strlen(what) + 12 > NAME_MAX ? "" : name, what,
		     (int)getpid()) < 0)
		return NULL;
	return path;
}

/* The recorder makes a file of its own: what is there goes aside. */
static int put_aside(struct trace_place *place, const char *file, bool was_there)
{
	int err = 0;

	place->earlier = was_there ? name_beside(file, "earlier") : NULL;
	if (was_there && !place->earlier)
		return -ENOMEM;
	if (was_there ? rename(file, place->earlier) : unlink(file))
		err = -errno;
	if (!err)
		return 0;
	free(place->earlier);
	place->earlier = NULL;
	place->refused = "what is there cannot be moved aside";
	return err;
}

int trace_place_take(struct trace_place *place, char **file)
{
	struct stat st;
	bool was_there = !stat(*file, &st);
	int fd;

	(void)clock_gettime(CLOCK_REALTIME_COARSE, &place->since);
	/* A pipe's reader would see its end. */
	if (was_there && !S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : access(*file, W_OK) ? -errno : 0;
	fd = open(*file, O_WRONLY | (was_there ? 0 : O_CREAT) | O_CLOEXEC, 0666);
	if (fd < 0) {
		if (!was_there && (errno == EACCES || errno == EROFS))
			place->refused = "it cannot be made";
		return -errno;
	}
	(void)close(fd);
	follow_link(file);
	place->file = *file;
	return !lstat(*file, &st) && S_ISREG(st.st_mode) ? put_aside(place, *file, was_there) : 0;
}

void trace_place_complain(const struct trace_place *place, const char *file, int error)
{
	int n = (int)folder_of(file);

	if (place->refused)
		tool_complain("trace: %s: %s in the folder %.*s: %s; nothing has been run", file,
			      place->refused, n > 1 ? n - 1 : 1, n ? file : ".", strerror(-error));
	else
		tool_complain("trace: %s: %s", file, strerror(-error));
}

/* The beginning of a session: a header, and the chunk that says what it is of. */
static enum trace_place_state look_into(int fd)
{
	struct trace_header header = {.magic = ""};
	struct trace_chunk chunk;
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st) || !S_ISREG(st.st_mode))
		return TRACE_PLACE_OTHER;
	n = pread(fd, &header, sizeof(header), 0);
	if (n < 0 || memcmp(header.magic, TRACE_MAGIC,
			    (size_t)n < sizeof(header.magic) ? (size_t)n : sizeof(header.magic)))
		return TRACE_PLACE_OTHER;
	if (n < (ssize_t)sizeof(header) ||
	    pread(fd, &chunk, sizeof(chunk), header.header_size) != (ssize_t)sizeof(chunk) ||
	    chunk.size > (uint64_t)st.st_size - header.header_size - sizeof(chunk))
		return TRACE_PLACE_NOTHING;
	return TRACE_PLACE_BEGUN;
}

static int open_to_look(const char *file)
{
	struct stat st;

	/* To open a device may do something. */
	if (stat(file, &st) || !S_ISREG(st.st_mode))
		return -1;
	return open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}

enum trace_place_state trace_place_look(const char *file)
{
	int fd = open_to_look(file);
	enum trace_place_state state;

	if (fd < 0)
		return access(file, F_OK) ? TRACE_PLACE_NOTHING : TRACE_PLACE_OTHER;
	state = look_into(fd);
	(void)close(fd);
	return state;
}

/* The kernel gives no lease on what somebody has open for writing: a process that goes on behind
 * the command, and is about to write there. */
bool trace_place_is_written(const char *file)
{
	int fd = open_to_look(file);
	bool is_open;

	if (fd < 0)
		return false;
	is_open = fcntl(fd, F_SETLEASE, F_RDLCK) && errno == EAGAIN;
	(void)close(fd);
	return is_open;
}

void trace_place_remove(const char *file)
{
	if (trace_place_look(file) == TRACE_PLACE_NOTHING && !trace_place_is_written(file))
		(void)unlink(file);
}

/* What follows PATH in the names of files that its session makes: ".PID", ".PID.N", and ".new-PID"
 * behind any of these. Returns that last part, which may be empty; NULL: it is another's. */
static const char *find_new(const char *rest)
{
	for (int i = 0; i < 2 && rest[0] == '.' && isdigit((unsigned char)rest[1]); i++)
		rest += 1 + strspn(rest + 1, "0123456789");
	if (!*rest)
		return rest;
	if (strncmp(rest, ".new-", 5) || !isdigit((unsigned char)rest[5]) ||
	    rest[5 + strspn(rest + 5, "0123456789")])
		return NULL;
	return rest;
}

static bool is_own(const char *file, struct stat *st)
{
	return !lstat(file, st) && S_ISREG(st->st_mode) && st->st_uid == geteuid();
}

static bool is_of_session(const struct trace_place *place, const char *file)
{
	struct stat st;

	return is_own(file, &st) && (st.st_ctim.tv_sec > place->since.tv_sec ||
				     (st.st_ctim.tv_sec == place->since.tv_sec &&
				      st.st_ctim.tv_nsec >= place->since.tv_nsec));
}

/* It has begun. Behind an exec() nothing need follow. @is_command: of the command's own others say
 * how it ended. */
static void complain_of_end(const char *file, bool is_command)
{
	int fd = open_to_look(file);
	struct trace_tally tally;

	if (fd < 0)
		return;
	trace_tally(fd, &tally);
	(void)close(fd);
	if (tally.ended || tally.at_exec || (is_command && !tally.is_past_exec))
		return;
	if (tally.failure)
		tool_complain("trace: %s has no end: writing it failed: %s", file,
			      strerror(tally.failure));
	else
		tool_complain("trace: %s has no end: its process %s; its last calls may be missing",
			      file, tally.is_past_exec ? TRACE_PAST_EXEC : TRACE_NO_END);
}

/* @new: the part of its name that it would have lost. */
static void sweep_one(const struct trace_place *place, const char *file, const char *new,
		      const char *told)
{
	struct stat st;

	if (!is_of_session(place, file)) {
		if (*new &&is_own(file, &st) && !trace_place_is_written(file))
			tool_complain(
				"trace: %s is left of a save that was killed before this session",
				file);
		return;
	}
	trace_place_remove(file);
	if (!*new && !(told && !strcmp(file, told)) &&
	    trace_place_look(file) == TRACE_PLACE_BEGUN && !trace_place_is_written(file))
		complain_of_end(file, false);
	if (*new && !access(file, F_OK) && !trace_place_is_written(file))
		tool_complain("trace: process %s was killed while it saved: %s is what it had "
			      "written, %.*s what it saved before",
			      new + strlen(".new-"), file, (int)(new - file), file);
}

void trace_place_sweep(const struct trace_place *place, const char *told)
{
	const char *slash = place->file ? strrchr(place->file, '/') : NULL;
	size_t folder = slash ? (size_t)(slash - place->file) + 1 : 0;
	char *path = NULL;
	struct dirent *entry;
	DIR *dir;

	if (place->file && trace_place_look(place->file) == TRACE_PLACE_BEGUN &&
	    !trace_place_is_written(place->file))
		complain_of_end(place->file, true);
	if (!slash || asprintf(&path, "%.*s", (int)folder, place->file) < 0)
		return;
	dir = opendir(path);
	free(path);
	while (dir && (entry = readdir(dir))) {
		size_t n = strlen(slash + 1);

		if (strncmp(entry->d_name, slash + 1, n) || !entry->d_name[n] ||
		    !find_new(entry->d_name + n) ||
		    asprintf(&path, "%.*s%s", (int)folder, place->file, entry->d_name) < 0)
			continue;
		sweep_one(place, path, find_new(path + folder + n), told);
		free(path);
	}
	if (dir)
		(void)closedir(dir);
}

static void forget(struct trace_place *place)
{
	free(place->earlier);
	place->earlier = NULL;
}

/* Of a save: it is there whole. What is written as it happens takes an earlier one's place at once.
 */
static bool is_begun(const struct trace_place *place)
{
	bool is_whole;
	int fd;

	if (trace_place_look(place->file) != TRACE_PLACE_BEGUN)
		return false;
	fd = place->is_save ? open_to_look(place->file) : -1;
	if (fd < 0)
		return !place->is_save;
	is_whole = trace_words_has_end(fd) && !trace_words_failure(fd);
	(void)close(fd);
	return is_whole;
}

void trace_place_settle(struct trace_place *place)
{
	if (!place->earlier || !is_begun(place))
		return;
	(void)unlink(place->earlier);
	forget(place);
}

/* A save that is not whole does not take an earlier one's place. */
static void put_cut_aside(const struct trace_place *place)
{
	char *cut = name_beside(place->file, "cut");

	if (cut && !rename(place->file, cut))
		tool_complain("trace: the save is not whole: what there is of it is %s", cut);
	free(cut);
}

/* Whether it is there again. */
static bool put_back(struct trace_place *place)
{
	bool is_back =
		!renameat2(AT_FDCWD, place->earlier, AT_FDCWD, place->file, RENAME_NOREPLACE) ||
		(access(place->file, F_OK) && !rename(place->earlier, place->file));

	if (!is_back)
		tool_complain("trace: the earlier %s is %s now", place->file, place->earlier);
	forget(place);
	return is_back;
}

bool trace_place_end(struct trace_place *place, const char *file, char *left, size_t size)
{
	enum trace_place_state state = trace_place_look(file);
	bool is_nothing = state == TRACE_PLACE_NOTHING, was_there = place->earlier;
	bool is_written = is_nothing && trace_place_is_written(file);

	left[0] = '\0';
	trace_place_settle(place);
	if (place->earlier && place->is_save && state == TRACE_PLACE_BEGUN &&
	    !trace_place_is_written(file))
		put_cut_aside(place);
	if (is_nothing && place->file && !is_written)
		(void)unlink(file);
	if (place->earlier && put_back(place))
		(void)snprintf(left, size, "%s is as it was", file);
	else if (is_written)
		(void)snprintf(left, size, "nothing is in %s yet", file);
	else if (is_nothing)
		(void)snprintf(left, size, "there is no %s", file);
	else if (was_there && state == TRACE_PLACE_OTHER)
		(void)snprintf(left, size, "%s is not of a session", file);
	return !left[0];
}
