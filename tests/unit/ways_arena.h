/* SPDX-License-Identifier: MIT */
/*
 * The arena (arena.h) for any way: when its state may turn, ways that fall to another, faults of
 * the port, and what is to be true behind them.
 */
#ifndef TESTS_UNIT_WAYS_ARENA_H
#define TESTS_UNIT_WAYS_ARENA_H

#include <stdbool.h>
#include <stddef.h>

#include "arena.h"
#include "fake_port.h"

#define LEFT_CHANGED "write text, or undo it; sites are left changed"
#define UNSEEN                                                           \
	"core sync, also behind undoing it; the text is as it was, but " \
	"another CPU may not have seen that yet"
#define NR_WAYS 4 /* for any sites; behind them SHUNT_WAY_FLIP */

/* With this, some sites lie in an aligned word and some do not. */
#define STRADDLING 3

/* Over all tests: faults that came, and pokes that left sites so. */
extern unsigned long injected, left_on_int3, left_changed;

/* Whether all that changes at site @i lies in one aligned word; whether its first byte alone. */
bool in_a_word(size_t i);
bool is_flip(size_t i);

/* For arena.check_turn: any way; one whose flips go behind the others. */
void check_any_turn(bool state);
void turn_of_both(bool state);

/*
 * An arena with a port that offers @way, and when that has failed @after (the same: none). MIXED
 * is of all flips where they are to go by that way.
 */
void new_arena(size_t n, size_t kind, int way, int after);

size_t events_of(enum fake_event_type type);

enum what_fails { A_BEGIN, TRAPS, A_WRITE, A_VECTOR, A_SYNC, A_REMAP, NR_WHAT };

struct fake_fault *fault_of(enum what_fails what);
void clear_faults(void);

/* Ways in the order in which the port offers them. */
struct route {
	int way, after; /* the same again: there is no other */
};
#define NR_ROUTES 16
extern const struct route routes[NR_ROUTES];
bool has_after(const struct route *r);

/* How often each thing is asked for where all goes well, by the one way. */
void run_course(const struct route *r, size_t n, size_t uses[NR_WHAT]);

/* What is being tried, for the message. */
extern char scene[160];

/* Sites that are neither on an int3 nor what the state says. */
size_t count_changed(void);
void expect_no_breach(void);

/* After a poke from old to new under faults, which has returned @ret. */
void expect_all_or_nothing(int ret, const struct shunt_report *report);

/* The next update, by @way, with nothing in its way. */
void expect_mended(int way, bool to);

#endif
