/* SPDX-License-Identifier: MIT */
/*
 * What `shunt trace`, which waits for the command, is told by each of its processes: datagrams to
 * an abstract socket, whose name is in the environment (SHUNT_TRACE_TELL, without the NUL that it
 * begins with). Nothing in them is trusted.
 */
#ifndef SHUNT_TRACE_TELL_H
#define SHUNT_TRACE_TELL_H

#include <stdbool.h>
#include <stdint.h>

#define TRACE_WORD_MAGIC 0x4c4c4554u
#define TRACE_WORD_TEXT  1024u  /* bytes, with the NUL */
#define TRACE_NAME_MAX   64u    /* of the socket */
#define TRACE_WORD_SAVE  "save" /* in the place of a system call: what failed is a save */

enum trace_word_kind {
	TRACE_WORD_STARTED = 1,  /* a session; @n: functions that are traced */
	TRACE_WORD_NOTHING,      /* its filters leave nothing, @n functions could be traced; why */
	TRACE_WORD_REFUSED,      /* a session could not be started: why */
	TRACE_WORD_FILE,         /* the file that it is written to, which has begun */
	TRACE_WORD_FAILED,       /* writing that failed: @error, and the system call */
	TRACE_WORD_ENDED,        /* in good order; @n: events that are in the file */
	TRACE_WORD_LOST,         /* @n more events are not in the file */
	TRACE_WORD_NO_RETURN,    /* @n more calls are in it without their returns */
	TRACE_WORD_UNUSABLE,     /* @n entries that cannot be used, and no call is seen: why */
	TRACE_WORD_GOES_ON,      /* the exec() before which it ended has failed */
	TRACE_WORD_EXECUTES,     /* process @n is about to execute a program: its name; @error: enum
				  * trace_left_out */
	TRACE_WORD_NOT_EXECUTED, /* which has failed */
	TRACE_WORD_UNTOLD,       /* @n words that could not be told, nor kept */
};

/* Why the recorder is not in a program, as far as can be seen before that runs. */
enum trace_left_out {
	TRACE_NOT_LEFT_OUT,     /* nothing is known against it */
	TRACE_LEFT_OUT_STATIC,  /* linked statically */
	TRACE_LEFT_OUT_MUSL,    /* linked to musl */
	TRACE_LEFT_OUT_CPU,     /* of 32 bits, or for another CPU */
	TRACE_LEFT_OUT_RIGHTS,  /* its file gives it other rights */
	TRACE_LEFT_OUT_TAKEN,   /* LD_PRELOAD was taken out of its environment */
	TRACE_LEFT_OUT_NO_ROOM, /* there is no room for what its environment lacks */
	TRACE_LEFT_OUT_LIBRARY, /* the recorder cannot be opened */
	TRACE_LEFT_OUT_SHELL,   /* by system() or popen(), with the program's environment */
	TRACE_LEFT_OUT_FOLDER,  /* a relative name, behind what may change the folder */
	TRACE_LEFT_OUT_RESET,   /* by POSIX_SPAWN_RESETIDS, with other rights than its parent */
};

#define TRACE_WORD_LATE 0x80000000u /* told by another process, of one that could not */

struct trace_word {
	uint32_t magic;
	uint32_t kind; /* enum trace_word_kind; TRACE_WORD_LATE */
	int32_t pid;
	int32_t error; /* errno, or 0 */
	uint64_t n;
	char text[TRACE_WORD_TEXT]; /* sent as far as its NUL */
};

/* To whom; "" or NULL: to nobody. */
void trace_tell_to(const char *name);
bool trace_has_listener(void);

/* @text may be NULL. Async-signal-safe. */
void trace_tell(enum trace_word_kind kind, int error, uint64_t n, const char *text);

/* What copies of this process by fork() could not tell, for want of a descriptor: as well with
 * each word. Async-signal-safe. */
void trace_tell_rest(void);

#endif
