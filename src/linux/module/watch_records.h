/* SPDX-License-Identifier: MIT */
/*
 * The modules that keys point, or pointed, into and that are known to tell when they go, or to
 * stay (watch_records.c). Async-signal-safe, but for the memory of a new record.
 */
#ifndef SHUNT_LINUX_WATCH_RECORDS_H
#define SHUNT_LINUX_WATCH_RECORDS_H

#include "linux/module/image.h"

enum shunt_watch_state {
	SHUNT_WATCH_TOLD,    /* it says itself that it goes, or it stays: no hook */
	SHUNT_WATCH_HOOKED,  /* a function of ours is to run when it is unloaded, or at exit() */
	SHUNT_WATCH_LEAVING, /* that runs: it is being unloaded */
	SHUNT_WATCH_EXITING, /* exit() has begun, and the module stays */
};

/*
 * Records are never freed, but reused: not while there is a hook, which has the record for its
 * argument.
 */
struct shunt_watched {
	struct shunt_watched *next;
	_Atomic uintptr_t start, end; /* start 0: not in use; end 0: nothing to watch (any more) */
	_Atomic enum shunt_watch_state state;
	char *path; /* of its file: shunt_watched_name(); else NULL */
};

/* Whether @target is in a module that has a record. */
bool shunt_is_watched(uintptr_t target);

/* A record for @image, SHUNT_WATCH_TOLD; NULL: no memory. */
struct shunt_watched *shunt_watched_add(const struct shunt_image *image);

/* Give it its name, which a message takes when it goes. False: no memory. */
bool shunt_watched_name(struct shunt_watched *w, const struct shunt_image *image);

/* What is mapped at @range next is not watched by @w, if that is what @w is for. */
void shunt_watched_stop(struct shunt_watched *w, struct shunt_range range);

/* The record may be used for another module. */
void shunt_watched_free(struct shunt_watched *w);

/* The modules that begin in @range are gone. */
void shunt_watched_gone(struct shunt_range range);

#endif
