/* SPDX-License-Identifier: MIT */
/*
 * The trap path of a process: SIGTRAP to shunt_trap(), and to whoever else it is
 * for.
 *
 *	shunt_on_sigtrap -> shunt_trap (core/trap.c) -> shunt_emulate (arch/x86_64/emulate.c)
 *
 * Everything down to the return is async-signal-safe, takes no lock, makes no system call for a
 * trap that is emulated, is compiled without instrumentation, and writes no cache line that
 * another CPU's handler writes (but for a stub of shadow.S, once). That the thread goes on with
 * all its registers is the kernel's work: the signal frame holds them, and we change at most the
 * registers of struct shunt_regs in it. The frame lies below the red zone, so the word below the
 * stack pointer that an emulated call pushes is free.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include <shunt/port.h>

#include "arch/x86_64/breakpoint.h"
#include "linux/base/action.h"
#include "linux/base/base.h"
#include "linux/base/pkeys.h"
#include "linux/base/syscall.h"
#include "linux/base/valgrind.h"
#include "linux/trap/sigtrap.h"
#include "linux/trap/trap_chain.h"
#include "linux/trap/trap_entry.h"

/* ----------------------------------------------------------------- counters */

/* One line for each CPU, as far as they go round, so that no line is contended. */
#define SHARDS 128
static struct {
	_Alignas(64) _Atomic uint64_t count[3]; /* by enum shunt_trap */
} shards[SHARDS];

/* Under valgrind, which runs one thread at a time. Written before traps are taken. */
static bool is_translated;

/* Any number would do. */
static unsigned this_cpu(void)
{
	return is_translated ? 0 : shunt_this_cpu();
}

static void count(enum shunt_trap trap)
{
	atomic_fetch_add_explicit(&shards[this_cpu() % SHARDS].count[trap], 1,
				  memory_order_relaxed);
}

static uint64_t sum(enum shunt_trap trap)
{
	uint64_t total = 0;

	for (size_t i = 0; i < SHARDS; i++)
		total += atomic_load_explicit(&shards[i].count[trap], memory_order_relaxed);
	return total;
}

void shunt_trap_counts(uint64_t *emulated, uint64_t *late, uint64_t *foreign)
{
	*emulated = sum(SHUNT_TRAP_EMULATED);
	*late = sum(SHUNT_TRAP_LATE);
	*foreign = sum(SHUNT_TRAP_FOREIGN);
}

bool shunt_has_shadow_stack(void);

/* ---------------------------------------------------------------- traps of others */

/*
 * Make ready to run another's handler as the kernel would have: its mask, its idea of flags.
 */
static void set_mask_for(const struct shunt_action *action, const ucontext_t *uc)
{
	uint64_t mask;

	memcpy(&mask, &uc->uc_sigmask, sizeof(mask));
	mask |= action->mask;
	if (!(action->flags & SA_NODEFER))
		mask |= 1ul << (SIGTRAP - 1);
	if (action->flags & SA_RESETHAND)
		shunt_trap_reset(action);
	(void)shunt_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&mask, 0, sizeof(mask));
}

_Atomic uint32_t shunt_trap_passing;

/*
 * To where the kernel would have had it return: this library may be unmapped while that handler
 * runs. A shadow stack has our address, and keeps it.
 */
static void return_as(const struct shunt_action *action, uintptr_t *back)
{
	if (*back == (uintptr_t)shunt_restore_rt && action->flags & SHUNT_SA_RESTORER &&
	    !shunt_has_shadow_stack())
		*back = (uintptr_t)action->restorer;
}

static uintptr_t pass_on(siginfo_t *info, ucontext_t *uc, unsigned entry, uintptr_t *back)
{
	struct shunt_action next = {0};

	if (!shunt_trap_next(uc, entry, &next))
		next.handler = NULL; /* SIG_DFL */
	if (shunt_is_ignored(&next) && shunt_is_sent(info))
		return 0;
	/* The kernel does not let a program ignore its own breakpoint either. */
	if (shunt_is_default(&next) || shunt_is_ignored(&next)) {
		shunt_die_of_trap(info, uc, shunt_restore_int3);
		return 0;
	}
	return_as(&next, back);
	/* Before signals are let in: who has answered one is still in here. */
	(void)atomic_fetch_add(&shunt_trap_passing, 1);
	set_mask_for(&next, uc);
	return (uintptr_t)next.handler;
}

