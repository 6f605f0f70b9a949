/* SPDX-License-Identifier: MIT */
/*
 * The library's self-test: it passes here, and it notices a trap path that is
 * broken (by a wrapper of shunt_trap()).
 */
#include <errno.h>
#include <string.h>

#include <shunt/inspect.h>
#include <shunt/port.h>

#include "../api/tap.h"

enum shunt_trap __real_shunt_trap(struct shunt_regs *regs);
enum shunt_trap __wrap_shunt_trap(struct shunt_regs *regs);

/* Whether emulated calls and jumps go to wrong() instead. */
static bool broken;

static int wrong(void)
{
	return 7;
}

enum shunt_trap __wrap_shunt_trap(struct shunt_regs *regs)
{
	enum shunt_trap trap = __real_shunt_trap(regs);

	if (broken && trap == SHUNT_TRAP_EMULATED)
		regs->ip = (uintptr_t)wrong;
	return trap;
}

int main(void)
{
	static const char step[] = "self-test";

	shunt_set_log(NULL, NULL);
	ok(shunt_selftest() == 0, "the trap path works");
	ok(shunt_selftest() == 0, "again");
	broken = true;
	ok(shunt_selftest() == -EIO && strstr(shunt_last_error(), step),
	   "a trap that goes to the wrong function is noticed: %s", shunt_last_error());
	broken = false;
	ok(shunt_selftest() == 0, "and the next run is clean");
	return tap_done();
}
