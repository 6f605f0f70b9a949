/* SPDX-License-Identifier: MIT */
/* Which key a name stands for. */
#ifndef SHUNT_LINUX_KEY_NAMES_H
#define SHUNT_LINUX_KEY_NAMES_H

struct static_call_key;
struct shunt_static_key;

/* The first of @n keys that have the name: of one of the kinds. */
struct shunt_found_key {
	struct static_call_key *call;
	struct shunt_static_key *branch;
	unsigned n;
};

/*
 * The key of a name: [MODULE:][call:|branch:]NAME, and of an element of an array of static keys
 * NAME[INDEX]. MODULE is the module's file name, without its folder or with it. With the update
 * lock.
 */
struct shunt_found_key shunt_find_key(const char *spec);

#endif