/* ------------------------------------------------------- traps at our sites */

/*
 * Threads with a user shadow stack (CET), shadow.S: there a real call and a real return are
 * needed. For a call there is a stub for each return address and target; what a slot has
 * is never changed, because a thread may be on its way through it, or in what it called.
 */
#define SHUNT_SHADOW_STUBS 64
#define STUB_SIZE          32

struct slot {
	_Atomic uintptr_t next; /* the return address; 0: not in use */
	_Atomic uintptr_t target;
};

extern struct slot shunt_shadow_slots[SHUNT_SHADOW_STUBS];
extern const char shunt_shadow_stubs[], shunt_shadow_ret[];

/* The stub of the first @n that calls @target for @next; 0: they are all in use. */
static uintptr_t find_stub(uintptr_t next, uintptr_t target, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct slot *slot = &shunt_shadow_slots[i];
		uintptr_t seen = atomic_load_explicit(&slot->next, memory_order_relaxed);

		if (!seen && atomic_compare_exchange_strong_explicit(&slot->next, &seen, next,
								     memory_order_relaxed,
								     memory_order_relaxed))
			atomic_store_explicit(&slot->target, target, memory_order_relaxed);
		else if (seen != next ||
			 atomic_load_explicit(&slot->target, memory_order_relaxed) != target)
			continue;
		return (uintptr_t)shunt_shadow_stubs + i * STUB_SIZE;
	}
	return 0;
}

/* Whether no update is going on: then an int3 may have been left for good. */
static bool is_idle(void)
{
	struct shunt_process *p = atomic_load_explicit(&shunt_process_page, memory_order_acquire);

	return p && !atomic_load_explicit(&p->lock, memory_order_relaxed);
}

/*
 * The effect that is in @regs, of a call or a return, on a thread with a shadow stack. A call
 * for which there is no stub runs the site again, until the poke is over. Half of the stubs
 * are for what a poke has left for good, where that would be for ever.
 */
static void run_by_stub(ucontext_t *uc, const struct shunt_regs *before,
			const struct shunt_regs *regs)
{
	size_t n = is_idle() ? SHUNT_SHADOW_STUBS : SHUNT_SHADOW_STUBS / 2;
	uintptr_t to = (uintptr_t)shunt_shadow_ret;

	if (regs->sp < before->sp) /* the return address is there already */
		to = find_stub(*(const uintptr_t *)regs->sp, regs->ip, n);
	shunt_context_set_ip(uc, to ? to : before->ip - 1);
	if (to)
		return;
	(void)shunt_syscall(SYS_sched_yield, 0, 0, 0, 0);
}

/* Whether threads have rights to memory protection keys, which a handler starts without. */
static bool has_keys;

/* Text, and the stack, may have a key: the rights to all, and what is to be put back. */
static uint32_t open_keys(void)
{
	uint32_t rights = has_keys ? shunt_get_rights() : 0;

	if (has_keys)
		shunt_set_rights(0);
	return rights;
}

static void close_keys(uint32_t rights)
{
	if (has_keys)
		shunt_set_rights(rights);
}

static enum shunt_trap emulate_trap(const siginfo_t *info, ucontext_t *uc, struct shunt_regs *regs)
{
	uint32_t rights = open_keys();
	enum shunt_trap trap =
		shunt_is_breakpoint(info, uc) ? shunt_trap(regs) : SHUNT_TRAP_FOREIGN;

	close_keys(rights);
	return trap;
}

