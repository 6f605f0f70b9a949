/* SPDX-License-Identifier: MIT */
#include "trace_words.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "shunt.h"
#include "trace/format.h"
#include "trace/tell.h"

/* --------------------------------------------------------------------------- listen */

/* The kernel finds a name that nobody has: a NUL and five digits. */
void trace_words_open(struct trace_words *words)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	socklen_t size = sizeof(address);
	char name[TRACE_NAME_MAX] = "";

	words->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (words->fd >= 0 && !bind(words->fd, (struct sockaddr *)&address, sizeof(sa_family_t)) &&
	    !getsockname(words->fd, (struct sockaddr *)&address, &size) &&
	    size > offsetof(struct sockaddr_un, sun_path) + 1 &&
	    size < offsetof(struct sockaddr_un, sun_path) + sizeof(name))
		memcpy(name, address.sun_path + 1,
		       size - offsetof(struct sockaddr_un, sun_path) - 1);
	if (*name && !setenv("SHUNT_TRACE_TELL", name, 1))
		return;
	(void)unsetenv("SHUNT_TRACE_TELL");
	if (words->fd >= 0)
		(void)close(words->fd);
	words->fd = -1;
}

static void take_word(struct trace_words *w, const struct trace_word *word)
{
	w->any = true;
	switch (word->kind) {
	case TRACE_WORD_STARTED:
		w->started = true;
		w->functions = word->n > w->functions ? word->n : w->functions;
		w->is_open |= word->pid == w->pid;
		break;
	case TRACE_WORD_NOTHING:
		w->is_open &= word->pid != w->pid; /* it has become another program */
		w->nothing = word->n > w->nothing ? word->n : w->nothing;
		break;
	case TRACE_WORD_REFUSED:
		w->failed = true;
		tool_complain("trace: process %d: %s", (int)word->pid, word->text);
		break;
	case TRACE_WORD_FILE:
		w->has_file = true;
		break;
	case TRACE_WORD_FAILED:
		w->failed = true;
		w->is_open &= word->pid != w->pid;
		tool_complain("trace: process %d: the file of its session: %s: %s; it is not "
			      "recorded any further",
			      (int)word->pid, word->text, strerror(word->error));
		break;
	case TRACE_WORD_ENDED:
		w->is_open &= word->pid != w->pid;
		break;
	case TRACE_WORD_LOST:
		w->lost += word->n;
		break;
	default:
		break;
	}
}

