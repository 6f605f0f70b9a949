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
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <unistd.h>

#include "shunt.h"
#include "trace/format.h"
#include "trace/tell.h"
#include "trace_tally.h"

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

/* It goes to a terminal. */
static void take_why(struct trace_words *w, const char *text)
{
	size_t n = 0;

	for (; text[n] && n < sizeof(w->why) - 1; n++)
		w->why[n] = (char)(text[n] >= ' ' && text[n] < 127 ? text[n] : '?');
	w->why[n] = '\0';
}

static struct trace_tally tally_of(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct trace_tally tally = {0};

	if (fd < 0)
		return tally;
	trace_tally(fd, &tally);
	(void)close(fd);
	return tally;
}

/* The command has become another program. */
static void take_image(struct trace_words *w, bool is_open)
{
	w->is_unsaid |= w->is_open && !tally_of(w->own).at_exec;
	w->is_open = is_open;
	w->own[0] = '\0';
}

static void take_word(struct trace_words *w, const struct trace_word *word)
{
	bool is_own = word->pid == w->pid;

	w->any = true;
	trace_images_take(&w->left_out, word);
	switch (word->kind & ~TRACE_WORD_LATE) {
	case TRACE_WORD_STARTED:
		w->started = true;
		w->functions = word->n > w->functions ? word->n : w->functions;
		if (is_own) {
			take_image(w, true);
			w->has_own = w->goes_on = false;
			w->images++;
		}
		break;
	case TRACE_WORD_NOTHING:
		if (is_own)
			take_image(w, false);
		w->nothing = word->n > w->nothing ? word->n : w->nothing;
		break;
	case TRACE_WORD_REFUSED:
		w->failed = true;
		tool_complain("trace: process %d: %s", (int)word->pid, word->text);
		break;
	case TRACE_WORD_FILE:
		w->has_file = true;
		w->has_own |= is_own;
		if (is_own)
			(void)snprintf(w->own, sizeof(w->own), "%s", word->text);
		break;
	case TRACE_WORD_FAILED:
		w->failed = true;
		w->is_open &= !is_own;
		if (!strcmp(word->text, TRACE_WORD_SAVE))
			tool_complain("trace: process %d: what it keeps could not be saved: %s",
				      (int)word->pid, strerror(word->error));
		else
			tool_complain("trace: process %d: the file of its session: %s: %s; it is "
				      "not recorded any further",
				      (int)word->pid, word->text, strerror(word->error));
		break;
	case TRACE_WORD_ENDED:
		w->is_open &= !is_own;
		break;
	case TRACE_WORD_GOES_ON:
		w->is_open |= is_own;
		w->goes_on |= is_own;
		break;
	case TRACE_WORD_LOST:
		w->lost += word->n;
		break;
	case TRACE_WORD_UNUSABLE:
		take_why(w, word->text);
		break;
	case TRACE_WORD_UNTOLD:
		w->untold += word->n;
		break;
	case TRACE_WORD_NO_RETURN:
		w->no_return += word->n;
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
	struct statvfs fs;

	/* Else the kernel ignores these bits. */
	return !stat(path, &st) && !statvfs(path, &fs) && !(fs.f_flag & ST_NOSUID) &&
	       prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1 &&
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
		tool_complain("trace: the file of %s gives it other rights: the recorder is not "
			      "loaded into it, and nothing is recorded",
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
	else if (w->why[0])
		tool_complain("trace: no function of %s can be traced: %s", name, w->why);
	else
		tool_complain("trace: no function of %s can be traced: " TRACE_NO_ENTRIES, name);
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

enum { LAST_MAX = 4200 };

/* The file of its last image that has one. */
static void find_last(const struct trace_words *w, const struct trace_run *run, char last[LAST_MAX])
{
	char next[LAST_MAX];

	(void)snprintf(last, LAST_MAX, "%s", run->file);
	(void)snprintf(next, sizeof(next), "%s.%d", run->file, (int)w->pid);
	for (int image = 2; !access(next, F_OK); image++) {
		memcpy(last, next, sizeof(next));
		(void)snprintf(next, sizeof(next), "%s.%d.%d", run->file, (int)w->pid, image);
	}
}

/*
 * It has not said so: for want of a descriptor. Its last image's file counts: its end, but of a
 * save, which has one always, only that it was the last.
 */
static bool has_ended_unsaid(const struct trace_words *w, const struct trace_run *run, int status)
{
	char last[LAST_MAX];
	struct trace_tally tally;
	bool has_ended, is_at_exec;

	if (w->images > 1 && !w->has_own)
		return false;
	find_last(w, run, last);
	tally = tally_of(last);
	has_ended = tally.ended && (!run->is_flight || tally.is_last);
	is_at_exec = tally.at_exec || (tally.ended && tally.is_before_exec && !w->goes_on);
	return (!WIFSIGNALED(status) && has_ended) || is_at_exec;
}

static void no_call(const struct trace_words *w, const struct trace_run *run, const char *left)
{
	char which[64] = "the one function that is";

	if (w->functions != 1)
		(void)snprintf(which, sizeof(which), "the %llu functions that are",
			       (unsigned long long)w->functions);
	tool_complain("trace: no call of %s traced %s: %s%s%s", which,
		      run->has_min ? "took as long as --min" : "was seen", left,
		      w->why[0] ? "; " : "", w->why);
}

static bool is_file(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISREG(st.st_mode);
}

bool trace_words_end(struct trace_words *w, const struct trace_run *run, char **command, int status)
{
	char buf[128], left[4300] = "", last[LAST_MAX];
	bool is_new = trace_place_end(run->place, run->file, left, sizeof(left));
	bool is_open = w->is_open && !(is_new && has_ended_unsaid(w, run, status));
	bool has_left_out;

	trace_images_look(&w->left_out);
	if (w->fd >= 0)
		trace_words_read(w);
	has_left_out = trace_images_end(&w->left_out);
	find_last(w, run, last);
	trace_place_sweep(run->place,
			  is_open && is_new && (w->images <= 1 || w->has_own) ? last : NULL);
	if (w->lost)
		tool_complain("trace: %llu event%s lost%s", (unsigned long long)w->lost,
			      w->lost == 1 ? " is" : "s are",
			      is_file(run->file) ? "; shunt report says in which threads" : "");
	if (w->no_return)
		tool_complain("trace: %llu call%s recorded without a return: what %s took is in "
			      "the time of the callers' own",
			      (unsigned long long)w->no_return, w->no_return == 1 ? " is" : "s are",
			      w->no_return == 1 ? "it" : "they");
	if (w->untold)
		tool_complain("trace: %llu more messages of processes that could not send them, "
			      "for want of a descriptor say, are not kept: calls of theirs, or "
			      "their programs, may be missing",
			      (unsigned long long)w->untold);
	if (w->failed || w->untold)
		return false;
	if (w->is_unsaid)
		tool_complain("trace: %s executed another program without saying so: what it "
			      "called before may be missing%s%s",
			      command[0], left[0] ? ", and " : "", left);
	if (w->is_unsaid && !is_open)
		return false;
	if (is_open && is_new && w->images > 1 && !w->has_own) {
		trace_place_remove(last);
		tool_complain("trace: %s %s before anything of its last program was written; "
			      "%s is of what ran before that",
			      command[0], how_it_ended(status, buf, sizeof(buf)), run->file);
		return false;
	}
	if (is_open && is_new) {
		tool_complain("trace: %s %s: %s ends early, and its last calls may be missing",
			      command[0], how_it_ended(status, buf, sizeof(buf)), last);
		return false;
	}
	if (!is_open && (is_new || w->has_file))
		return true;
	if (is_open)
		tool_complain("trace: %s %s %s: %s", command[0],
			      how_it_ended(status, buf, sizeof(buf)),
			      w->has_own ? "and what it had written is gone"
					 : "before anything was written",
			      left);
	else if (w->started)
		no_call(w, run, left);
	else if (!has_left_out) /* else it has been said */
		why_nothing(w, run, command[0]);
	return false;
}