uintptr_t shunt_on_sigtrap(int sig, siginfo_t *info, void *context, unsigned entry, uintptr_t *back)
{
	ucontext_t *uc = context;
	const struct shunt_regs before = shunt_context_regs(uc);
	struct shunt_regs regs = before;
	enum shunt_trap trap = emulate_trap(info, uc, &regs);

	(void)sig;
	count(trap);
	if (trap == SHUNT_TRAP_FOREIGN)
		return pass_on(info, uc, entry, back);
	/* A branch leaves the stack alone, and needs none of this. */
	if (regs.sp != before.sp && shunt_has_shadow_stack()) {
		run_by_stub(uc, &before, &regs);
		return 0;
	}
	shunt_context_set_regs(uc, &regs);
	if (trap == SHUNT_TRAP_EMULATED && shunt_context_make_step(info, uc))
		return pass_on(info, uc, entry, back);
	return 0;
}

/* -------------------------------------------------------------------- set-up */

static bool has_taken; /* traps have come to us; update lock */

/*
 * Put our handler in front of @old. Signals are blocked while it runs, but for those that it may
 * raise itself. A thread that has an alternate stack takes the trap there.
 */
static int install_over(const struct shunt_action *old)
{
	struct shunt_action ours = {
		.flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART | SHUNT_SA_RESTORER,
		.restorer = shunt_restore_rt,
		.mask = shunt_handler_mask(),
	};
	const void *entry = shunt_trap_entries[shunt_trap_entry_for(old)];
	int ret;

	memcpy(&ours.handler, &entry, sizeof(entry));
	/* A SIGTRAP that is sent interrupts system calls as the program wants it. */
	if (!shunt_is_default(old) && !shunt_is_ignored(old) && !(old->flags & SA_RESTART))
		ours.flags &= ~(unsigned long)SA_RESTART;
	is_translated = shunt_is_translated();
	has_keys = shunt_uses_keys();
	ret = shunt_sigaction_raw(SIGTRAP, &ours, NULL);
	if (!ret && !shunt_is_installed(SIGTRAP, &ours))
		ret = -EPERM; /* a filter has answered for it */
	if (ret)
		shunt_failed_call = "rt_sigaction";
	else
		has_taken = true;
	return ret;
}

_Atomic bool shunt_others_seen;

/* Whether a trap comes to us as things are; 0, 1 or an error. */
static int reaches_us(struct shunt_action *current)
{
	bool others = false, ours;
	int ret = shunt_sigaction_raw(SIGTRAP, NULL, current);

	if (ret) {
		shunt_failed_call = "rt_sigaction";
		return ret;
	}
	ours = shunt_trap_reaches_us((uintptr_t)current->handler, &others);
	if (others)
		atomic_store_explicit(&shunt_others_seen, true, memory_order_relaxed);
	return ours;
}

bool shunt_traps_reach_us(void)
{
	struct shunt_action current = {0};

	return reaches_us(&current) == 1;
}

bool shunt_traps_reached_us(void)
{
	return has_taken;
}

#define PASSING_LOOKS 100000

void shunt_await_passing(void)
{
	for (int i = 0; i < PASSING_LOOKS && atomic_load(&shunt_trap_passing); i++)
		(void)shunt_syscall(SYS_sched_yield, 0, 0, 0, 0);
}

bool shunt_remove_handler(void)
{
	struct shunt_action current = {0};
	int entry = -1;

	if (reaches_us(&current) == 1)
		entry = shunt_trap_entry_of((uintptr_t)current.handler);
	if (entry >= 0)
		(void)shunt_sigaction_raw(SIGTRAP, &shunt_trap_records[entry], NULL);
	return entry >= 0;
}

/*
 * Called for each batch, because the program may have installed a handler of its
 * own since the last one; then that is the one to pass traps on to.
 */
int shunt_port_install_handler(void)
{
	struct shunt_action current = {0};
	int ret = reaches_us(&current);

	if (ret)
		return ret < 0 ? ret : 0;
	ret = shunt_check_pid(shunt_own_pid());
	if (ret)
		return ret;
	if (!shunt_is_process_of_memory()) {
		shunt_failed_call = "the memory is another process's";
		return -EPERM;
	}
	return install_over(&current);
}

/*
 * A child of vfork() has its parent's handlers as they were when it was made: so those who will
 * need them take them before the first batch.
 */
void shunt_install_handler_early(void)
{
	if (shunt_port_lock())
		return;
	(void)shunt_port_install_handler(); /* the batch that fails so will say it */
	shunt_failed_call = NULL;
	shunt_port_unlock();
}
