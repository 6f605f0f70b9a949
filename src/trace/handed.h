/* SPDX-License-Identifier: MIT */
/*
 * What `shunt trace` has put into this program's environment, for programs that it executes with
 * an environment that has none of it (handed.c). All but the first is
 * async-signal-safe, and good in a child of vfork().
 */
#ifndef SHUNT_TRACE_HANDED_H
#define SHUNT_TRACE_HANDED_H

#include <stdbool.h>
#include <stddef.h>

/* At the start: it is kept. */
void trace_handed_keep(void);

bool trace_handed_is_kept(void);
/* The recorder, where this process is now. */
bool trace_handed_can_open(void);

/* What an environment lacks. */
struct trace_handed {
	bool lacks_variables;  /* SHUNT_TRACE_FILE, and what goes with it */
	bool lacks_library;    /* the recorder in LD_PRELOAD */
	bool is_taken_out;     /* the first is there, and LD_PRELOAD is not: nothing is added */
	bool is_others;        /* the first is there, for a shunt trace that is told instead */
	bool is_unheard;       /* the first is there, and nobody is told if it begins */
	size_t n;              /* variables in it */
	size_t preload_at;     /* which of them is LD_PRELOAD; @n: none is */
	size_t preload_length; /* of its value */
	size_t bytes;          /* of the room for one with what it lacks; 0: it is good as it is */
};

/* All false where nothing was kept, or @envp cannot be read: that is the kernel's to say. */
void trace_handed_look(struct trace_handed *handed, char *const envp[]);

/* A copy of @envp, in @room, with what it lacks. */
char *const *trace_handed_add(const struct trace_handed *handed, char *const envp[], void *room);

#endif
