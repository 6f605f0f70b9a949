/* SPDX-License-Identifier: MIT */
/*
 * Text with sites in it, to be poked over the fake port, and what checks it: for the
 * tests of the poke. The checks are on the text alone and on what a trap does, never on
 * what poke.c keeps to itself.
 */
#ifndef ARENA_H
#define ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arch/arch.h"
#include "core/poke.h"
#include "core/site_table.h"

#include "fake_port.h"

#define STRIDE 8 /* from site to site */
#define STACK  256

#define LEFT "write text, or undo it; sites are left on a breakpoint"

/* Traps that have been checked. */
extern unsigned long checks;

/* The kind of change: one for all sites; or each in turn, without flips and with them. */
#define MIXED      SIZE_MAX
#define WITH_FLIPS (SIZE_MAX - 1)
#define FLIPS      (SIZE_MAX - 2) /* these alone */
#define KINDS      11
#define SAME_TAILS 7 /* the first of those of which one byte changes: flips */

struct spot {
	uint8_t *addr;
	unsigned len;
	struct shunt_insn insn[2]; /* before and after */
	uint8_t bytes[2][SHUNT_SITE_MAX];
};

/* Text with sites that are all old or all new. */
extern struct arena {
	uint8_t *text;
	size_t size, n;
	size_t shift; /* of all sites, bytes; stays from one arena to the next */
	struct spot *spots;
	struct shunt_site *sites;
	_Atomic bool state; /* what the trap handler goes by: which of spot.insn */
	const char *wrong;  /* the first thing that commit or revert had to object to */
	size_t commits, reverts;
	void (*check_turn)(bool state); /* called when the state is about to turn to this one */
} arena;

/* A fresh arena of @n sites, and a fresh port. @kind: of change, or MIXED. */
void arena_new(size_t n, size_t kind);
void arena_free(void);

/* Site @i anew, of this kind. */
void make_spot(size_t i, size_t kind);

/* Keep what commit or revert had to object to. */
void wrong(const char *what);

bool is_poked(size_t i);

/* Whether the text of site @i is wholly of that state. */
bool has(size_t i, bool state);

extern uint8_t stack[STACK];
void fresh_stack(void);

/*
 * How a trap at site @i differs from what the state of the arena says it is; NULL
 * where it does not. Without an int3 there, that is: again, one byte earlier.
 */
const char *wrong_effect(size_t i, unsigned flags);
const char *wrong_effects(void);

/*
 * What is wrong after a poke; NULL: nothing. Each site is wholly what the state
 * says and unmarked, or, where @may_be_left, a marked int3 with that effect.
 */
const char *not_whole(bool may_be_left, size_t *left);
void expect_whole(void);

/* arena.check_turn by way of int3: each traps, each tail is of @state, all has been synced. */
void check_turn(bool state);

enum order { ASCENDING, DESCENDING, SHUFFLED };

/* A batch of all sites to state @to, to be freed. */
struct shunt_poke *new_pokes(bool to, enum order order);

/*
 * Poke @pokes, then destroy all that was handed in: whatever a late handler reads
 * of it is a use after free.
 */
int poke_with(struct shunt_poke *pokes, bool to, struct shunt_report *report);
int poke(bool to, struct shunt_report *report);

#endif
