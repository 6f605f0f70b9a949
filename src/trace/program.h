/* SPDX-License-Identifier: MIT */
/*
 * The program that is about to be executed: whether the recorder can be loaded into it, and what
 * `shunt trace` is told of that. Async-signal-safe, and good in a child of vfork().
 */
#ifndef SHUNT_TRACE_PROGRAM_H
#define SHUNT_TRACE_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trace/handed.h"
#include "trace/tell.h"

#define TRACE_PROGRAM_PATH 512 /* bytes: of one that is looked for in PATH */

/* How its file is found. */
enum {
	TRACE_PROGRAM_SEARCHED = 1,  /* in PATH */
	TRACE_PROGRAM_ELSEWHERE = 2, /* behind changes of the folder that cannot be seen */
	TRACE_PROGRAM_RESET = 4,     /* with other rights than this process has now */
};

struct trace_program {
	bool is_there;   /* it was found, or may be */
	bool is_unknown; /* it may be: its file was not judged */
	bool is_told;
	enum trace_left_out left_out;
	const char *name;
	struct trace_handed handed;
	char path[TRACE_PROGRAM_PATH];
};

/* That execveat() would execute with @envp; @how: TRACE_PROGRAM_*. */
void trace_program_look(struct trace_program *program, int dir, const char *path, int flags,
			int how, char *const envp[]);

/* The C library has executed /bin/sh with @envp, as it is. */
void trace_program_tell_of_shell(char *const envp[]);

/* Process @pid executes it; and that has failed. */
void trace_program_tell(struct trace_program *program, int32_t pid);
void trace_program_has_failed(const struct trace_program *program);

#endif
