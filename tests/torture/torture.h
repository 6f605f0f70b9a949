/* SPDX-License-Identifier: MIT */
/*
 * What the files of the torture test share.
 *
 *	sites_*.S  the sites and the target
 *	targets.c  copies of the target, far apart; the keys
 *	hooks.c    around the port and the trap: holds threads in a phase, counts
 *	run.c      one run: two hammering threads, one updater, the checks
 *	main.c     the runs, each in a process of its own, and what is expected of them
 */
#ifndef TORTURE_H
#define TORTURE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <shunt/static_call.h>

#include "../common/cpu.h"
#include "sites.h"

/* Threads that go through the sites. An emulated aarch64 has three CPUs. */
#define HAMMERS (CPU_HAS_TRAPS ? 2 : 3)

/* ----------------------------------------------------------------- sites_*.S */

struct torture_site {
	long (*fn)(void);
	const uint8_t *insn; /* the instruction that is poked */
	const void *next;    /* behind a call; NULL for a tail call */
	struct static_call_key *key;
	uint64_t kind; /* TORTURE_CALL ... */
};

extern const struct torture_site torture_single[]; /* each has a key of its own */
extern const struct torture_site torture_batch[];  /* all have the key torture */

long torture_call(long (*site)(void), long arg, const void *next);
long torture_target(long arg);
extern const char torture_target_magic[], torture_target_end[];

/* ----------------------------------------------------------------- targets.c */

#define TARGETS 8 /* the last one is out of reach: its sites go to the trampoline */

/* The targets, 0 being torture_target(). False, with errno, where one cannot be made. */
bool torture_make_targets(void (*targets[TARGETS])(void));

/* --------------------------------------------------------------------- hooks.c */

/* How far a poke has come: the last thing that it has finished. */
enum stage {
	BEGUN,
	INT3,  /* the int3 are written */
	SYNC1, /* the cores have been synchronised after that */
	TORN,  /* some bytes of the tails are written, some not */
	TAILS, /* the tails are written */
	SYNC2,
	FIRST, /* the first bytes are written */
	SYNC3,
	OVER, /* static_call_update() has returned */
	STAGES,
};

/*
 * What is provoked in one update. Either the updater stops at @hold until a
 * hammering thread has gone through the site there; or every trap of this poke is
 * kept in its handler until this poke (@ahead 0) or the next one (1) has come to
 * @until, and the updater waits there until one has been handled.
 */
struct plan {
	enum stage hold; /* BEGUN: none */
	enum stage until;
	unsigned ahead;
};

/* What is taken out: the negative controls. */
struct control {
	bool no_int3;  /* no int3, no sync after it */
	bool resume;   /* a late trap goes on behind the int3 */
	bool foreign;  /* a late trap is taken for somebody else's */
	bool direct;   /* text is written by plain stores: a few ns from one step to the next */
	bool torn;     /* a word is written in two halves */
	bool no_write; /* nothing is written */
	bool apart;    /* the pages of a site that crosses them are remapped one after the other */
	unsigned skip_sync; /* bit n: leave out the nth sync */
};

/*
 * What is counted, in memory that the driver shares, so that it outlives a crash.
 * enum shunt_trap is the second index.
 */
struct stats {
	_Atomic uint64_t updates;
	_Atomic uint64_t calls[HAMMERS];   /* by thread */
	_Atomic uint64_t settled;          /* calls to which one result alone was right */
	_Atomic uint64_t unchecked;        /* calls that took longer than the history goes back */
	_Atomic uint64_t traps[STAGES][3]; /* by the stage in which they were handled */
	_Atomic uint64_t held[STAGES][3];  /* of these: kept in the handler until then */
	_Atomic uint64_t next;             /* of these: into the poke after their own */
	_Atomic uint64_t holds, missed;    /* waits for a thread, and those that gave up */
	_Atomic uint64_t remaps, crossing; /* of pages; of these: of a site that crosses them */
	_Atomic uint64_t stores;           /* pokes of one write, without an int3 */
	_Atomic uint64_t during;           /* calls of the site that ended while it was remapped */
	_Atomic uint64_t disorder; /* steps of a poke that came without a sync between, or astray */
	_Atomic bool failed;
	char message[200]; /* of the first failure */
};

extern struct stats *stats;

/* Begin to intervene; before that, the wrappers only pass on. */
void hooks_start(const struct control *control);

/* Around each update: what to provoke; and that it has returned. */
void hooks_plan(const struct plan *plan);
void hooks_over(void);

/* Calls of the site in focus, by thread: how the updater sees them come through. */
extern struct hammered {
	_Alignas(64) _Atomic uint64_t calls;
} hammered[HAMMERS];

/* ---------------------------------------------------------------------- run.c */

enum provoke {
	MIXED,  /* every plan in turn, and free runs between them */
	FREELY, /* nothing */
	LATE,   /* every trap is handled when its poke is over */
	LATER,  /* ... when the next poke of the site has its int3 in place */
	WHOLE,  /* stops alone: for ways that do not trap */
};

/*
 * One run. After @seconds, few things are provoked any more, so that it ends.
 * Returns whether all went well; the counts are in *stats.
 */
bool run(bool batch, enum provoke provoke, const struct control *control, uint64_t updates,
	 unsigned seconds);

#endif
