/* SPDX-License-Identifier: MIT */
/*
 * Sites for pokes of others, with bytes and effects of each instruction written out, apart from the
 * library's own tables.
 */
#ifndef TESTS_UNIT_TEXT_ARENA_H
#define TESTS_UNIT_TEXT_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <shunt/text_poke.h>

#define STRIDE 8

/* Where sites are. Those that are to be new to the library are taken in order. */
#define TEXT_SIZE ((size_t)64 * 1024 * STRIDE)
extern uint8_t text[TEXT_SIZE];
uint8_t *take(size_t sites);

/* Instructions of five bytes. */
extern const uint8_t nop5[5], ret5[5], jmp5[5];

enum what { NOP, CALL, JMP, JMP8, JCC, JCC8, RET, RET0, CALL_MEM, JMP_MEM, NR_WHAT };

/* One instruction of a site; the target or the slot where there is one. */
struct form {
	enum what what;
	unsigned cc;
	uintptr_t target;
};

/* Its bytes at @addr; false where there is none of @len bytes. */
bool form_bytes(const struct form *f, size_t len, uintptr_t addr, uint8_t b[6]);

struct spot {
	uint8_t *addr;
	size_t len;
	struct form form[2]; /* before and after: what a trap does */
	uint8_t bytes[2][6];
};

struct text_arena {
	struct spot *spots;
	struct text_poke *pokes;
	size_t n;
	bool tails; /* any tail changes: three syncs */
	const char *wrong;
	unsigned long traps[2];
};
extern struct text_arena arena;

void arena_new(size_t n);
void arena_free(void);
void add_spot(uint8_t *addr, size_t len, struct form from, struct form to);

/* @n sites of a few kinds of change from @at on; and the same, the other way round. */
void add_many(uint8_t *at, size_t n);
void turn_round(void);

/* All that have been added; each step and each trap on the way is checked. */
int poke_all(void);

/* At each int3 the effect is that of @new; else arena.wrong. */
void check_traps(bool new);

/* Writes of the flips in a batch that has others too, 256 in a call. */
size_t flip_calls(void);

bool has(size_t i, bool new);

/* What is wrong at rest: text all of @new, no marks, every trap a late one; or NULL. */
const char *wrong_at_rest(bool new);
void expect_at_rest(bool new);

#endif
