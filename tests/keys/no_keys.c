/* SPDX-License-Identifier: MIT */
/*
 * Tests of what is no key: variables of a key's type that no macro has defined, and what lies
 * behind an array of keys. The module registers all the same, one message says how many there are,
 * they stay as they were compiled, and the keys beside them are switched.
 *
 * Control: linked with a library that takes each for a key (-DCONTROL): it does not come to main().
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <shunt/inspect.h>
#include <shunt/static_key.h>

#include "../api/tap.h"

#ifdef CONTROL
#include "linux/module/jumps.h"

enum shunt_jump __wrap_shunt_jump_site(const struct shunt_segments *segments,
				       const struct static_jump_entry *entry);
enum shunt_jump __wrap_shunt_jump_site(const struct shunt_segments *segments,
				       const struct static_jump_entry *entry)
{
	(void)segments;
	return entry->code ? SHUNT_JUMP_SITE : SHUNT_JUMP_NONE;
}
#endif

DEFINE_STATIC_KEY_FALSE(off);
DEFINE_STATIC_KEY_ARRAY_FALSE(array, 2);

#define ODD ((const struct static_key *)(const void *)((const char *)&after_array[0] + 4))

static struct static_key_false zero, after_array[2];
static struct static_key_true zero_true;
static struct static_key_false own = {{NULL, &own.key}};
static struct static_key_false wild = {{(struct shunt_static_key *)&zero, (struct static_key *)8}};
static struct static_key_false far = {{(struct shunt_static_key *)&zero, (struct static_key *)-16}};
static struct static_key_false odd = {{(struct shunt_static_key *)&zero, ODD}};
static struct static_key_false other = {{(struct shunt_static_key *)&zero, &own.key}};

enum { NO_KEYS = 8, MAX = 512 };
static char messages[MAX];

static void keep(const char *message, void *arg)
{
	(void)arg;
	(void)strncat(messages, message, sizeof(messages) - strlen(messages) - 1);
}

static int tests(void)
{
	static struct static_key_false local;
	int n = 0;

	n += static_branch_unlikely(&zero) + static_branch_likely(&local);
	n += static_branch_unlikely(&own) + static_branch_unlikely(&wild);
	n += static_branch_likely(&far) + static_branch_unlikely(&odd);
	n += static_branch_unlikely(&other) + !static_branch_unlikely(&zero_true);
	return n;
}

/* A branch in this file, of a key and of elements. */
static int switched(void)
{
	return static_branch_unlikely(&off) + 2 * static_branch_unlikely(&array[1]);
}

int main(void)
{
	char words[64];

	shunt_set_log(keep, NULL);
	(void)snprintf(words, sizeof(words), ": %d of its static branches test what is no key",
		       NO_KEYS);
	diag("%s", messages);
	ok(strstr(messages, words), "one message says how many there are");
	ok(tests() == 0, "they stay as they were compiled");
	ok(static_branch_enable(&zero) == -EINVAL && static_branch_disable(&own) == -EINVAL,
	   "they are not switched");
	ok(switched() == 0 && !static_branch_enable(&off) && switched() == 1 &&
		   !static_branch_enable(&array[1]) && switched() == 3 &&
		   !static_branch_disable(&off) && switched() == 2,
	   "keys beside them are");
	return tap_done();
}
