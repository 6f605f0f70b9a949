/* SPDX-License-Identifier: MIT */
/*
 * Static keys under test: each op and what it does to a count by the manual, modules of sites,
 * and what is to be true of keys and text at rest and in a trap.
 */
#ifndef TESTS_UNIT_KEY_MODEL_H
#define TESTS_UNIT_KEY_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "branch_sites.h"
#include "fake_port.h"

#define SITES 24

enum op { ENABLE, DISABLE, INC, DEC, NR_OPS };

const struct static_key *handle(size_t i);
int run_op(enum op op, size_t key);

/* What the op does to a count, by the manual: 0 with *@count changed, or the error. */
int model(enum op op, int *count);

void expect_right(const struct branches *b);

/* A module of @n sites under @nr_keys keys; the first after a reset; with one key of @count users.
 */
struct branches *add_module(size_t index, uint32_t n, uint32_t nr_keys);
struct branches *fresh(uint32_t n, uint32_t nr_keys, unsigned initial);
struct branches *fresh_with_count(int count, unsigned initial);

/* What was wrong with a trap at any site; fake.on_write, fake.on_sync. */
extern const char *trap_wrong;
void check_traps(void);

/* Whether each site of @key does what is to be done while it is on. */
bool is_on_everywhere(const struct branches *b, uint32_t key);

#endif
