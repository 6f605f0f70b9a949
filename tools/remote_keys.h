/* SPDX-License-Identifier: MIT */
/* The names by which `shunt set` takes the keys that the agent lists. */
#ifndef SHUNT_TOOLS_REMOTE_KEYS_H
#define SHUNT_TOOLS_REMOTE_KEYS_H

#include <stddef.h>

/* The words of the agent's line of a key, src/agent/list.c. */
enum { KEY_NAME = 1, KEY_TYPE, KEY_VALUE, KEY_SITES, KEY_INLINE, KEY_MODULE, KEY_WHY, KEY_CHOICES };

struct remote_keys {
	struct remote_key *keys; /* in the order of their lines */
	size_t n;
};

/*
 * Read the agent's answer @reply, which stays as it is: of each line of a key its name, and what
 * tells it from the others that have that name: NAME[INDEX] an element of an array, MODULE:NAME,
 * and call:NAME or branch:NAME. 0 or -ENOMEM; free it with remote_keys_free(), whatever it returns.
 */
int remote_keys_read(struct remote_keys *keys, const char *reply)
	__attribute__((warn_unused_result));
void remote_keys_free(struct remote_keys *keys);

/* Of the line of a key with number @i. */
const char *remote_keys_name(const struct remote_keys *keys, size_t i);

#endif
