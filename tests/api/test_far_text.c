/* SPDX-License-Identifier: MIT */
/*
 * A program whose text is longer than a call reaches: functions with sites, and targets, in two
 * places that are 256 MiB apart. A call of a trampoline from the far one goes by a stub of the
 * linker's at first; then each site goes to its target, straight or by a veneer. TAP.
 *
 * Control (-DCONTROL): there are no veneers, and an update is refused or leads through the
 * trampoline.
 */
#include <stdint.h>
#include <string.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "tap.h"

#define FAR KEEP __attribute__((section("far_text")))

#ifdef CONTROL
uintptr_t __wrap_shunt_port_veneer(uintptr_t near, uintptr_t target);
uintptr_t __wrap_shunt_port_veneer(uintptr_t near, uintptr_t target)
{
	(void)near;
	(void)target;
	return 0;
}
#endif

KEEP static int near_one(int x)
{
	return x + 1;
}

KEEP static int near_two(int x)
{
	return x + 2;
}

FAR static int far_three(int x)
{
	return x + 3;
}

FAR static int far_four(int x)
{
	return x + 4;
}

DEFINE_STATIC_CALL(wide, near_one);
DEFINE_STATIC_KEY_FALSE(wide_key);

KEEP static int near_site(int x)
{
	return static_call(wide)(x) * 1 + 10;
}

KEEP static int near_tail(int x)
{
	return static_call(wide)(x);
}

FAR static int far_site(int x)
{
	return static_call(wide)(x) * 1 + 10;
}

FAR static int far_tail(int x)
{
	return static_call(wide)(x);
}

FAR static int far_branch(void)
{
	return static_branch_unlikely(&wide_key) ? 2 : 1;
}

static bool all_reach(int added)
{
	return near_site(100) == 110 + added && near_tail(100) == 100 + added &&
	       far_site(100) == 110 + added && far_tail(100) == 100 + added;
}

struct seen {
	int all, inlined, far;
};

static int see(const struct shunt_site_info *info, void *arg)
{
	struct seen *seen = arg;

	seen->all++;
	seen->inlined += info->state != SHUNT_SITE_TRAMPOLINE;
	seen->far += info->state == SHUNT_SITE_FAR;
	if (info->why)
		diag("%s: %s", info->function ? info->function : "?", info->why);
	return 0;
}

int main(void)
{
	static int (*const targets[])(int) = {near_two, far_three, far_four, near_one};
	static const int added[] = {2, 3, 4, 1};
	intptr_t apart = (intptr_t)((uintptr_t)far_site - (uintptr_t)near_site);

	ok(apart > 128 << 20, "the text is %ld MiB long", (long)(apart >> 20));
	ok(all_reach(1), "at first each goes to the first target");
	for (unsigned i = 0; i < 4; i++) {
		struct seen seen = {0};
		int ret = static_call_update(wide, targets[i]);

		ok(!ret && all_reach(added[i]), "an update to %s: %d",
		   added[i] / 3 ? "the far part" : "the near part", ret);
		(void)shunt_for_each_site("wide", see, &seen);
		ok(seen.all == 4 && seen.inlined == 4 && seen.far == 2,
		   "its %d sites: %d inline, of them %d by a veneer", seen.all, seen.inlined,
		   seen.far);
	}
	ok(!static_branch_enable(&wide_key) && far_branch() == 2 &&
		   !static_branch_disable(&wide_key) && far_branch() == 1,
	   "a branch in the far part");
	return tap_done();
}
