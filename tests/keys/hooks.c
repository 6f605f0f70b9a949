/* SPDX-License-Identifier: MIT */
/*
 * Wrappers (ld --wrap) around the port and the trap, for all programs here: they stop
 * the updater between the steps of a poke until hammering threads have come by, keep
 * trapped threads in their handler until the poke is over, make a write or a sync fail,
 * and count. Waits are bounded, and those that gave up are counted as missed.
 *
 * The wrapper of shunt_trap() runs in the SIGTRAP handler: atomics and sched_yield()
 * alone; no sanitizer instruments this file.
 */
#include <errno.h>
#include <sched.h>

#include "hooks.h"

int __real_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __real_shunt_port_core_sync(void);
enum shunt_trap __real_shunt_trap(struct shunt_regs *regs);
int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __wrap_shunt_port_core_sync(void);
enum shunt_trap __wrap_shunt_trap(struct shunt_regs *regs);

struct hooks hooks;

static void turn(unsigned nth)
{
	for (int i = 0; i < 16; i++)
		__builtin_ia32_pause();
	if (nth % 64 == 63)
		(void)sched_yield();
}

bool hooks_wait(bool (*done)(void *arg), void *arg)
{
	for (unsigned i = 0; i < 40000; i++) {
		if (done(arg))
			return true;
		turn(i);
	}
	hooks.missed++;
	return false;
}

/* Whether a thread has evaluated a site from end to end. */
static bool came_by(void *arg)
{
	const uint64_t *old = arg;

	return hooks.passed[0] > old[0] + 1 || hooks.passed[1] > old[1] + 1;
}

static void hold(void)
{
	uint64_t old[2] = {hooks.passed[0], hooks.passed[1]};

	if (hooks_wait(came_by, old))
		hooks.held++;
}

static bool fails(unsigned *seen, unsigned at)
{
	return ++*seen == at;
}

/* A write of one byte that is int3, and none of the later steps. */
static bool is_int3(const struct shunt_write *w)
{
	return w->len == 1 && w->bytes[0] == 0xcc;
}

int __wrap_shunt_port_text_write(const struct shunt_write *w, size_t n)
{
	int ret;

	if (hooks.fail_write && fails(&hooks.seen_writes, hooks.fail_write)) {
		hooks.injected++;
		/* A part of it is done. */
		(void)__real_shunt_port_text_write(w, n / 2);
		return -EIO;
	}
	if ((hooks.drop_int3 && is_int3(w)) || (hooks.drop_rest && !is_int3(w)))
		ret = 0;
	else
		ret = __real_shunt_port_text_write(w, n);
	hooks.writes += n;
	if (!ret && hooks.hold_at == ++hooks.step)
		hold();
	return ret;
}

int __wrap_shunt_port_core_sync(void)
{
	int ret;

	if (hooks.fail_sync && fails(&hooks.seen_syncs, hooks.fail_sync)) {
		hooks.injected++;
		return -EIO;
	}
	hooks.syncs++;
	ret = __real_shunt_port_core_sync();
	if (!ret && hooks.hold_at == ++hooks.step)
		hold();
	return ret;
}

enum shunt_trap __wrap_shunt_trap(struct shunt_regs *regs)
{
	enum shunt_trap trap;
	uint64_t poke = hooks.poke;

	if (hooks.keep) {
		hooks.kept++;
		for (unsigned i = 0; i < 40000 && hooks.poke == poke; i++)
			turn(i);
	}
	trap = __real_shunt_trap(regs);
	hooks.traps[trap]++;
	return trap;
}
