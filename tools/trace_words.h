/* SPDX-License-Identifier: MIT */
/* What the processes of a traced command tell, and what is to be said of it at the end. */
#ifndef SHUNT_TOOLS_TRACE_WORDS_H
#define SHUNT_TOOLS_TRACE_WORDS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "trace/tell.h"
#include "trace_end.h"
#include "trace_images.h"
#include "trace_run.h"

struct trace_words {
	int fd;                    /* socket; -1: nobody can tell anything */
	pid_t pid;                 /* of the command */
	bool any, started, failed; /* anybody: has told something; has a session; was refused, or
				    * could not write */
	unsigned images;           /* sessions of the command, one behind an exec() of the other */
	bool has_file, has_own;    /* anybody has begun one; the command's last session */
	bool is_open;              /* the command itself has a session that has not ended */
	bool goes_on;              /* behind an exec() that has failed */
	bool is_unsaid; /* it has executed another program, and had not ended one before */
	char own[TRACE_WORD_TEXT]; /* the file of its last session, "": not begun */
	uint64_t nothing;   /* the most functions that a process without a session could have had */
	uint64_t functions; /* the most that one traces */
	char why[200]; /* how many entries of a process cannot be used, and why not the first */
	struct trace_images left_out; /* programs that may be without the recorder */
	uint64_t lost;                /* events that are in no file, of all */
	uint64_t no_return;           /* calls whose returns are in none, of all */
	uint64_t untold;              /* words that could not be told */
};

/* What is missing where no function can be traced, on this CPU. */
#ifdef __aarch64__
#define TRACE_NO_ENTRIES                                                        \
	"nothing in it is an entry of -fpatchable-function-entry=2 (what -pg, " \
	"-finstrument-functions and -fxray-instrument leave cannot be used on this CPU)"
#else
#define TRACE_NO_ENTRIES                                                                     \
	"nothing in it is an entry of -fpatchable-function-entry=5, -pg -mfentry, "          \
	"-fxray-instrument (of clang only functions of 200 instructions and more have one, " \
	"unless -fxray-instruction-threshold=1 is given too) or -finstrument-functions "     \
	"(with handlers that are not its own)"
#endif

/* Whether command @name is linked to musl: the recorder is for glibc, and would end it. */
bool trace_words_has_musl(const char *name);

/* A socket, and its name in the environment. */
void trace_words_open(struct trace_words *words);

/* Read all that has come. */
void trace_words_read(struct trace_words *words);

/*
 * The command has ended, with @status of waitpid(): complain of what is missing. Returns whether
 * all is there.
 */
bool trace_words_end(struct trace_words *words, const struct trace_run *run, char **command,
		     int status);

#endif
