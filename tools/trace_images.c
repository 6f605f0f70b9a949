/* SPDX-License-Identifier: MIT */
#include "trace_images.h"

#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "proc_status.h"
#include "shunt.h"

enum { NAME = 200 };

struct trace_image {
	pid_t pid;
	unsigned left_out; /* enum trace_left_out */
	bool has_ended;    /* its process */
	char name[NAME];
};

/* The last one of @pid. */
static struct trace_image *find(struct trace_images *images, pid_t pid)
{
	struct trace_image *image = images->executed.data;

	for (size_t i = images->executed.n; i > 0; i--)
		if (image[i - 1].pid == pid)
			return &image[i - 1];
	return NULL;
}

/* What it says is of another program, which it has executed. */
static bool is_silent(const struct trace_image *image)
{
	return image->left_out != TRACE_NOT_LEFT_OUT && image->left_out != TRACE_LEFT_OUT_RIGHTS;
}

/* It goes to a terminal. */
static void set_name(struct trace_image *image, const char *name)
{
	size_t n = 0;

	for (; name[n] && n < NAME - 1; n++)
		image->name[n] = (char)(iscntrl((unsigned char)name[n]) ? '?' : name[n]);
	image->name[n] = '\0';
}

static bool has_begun_in(const struct trace_images *images, pid_t pid)
{
	const pid_t *begun = images->begun.data;

	for (size_t i = 0; i < images->begun.n; i++)
		if (begun[i] == pid)
			return true;
	return false;
}

static void add(struct trace_images *images, const struct trace_word *word)
{
	struct trace_image new = {.pid = (pid_t)word->n}, *image = find(images, new.pid);

	/* Another process tells of it, later than it may itself. */
	bool is_late = new.pid != word->pid || (word->kind & TRACE_WORD_LATE) != 0;

	if (is_late && !word->error && has_begun_in(images, new.pid))
		return;
	if (!image || is_silent(image))
		image = array_add(&images->executed, &new, sizeof(new));
	if (!image)
		return;
	image->left_out = (unsigned)word->error;
	image->has_ended = false;
	set_name(image, word->text);
}

/* Those in front of it stay the first. */
static void forget_last(struct trace_images *images, pid_t pid)
{
	struct trace_image *image = find(images, pid), *all = images->executed.data;

	images->executed.n--;
	for (; image < all + images->executed.n; image++)
		image[0] = image[1];
}

void trace_images_take(struct trace_images *images, const struct trace_word *word)
{
	switch (word->kind & ~TRACE_WORD_LATE) {
	case TRACE_WORD_EXECUTES:
		add(images, word);
		break;
	case TRACE_WORD_NOT_EXECUTED:
		if (find(images, (pid_t)word->n))
			forget_last(images, (pid_t)word->n);
		break;
	case TRACE_WORD_STARTED:
	case TRACE_WORD_NOTHING:
	case TRACE_WORD_REFUSED:
		(void)array_add(&images->begun, &word->pid, sizeof(word->pid));
		if (find(images, word->pid) && !is_silent(find(images, word->pid)))
			forget_last(images, word->pid);
		break;
	default:
		break;
	}
}

static const char *reason(unsigned left_out)
{
	static const char *const reasons[] = {
		[TRACE_NOT_LEFT_OUT] = "the recorder (libshunt-trace.so.0) has not begun in it",
		[TRACE_LEFT_OUT_STATIC] = "it is linked statically",
		[TRACE_LEFT_OUT_MUSL] = "it is linked to musl, and the recorder to glibc",
		[TRACE_LEFT_OUT_CPU] = "its file is of 32 bits, or for another CPU",
		[TRACE_LEFT_OUT_LIBRARY] = "the recorder (libshunt-trace.so.0) cannot be opened "
					   "where it runs",
		[TRACE_LEFT_OUT_SHELL] = "system() or popen() handed over the environment of its "
					 "program, which has no LD_PRELOAD, or no SHUNT_TRACE_FILE",
		[TRACE_LEFT_OUT_RIGHTS] = "its file gives it other rights",
		[TRACE_LEFT_OUT_TAKEN] = "its environment has SHUNT_TRACE_FILE, and no LD_PRELOAD",
		[TRACE_LEFT_OUT_NO_ROOM] = "its environment and arguments leave no room for "
					   "LD_PRELOAD and SHUNT_TRACE_FILE, which it lacks",
		[TRACE_LEFT_OUT_FOLDER] = "a relative name led to its file, behind file actions of "
					  "posix_spawn(), which may change the folder",
		[TRACE_LEFT_OUT_RESET] = "POSIX_SPAWN_RESETIDS of posix_spawn() has changed its "
					 "rights",
	};

	return reasons[left_out < sizeof(reasons) / sizeof(reasons[0]) ? left_out
								       : TRACE_NOT_LEFT_OUT];
}

void trace_images_look(struct trace_images *images)
{
	struct trace_image *image = images->executed.data;
	struct proc_status status;

	for (size_t i = 0; i < images->executed.n; i++)
		image[i].has_ended = proc_status_read(image[i].pid, &status) || status.state == 'Z';
}

bool trace_images_end(struct trace_images *images)
{
	const struct trace_image *image = images->executed.data, *first = NULL;
	char more[64] = "";
	size_t n = 0;

	for (size_t i = 0; i < images->executed.n; i++) {
		if (!image[i].has_ended && !image[i].left_out)
			continue;
		first = first ? first : &image[i];
		n++;
	}
	if (n > 2)
		(void)snprintf(more, sizeof(more), "; nor are %zu more programs", n - 1);
	if (n)
		tool_complain("trace: %s was executed and is not recorded: %s%s", first->name,
			      reason(first->left_out), n == 2 ? "; nor is one more program" : more);
	array_free(&images->executed);
	array_free(&images->begun);
	return n != 0;
}
