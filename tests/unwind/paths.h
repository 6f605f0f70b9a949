/* SPDX-License-Identifier: MIT */
/*
 * The paths that a static call can take to its function: inline, as a tail call,
 * by the trampoline, and by a veneer. At the end of each is a hook.
 */
#ifndef SHUNT_TESTS_UNWIND_PATHS_H
#define SHUNT_TESTS_UNWIND_PATHS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "passages.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef long path_fn(long arg);

struct path {
	const char *name;
	path_fn *function; /* has the site; returns what the hook does, plus 1 */
	bool stays;        /* its frame is on the stack while the target runs */
	bool far;          /* by a veneer */
};

extern const struct path paths[];
extern const size_t nr_paths;

/* What every target calls. */
extern path_fn *volatile path_hook;

/* Turn each key to its one target (@round even) or its other. 0 or -errno. */
int paths_update(unsigned round);

/* Where the veneer is that @path goes through now; false where it goes through none. */
bool path_veneer(const struct path *path, uintptr_t *veneer);

/* Whether @addr is one of the program's own veneers, not in a pool. */
bool path_in_area(uintptr_t addr);

/* Use up the program's own veneers, so that others come from a pool. False on failure. */
bool paths_fill_area(void);

/*
 * Run a process of its own, whose output is no part of ours: @program (NULL: this one) with
 * @mode as its argument, and SHUNT_FRAMES=@frames, or without it (NULL). Returns how it ended.
 */
int path_child(const char *program, const char *mode, const char *frames);

/* Whether @ip is in the trampoline of one of the keys. */
bool path_in_trampoline(uintptr_t ip);

/*
 * Call @fn with the trap flag set: a SIGTRAP behind each instruction. On aarch64, which has none
 * for programs, a tracer sends it.
 */
long path_step(path_fn *fn, long arg);

/* From a handler of it, with its context: that was the last one. */
void path_step_stop(void *context);

#ifdef __cplusplus
}
#endif

#endif
