/* SPDX-License-Identifier: MIT */
/*
 * `shunt trace --top`: a table of functions, refreshed in place on a terminal, else lines each
 * second. What is said on standard error while it is on a terminal, and what a command writes to
 * it, is shown behind it.
 */
#ifndef SHUNT_TOOLS_TRACE_TOP_H
#define SHUNT_TOOLS_TRACE_TOP_H

#include <stdbool.h>
#include <termios.h>

#include "trace_live.h"

enum { TOP_TURN_MS = 1000, TOP_READ_MS = 100 };

struct top {
	const char *title;
	int out;         /* what it is drawn on */
	int keys;        /* terminal whose keys are read; -1: none */
	int words;       /* on a terminal: a file that stands for it meanwhile; -1: none */
	int stderr_then; /* the real one */
	long long shown; /* of @words */
	char *rest;      /* that was drawn and is not written yet; NULL: nothing */
	size_t rest_size, rest_at;
	int error;                /* errno: it cannot be written, and no reader has gone; 0 */
	bool is_screen, is_quiet; /* is_quiet: it was left, and nothing is drawn any more */
	struct termios before;
	long long began, turned; /* ms */
};

/* On @out, a descriptor. 0, or -1 having complained. */
int top_open(struct top *top, int out, const char *title);

/*
 * Draw what the @n files hold, if it is time for it, or @now. Where what was drawn before is not
 * written yet, because nobody reads it, nothing is drawn: this waits for no reader. 0; -1: it
 * cannot be written.
 */
int top_draw(struct top *top, struct live *lives, size_t n, bool now);

/* Wait for the reader of what was drawn, on what is no terminal, until a signal (interrupt.h). */
void top_wait(struct top *top);

/*
 * poll() has seen a key, and no signal: whether it is to end. What is typed behind the key, or
 * behind Ctrl-C, is the next program's: one key is read at a time, and poll() looks for keys before
 * it looks for signals, so that it sees the signal of a Ctrl-C that was before the key.
 */
bool top_is_ended_by_key(const struct top *top);

/* Ctrl-Z: leave the terminal, stop, and come back. */
void top_suspend(struct top *top);

/* The terminal as it was, and what was said meanwhile. */
void top_leave(struct top *top);

/* What is still being said; then top_close(). */
void top_show_words(struct top *top);
void top_close(struct top *top);

#endif
