/* SPDX-License-Identifier: MIT */
/*
 * Modules with the sites of static calls in a buffer, under keys that go to every sort of target.
 * What must stand at a site is written out apart from the library's own encoder. Works over
 * the fake port.
 */
#ifndef CALL_SITES_H
#define CALL_SITES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <shunt/static_call.h>

#include "core/key.h"

#include "fake_port.h"

typedef void (*func_t)(void);

#define STRIDE    8
#define MAX_SITES 100000
#define MAX_KEYS  64

/* A module: text, trampolines and slots within reach of each other. */
struct module {
	uint8_t *text;
	uint8_t (*tramps)[16];
	void **slots;
	struct shunt_sites *sites_of; /* the record that is handed over */
	struct shunt_mod mods[MAX_KEYS];
	struct shunt_site *sites;
	uint32_t n;
	uint8_t *linked; /* the text as it was linked */
};

enum target { FUNC_A, FUNC_B, NOTHING, RET0, FAR, FARTHER, NR_TARGETS };

#define MAX_STUBS 4

/* Near this program's functions, as the sites of an executable are. */
extern uint8_t near_text[2][MAX_SITES * STRIDE];
extern struct module modules[2];
extern struct static_call_key keys[MAX_KEYS];

/* Where keys go to. Never called. */
void func_a(void);
long func_b(void);
/* Where a key goes that is set to @target. */
func_t target_func(enum target target);
unsigned kind_len(unsigned kind);
void put_rel32(uint8_t *at, uintptr_t field, const void *target);
bool reaches(const uint8_t *next, func_t func);
extern uint8_t stubs[MAX_STUBS][16];
extern uintptr_t stub_targets[MAX_STUBS];
extern size_t nr_stubs;
uintptr_t stub(uintptr_t target);

/* The same answer for the same question. */
uintptr_t near_stub(uintptr_t near, uintptr_t target);

/* A port that is mistaken: what it gives is out of reach as well. */
uintptr_t far_stub(uintptr_t near, uintptr_t target);

/* The direct form; false where there is none in reach. */
bool direct_bytes(const uint8_t *addr, uint8_t kind, func_t func, uint8_t bytes[6]);

/*
 * What is off with the displacement of what it called last: of the target or of its veneer. False
 * where there is no such form, and then it is off by itself. (What mods[].last is to be is
 * looked at by keeps_what_it_called().)
 */
bool off_bytes(const struct module *m, const struct shunt_site *site, uint8_t bytes[6],
	       enum shunt_why *why);

/* Bytes and reason of site @i while its key goes to @func. */
void expect_site(const struct module *m, uint32_t i, func_t func);
void expect_linked(const struct module *m, enum shunt_why why);

/* Keys and modules anew; their sites registered, removed, looked at. */
void keys_new(size_t n, enum target target, uint32_t flags);
struct module *module_new(size_t index, uint32_t n, uint32_t nr_keys);

/* The @i-th site of @m by address, entered at @place. */
void site_new(struct module *m, uint32_t i, uint32_t place, uint8_t kind, uint32_t owner);
uint8_t any_kind(uint32_t i);
void watch(const struct module *m);

/* Sites of all kinds, in order, dealt out to @nr_keys keys. */
struct module *mixed_module(size_t index, uint32_t n, uint32_t nr_keys);
int add_to(struct module *m, struct shunt_report *report);
void remove_sites(struct module *m);
void add(struct module *m);

/* After a reset: @nr_keys keys, and a module of @n sites of all kinds, registered. */
struct module *fresh_module(uint32_t nr_keys, enum target target, uint32_t flags, uint32_t n);
void expect_clean_port(void);
void module_free(struct module *m);
void remove_and_free(struct module *m);
void expect_sites(const struct module *m);

/* The same, reckoned here: whether a trap at site @i has the effect of @func. */
bool has_effect(const struct module *m, uint32_t i, func_t func);
extern size_t traps_checked;
extern const char *trap_wrong;

/* At each step of a poke: what traps does what the key says. */
void check_traps(void);

#endif