void trace_words_read(struct trace_words *words)
{
	struct trace_word word;

	for (;;) {
		ssize_t n = recv(words->fd, &word, sizeof(word), 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return;
		if ((size_t)n <= offsetof(struct trace_word, text) ||
		    word.magic != TRACE_WORD_MAGIC)
			continue;
		((char *)&word)[n - 1] = '\0';
		take_word(words, &word);
	}
}

/* ---------------------------------------------------- programs that cannot be recorded */

/* The name of the dynamic linker of the program at @path, "" where it has none. false: it is no
 * program for this machine. */
static bool read_interpreter(const char *path, char *name, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	Elf64_Ehdr head;
	Elf64_Phdr phdr;
	bool is_read;

	name[0] = '\0';
	if (fd < 0)
		return false;
	is_read = pread(fd, &head, sizeof(head), 0) == (ssize_t)sizeof(head) &&
		  !memcmp(head.e_ident, ELFMAG, SELFMAG) && head.e_ident[EI_CLASS] == ELFCLASS64 &&
		  head.e_phentsize == sizeof(phdr);
	for (unsigned i = 0; is_read && i < head.e_phnum; i++) {
		off_t at = (off_t)(head.e_phoff + (uint64_t)i * sizeof(phdr));

		is_read = pread(fd, &phdr, sizeof(phdr), at) == (ssize_t)sizeof(phdr);
		if (is_read && phdr.p_type == PT_INTERP) {
			ssize_t n = pread(fd, name, size - 1, (off_t)phdr.p_offset);

			is_read = n > 0;
			name[is_read ? n : 0] = '\0';
			break;
		}
	}
	(void)close(fd);
	return is_read;
}

static bool is_static(const char *path)
{
	char name[256];

	return read_interpreter(path, name, sizeof(name)) && !name[0];
}

static bool has_other_rights(const char *path)
{
	struct stat st;

	return !stat(path, &st) &&
	       (((st.st_mode & S_ISUID) && st.st_uid != geteuid()) ||
		((st.st_mode & S_ISGID) && (st.st_mode & S_IXGRP) && st.st_gid != getegid()));
}

/* Where execvp() finds @name; @name itself where it has a slash, or nothing is found. */
static void find_program(const char *name, char *path, size_t size)
{
	const char *folder = getenv("PATH");

	(void)snprintf(path, size, "%s", name);
	if (strchr(name, '/'))
		return;
	for (folder = folder ? folder : "/bin:/usr/bin"; folder;) {
		size_t n = strcspn(folder, ":");

		if (n < size &&
		    snprintf(path, size, "%.*s/%s", n ? (int)n : 1, n ? folder : ".", name) <
			    (int)size &&
		    !access(path, X_OK))
			return;
		folder = folder[n] ? folder + n + 1 : NULL;
	}
	(void)snprintf(path, size, "%s", name);
}

bool trace_words_has_musl(const char *name)
{
	char path[4096], interpreter[256];

	find_program(name, path, sizeof(path));
	return read_interpreter(path, interpreter, sizeof(interpreter)) &&
	       strstr(interpreter, "/ld-musl-");
}

/* ------------------------------------------------------------------------ at the end */

static void why_silent(const char *name)
{
	char path[4096];

	find_program(name, path, sizeof(path));
	if (is_static(path))
		tool_complain("trace: %s is linked statically: the recorder cannot be loaded into "
			      "it, and nothing is recorded",
			      path);
	else if (trace_words_has_musl(name))
		tool_complain("trace: %s is linked to musl, and the recorder to glibc: it is not "
			      "loaded into it, and nothing is recorded",
			      path);
	else if (has_other_rights(path))
		tool_complain("trace: %s runs with the rights of another user: the recorder is "
			      "not loaded into it, and nothing is recorded",
			      path);
	else
		tool_complain("trace: %s has not loaded the recorder (libshunt-trace.so.0): "
			      "nothing is recorded",
			      path);
}

/* It may be executed all the same. */
static bool is_unreadable(const char *name)
{
	char path[4096];

	find_program(name, path, sizeof(path));
	return access(path, R_OK) && errno == EACCES;
}

static void why_nothing(const struct trace_words *w, const struct trace_run *run, const char *name)
{
	if (w->fd < 0 || !w->any)
		why_silent(name);
	else if (w->nothing && run->has_filters)
		tool_complain("trace: no function that the filters take was there when a process "
			      "of %s began: nothing is recorded",
			      name);
	else if (is_unreadable(name))
		tool_complain("trace: the file of %s may not be read by this user, and where its "
			      "functions are stands there: nothing is recorded",
			      name);
	else
		tool_complain("trace: no function of %s can be traced: it was compiled without "
			      "-fpatchable-function-entry=5, -pg -mfentry, -fxray-instrument or "
			      "-finstrument-functions",
			      name);
}

static const char *how_it_ended(int status, char *buf, size_t size)
{
	if (WIFSIGNALED(status))
		(void)snprintf(buf, size, "was killed by signal %d (%s)", WTERMSIG(status),
			       strsignal(WTERMSIG(status)));
	else
		(void)snprintf(buf, size, "ended without saying so");
	return buf;
}

bool trace_words_has_end(int fd)
{
	struct {
		struct trace_chunk chunk;
		struct trace_end end;
	} last;
	struct stat st;

	return !fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size > (off_t)sizeof(last) &&
	       pread(fd, &last, sizeof(last), st.st_size - (off_t)sizeof(last)) ==
		       (ssize_t)sizeof(last) &&
	       last.chunk.type == TRACE_CHUNK_END && last.chunk.size == sizeof(last.end);
}

static bool has_end(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	bool has;

	if (fd < 0)
		return false;
	has = trace_words_has_end(fd);
	(void)close(fd);
	return has;
}

/* It has not said so: for want of a descriptor. Its last image's file counts. */
static bool has_ended_unsaid(const struct trace_words *w, const struct trace_run *run, int status)
{
	char last[4200], next[sizeof(last)];

	(void)snprintf(last, sizeof(last), "%s", run->file);
	(void)snprintf(next, sizeof(next), "%s.%d", run->file, (int)w->pid);
	for (int image = 2; !access(next, F_OK); image++) {
		memcpy(last, next, sizeof(last));
		(void)snprintf(next, sizeof(next), "%s.%d.%d", run->file, (int)w->pid, image);
	}
	return !WIFSIGNALED(status) && has_end(last);
}

/* Where nothing was recorded. */
static const char *what_is_there(const struct trace_run *run, char *buf, size_t size)
{
	(void)snprintf(buf, size, run->place->earlier ? "%s is as it was" : "there is no %s",
		       run->file);
	return buf;
}

bool trace_words_end(const struct trace_words *w, const struct trace_run *run, char **command,
		     int status)
{
	bool has_file = w->has_file || !access(run->file, F_OK);
	char buf[128], left[4300];

	if (w->lost)
		tool_complain("trace: %llu event%s lost; shunt report says in which threads",
			      (unsigned long long)w->lost, w->lost == 1 ? " is" : "s are");
	if (w->failed)
		return false;
	if (w->is_open && has_file && !has_ended_unsaid(w, run, status)) {
		tool_complain("trace: %s %s: %s ends early, and its last calls may be missing",
			      command[0], how_it_ended(status, buf, sizeof(buf)), run->file);
		return false;
	}
	if (has_file)
		return true;
	if (w->is_open)
		tool_complain("trace: %s %s before anything was written: %s", command[0],
			      how_it_ended(status, buf, sizeof(buf)),
			      what_is_there(run, left, sizeof(left)));
	else if (w->started)
		tool_complain(run->has_min
				      ? "trace: no call of the %llu function%s that are traced "
					"took as long as --min: %s"
				      : "trace: no call of the %llu function%s that are traced "
					"was seen: %s",
			      (unsigned long long)w->functions, tool_plural(w->functions),
			      what_is_there(run, left, sizeof(left)));
	else
		why_nothing(w, run, command[0]);
	return false;
}
