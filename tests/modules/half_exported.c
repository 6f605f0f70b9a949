/* SPDX-License-Identifier: MIT */
/*
 * A shared object that has libshunt.a in it for static calls alone, and comes before libshunt.so:
 * what it exports of it, its user's calls go to. All that concerns the user's keys is of that one
 * libshunt, then, or none of it.
 *
 * Control: one that hides what tells of updates; the other libshunt knows of none.
 */
#include <errno.h>
#include <string.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>
#include <shunt/text_poke.h>

#include "../api/tap.h"
#include "../common/one_two.h"
#include "half_exported.h"

DEFINE_STATIC_CALL(users, one);
DEFINE_STATIC_KEY_FALSE(users_branch);

KEEP static int call_users(void)
{
	return static_call(users)() + (static_branch_unlikely(&users_branch) ? 10 : 0);
}

static int find_key(const struct shunt_key_info *info, void *arg)
{
	*(bool *)arg |= !strcmp(info->name, "users") && info->target == (void *)two;
	return 0;
}

static void *first_site;
static size_t site_len;

static int take_site(const struct shunt_site_info *info, void *arg)
{
	(void)arg;
	first_site = info->addr;
	site_len = info->len;
	return 1;
}

int main(void)
{
	struct static_call_batch batch = STATIC_CALL_BATCH_INIT;
	struct shunt_ways ways = {0};
	struct shunt_stats stats = {0};
	bool found = false;
	int ret;

	shunt_set_log(NULL, NULL);
	ok(!half_switch(), "the library's own key");
	ok(!shunt_set_poke(SHUNT_POKE_INT3) && !static_call_batch_add(&batch, users, two) &&
		   !static_branch_batch_enable(&batch, &users_branch) &&
		   !static_call_batch_commit(&batch) && call_users() == 12,
	   "a batch of the user's keys");
	static_call_batch_destroy(&batch);
	shunt_get_ways(&ways);
	ok(!strcmp(ways.policy, "int3") && strcmp(ways.poke, "none") != 0,
	   "how it went: policy %s, by %s", ways.policy, ways.poke);
	shunt_get_stats(&stats);
	ok(stats.updates && stats.writes, "it is counted");
	ok(!shunt_for_each_key(find_key, &found) && found, "the key is listed, with its function");
	ok(shunt_for_each_site("users", take_site, NULL) == 1 && first_site, "and its site");
	ret = first_site ? text_poke_bp(first_site, first_site, site_len) : 0;
	ok(ret == -EINVAL && strstr(shunt_last_error(), "belongs to a key"),
	   "of which text_poke_bp() knows whose it is: %s", shunt_last_error());
	ok(!static_call_update(users, one) && !static_branch_disable(&users_branch) &&
		   call_users() == 1,
	   "and back");
	return tap_done();
}
