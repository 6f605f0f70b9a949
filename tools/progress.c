/* SPDX-License-Identifier: MIT */
#include "progress.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000u

static struct {
	const char *what;
	uint64_t total, shown_ns; /* shown_ns: when it was shown last, or began */
	bool on, visible;
} line;

static uint64_t now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

void progress_begin(const char *what, uint64_t total)
{
	line.on = isatty(STDERR_FILENO) != 0;
	line.what = what;
	line.total = total ? total : 1;
	line.visible = false;
	line.shown_ns = now_ns();
}

void progress(uint64_t done)
{
	uint64_t now;

	if (!line.on)
		return;
	now = now_ns();
	/* The first time after a second, then ten times a second. */
	if (now - line.shown_ns < (line.visible ? SECOND / 10 : SECOND))
		return;
	line.shown_ns = now;
	line.visible = true;
	(void)fprintf(stderr, "\r%s: %3" PRIu64 "%%", line.what,
		      (uint64_t)((unsigned __int128)done * 100 / line.total));
}

void progress_end(void)
{
	if (line.visible)
		(void)fputs("\r\033[K", stderr);
	line.on = line.visible = false;
}
