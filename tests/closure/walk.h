/* SPDX-License-Identifier: MIT */
/*
 * Walks all machine code that can be reached from a root and says what it finds
 * there that has no place in a trap handler.
 */
#ifndef CLOSURE_WALK_H
#define CLOSURE_WALK_H

#include "image.h"

enum offence {
	OUTSIDE,   /* a call or jump to a function that is not allowed */
	IMPORT,    /* ... to another module: through the PLT or the GOT */
	SANITIZER, /* ... to a sanitizer's run-time library */
	INDIRECT,  /* a call or jump through a pointer that is not on the list */
	THREAD,    /* thread-local storage: fs or gs */
	VECTOR,    /* an x87, MMX, SSE or AVX register */
	LOCKED,    /* a locked write, but for the counters */
	GLOBAL,    /* a plain write to a variable */
	SYSCALL,   /* a system call that is not on the list */
	TRAP,      /* int3, int, ud2 */
	UNKNOWN,   /* bytes that are no instruction, or where no function is */
	OFFENCES,
};

const char *offence_name(enum offence offence);

/* A function that may call through pointers: at how many places, and what is called. */
struct indirect {
	const char *in;
	unsigned places;
	const char *callees[8]; /* "file.c:function"; none: code of the program's */
};

struct rules {
	/* Whether a function of that name is in an allowed object. */
	bool (*is_allowed)(const char *name);
	const struct indirect *indirect; /* up to one with in == NULL */
	const unsigned *syscalls;        /* numbers, up to ~0u */
	const char *const *written;      /* variables that may be written, up to NULL */
	const char *const *counters;     /* the variables that may be written with a lock */
	const char *const *exchanging;   /* functions that may exchange a word; NULL: none */
};

#define MAX_FUNCTIONS 256

struct walk {
	const struct image *image;
	const struct rules *rules;
	const Elf64_Sym *functions[MAX_FUNCTIONS];
	size_t nr_functions;
	unsigned instructions, calls, tables, indirect, locked, syscalls;
	unsigned offences[OFFENCES];
};

/* All that is reached from the function @root of @file (NULL: any). False: no such one. */
bool walk(struct walk *w, const struct image *image, const struct rules *rules, const char *file,
	  const char *root);

/*
 * flow.c: the constant that is in rax at @at in @function, whichever way control came there;
 * ~0 where it is not always the same.
 */
uint64_t flow_rax(const struct image *image, const Elf64_Sym *function, uint64_t at);

/* Whether a function of that name has been reached. */
bool walk_reached(const struct walk *w, const char *name);

#endif
