/* SPDX-License-Identifier: MIT */
/*
 * Programs that traced processes execute: each that the recorder is in says so when it begins, and
 * of the others it is told at the end.
 */
#ifndef SHUNT_TOOLS_TRACE_IMAGES_H
#define SHUNT_TOOLS_TRACE_IMAGES_H

#include <stdbool.h>
#include <sys/types.h>

#include "array.h"
#include "trace/tell.h"

struct trace_images {
	struct array executed; /* struct trace_image, in order */
	struct array begun;    /* pid_t: processes that the recorder has begun in */
};

/* A word that a process has told. */
void trace_images_take(struct trace_images *images, const struct trace_word *word);

/* At the end: which of their processes have ended. All words of these are to be taken yet. */
void trace_images_look(struct trace_images *images);

/*
 * Then: complain of programs that the recorder was not in; one whose process still ran may be about
 * to say so, unless it is known not to be. Returns whether there was any. Nothing is kept.
 */
bool trace_images_end(struct trace_images *images);

#endif
