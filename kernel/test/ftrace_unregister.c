/* SPDX-License-Identifier: MIT */
/*
 * One ops alone: functions of the kernel are traced from register to unregister, and unregister
 * waits for callbacks that run, on whatever CPU. The control `no-wait` (ftrace_storm.c) leaves
 * the waiting out.
 */
#include "ftrace_unregister.h"

#include "core/error.h"
#include "ftrace.h"
#include "kernel.h"
#include "smp.h"
#include "trap.h"

static struct {
	_Atomic bool inside, release;
	_Atomic unsigned ticks;
	int ret; /* of an update from within the callback */
	_Atomic uint64_t count;
} slow;

static void slow_callback(uintptr_t ip, uintptr_t parent_ip, struct ftrace_ops *ops,
			  struct ftrace_regs *regs)
{
	(void)ip;
	(void)parent_ip;
	(void)regs;
	slow.ret = unregister_ftrace_function(ops);
	slow.inside = true;
	while (!slow.release)
		cpu_relax();
	slow.inside = false;
}

static void release_later(struct trapframe *frame)
{
	(void)frame;
	if (++slow.ticks == 3)
		slow.release = true;
}

static void wait_in_callback(void);
FTRACE_FUNCTION(wait_in_callback);

/* Traced by slow_callback(). */
static void wait_in_callback(void)
{
	__asm__ volatile("" : : : "memory");
}

static void call_slowly(void *arg)
{
	(void)arg;
	wait_in_callback();
}

/* A callback runs on CPU 1, for some ticks more, while CPU 0 unregisters its ops. */
static void unregister_waits(void)
{
	static struct ftrace_ops ops = FTRACE_OPS(slow_callback);
	int ret = ftrace_set_filter(&ops, "wait_in_callback", 0, 1);

	if (!ret)
		ret = register_ftrace_function(&ops);
	smp_start(1, call_slowly, NULL);
	while (!slow.inside)
		cpu_relax();
	trap_set(VEC_TIMER, release_later);
	apic_timer(20000, true);
	if (!ret)
		ret = unregister_ftrace_function(&ops);
	ok(!ret && !slow.inside, "ftrace: no callback runs behind unregister (error %d)", ret);
	smp_wait();
	apic_timer(0, false);
	ok(slow.ret == -SHUNT_EDEADLK, "ftrace: no change from within a callback: %d", slow.ret);
}

static void count_callback(uintptr_t ip, uintptr_t parent_ip, struct ftrace_ops *ops,
			   struct ftrace_regs *regs)
{
	(void)ip;
	(void)parent_ip;
	(void)ops;
	(void)regs;
	slow.count++;
}

/* Functions of the kernel itself: kalloc() and kfree(). */
static void own_functions(void)
{
	static struct ftrace_ops ops = FTRACE_OPS(count_callback);
	int ret = ftrace_set_filter(&ops, "k*", 0, 1);
	uint64_t before, behind, after;

	if (!ret)
		ret = register_ftrace_function(&ops);
	before = slow.count;
	kfree(kalloc(64), 64);
	behind = slow.count;
	/* The tracer itself allocates, and is traced there as long as it may be. */
	if (!ret)
		ret = unregister_ftrace_function(&ops);
	after = slow.count;
	kfree(kalloc(64), 64);
	ok(!ret && behind == before + 2 && slow.count == after,
	   "ftrace: k* are traced while registered (error %d)", ret);
}

void ftrace_unregister_test(void)
{
	own_functions();
	unregister_waits();
}
