/* SPDX-License-Identifier: MIT */
/*
 * The file that the agent of another process is to write. What is there already stays until the
 * agent has agreed: it is given a file beside it, which takes its place then. Of a pipe, a device
 * and a file whose folder is not ours it is given an unnamed one, whose contents are copied at the
 * end, for nothing but a regular file is sure not to hold the process up.
 */
#ifndef SHUNT_TOOLS_REMOTE_OUT_H
#define SHUNT_TOOLS_REMOTE_OUT_H

#include <stdbool.h>
#include <sys/stat.h>

struct remote_out {
	const char *command, *path;
	int fd;              /* for the agent; for reading, too */
	int copy_to;         /* -1: nothing is copied */
	char *temporary;     /* NULL: it has no name, or has its place */
	char *final;         /* @path without symbolic links */
	struct stat earlier; /* what was there; no st_nlink: nothing */
	bool is_guarded;     /* what others have put there since does not go */
	bool keeps_earlier;  /* nothing is copied over it */
	char *aside;         /* where what was there is, until remote_out_settle() */
};

/* 0, or -1 having complained for @command. */
int remote_out_open(struct remote_out *out, const char *command, const char *path);

/* The same with an unnamed file, which is nobody's at the end. */
int remote_out_open_unnamed(struct remote_out *out, const char *command);

/* The agent has agreed: the file that was there goes. 0, or -1 having complained. */
int remote_out_take_place(struct remote_out *out);

/* In two steps: it goes aside, beside the new one; and goes, if it is not kept. */
int remote_out_take_place_of_aside(struct remote_out *out);
void remote_out_settle(struct remote_out *out);

/* Behind that: whether it is still there, under its name. */
bool remote_out_is_there(const struct remote_out *out);

/* There was a file, and it stays as it was, or is there again. */
void remote_out_keep_earlier(struct remote_out *out);

/* Copy what is to be copied, and close. 0, or -1 having complained. */
int remote_out_finish(struct remote_out *out);

/* Nothing has come of it: what was there stays. */
void remote_out_discard(struct remote_out *out);

/* Copy @from, from *@offset to its end as it is now, to @to. 0 or -errno. */
int remote_out_copy(int from, long long *offset, int to);

#endif
