/* SPDX-License-Identifier: MIT */
/*
 * Core sync by signals: the handler, and the signal.
 *
 * Which round is acknowledged: the handler reads the number of the round, serialises,
 * and only then stores that number. So whatever made the handler run, a late signal of
 * an earlier round included, the thread has serialised after the writes of the round
 * that it acknowledges.
 *
 * Which signal: the highest real-time one with the default action, that the caller
 * does not block if there is such a one. A program that takes it later is noticed at
 * the next round, which takes another. The handler is never removed: a thread may be
 * about to run it.
 *
 * A thread may execute another program with the signal pending, in which that has its default
 * action, death. So it says that it comes from a POSIX timer: of these execve() discards what is
 * pending (Linux, flush_itimer_signals() of fs/exec.c).
 *
 * Another libshunt in the process has a signal of its own. A thread that updates blocks it, and
 * may be waiting for the very thread that waits for its answer: so it is let in while one waits.
 */
#include <errno.h>
#include <signal.h>

#include <linux/futex.h>

#include "linux/base/action.h"
#include "linux/base/base.h"
#include "linux/base/syscall.h"
#include "linux/sync/move.h"
#include "linux/sync/serialise.h"
#include "linux/sync/sync.h"
#include "linux/sync/sync_handler.h"
#include "linux/sync/sync_slots.h"

_Atomic uint32_t shunt_sync_round;
int shunt_sync_signal;

/* ------------------------------------------------------------------ the handler */

/* The slot at @address, if one is there. */
static struct shunt_sync_slot *slot_at(uintptr_t address)
{
	/* Pairs with add_chunk(). */
	struct shunt_sync_slot_chunk *c =
		atomic_load_explicit(&shunt_sync_slot_chunks, memory_order_acquire);

	for (; c; c = c->next)
		if (address - (uintptr_t)c->slots < sizeof(c->slots) &&
		    (address - (uintptr_t)c->slots) % sizeof(c->slots[0]) == 0)
			return (struct shunt_sync_slot *)address;
	return NULL;
}

static void acknowledge(struct shunt_sync_slot *slot)
{
	/* Pairs with start_round(): the writes came before it. */
	uint32_t round = atomic_load_explicit(&shunt_sync_round, memory_order_acquire);
	uint32_t old;

	shunt_serialise();
	/* Pairs with shunt_wait_word(). */
	old = atomic_exchange_explicit(&slot->acked, round, memory_order_acq_rel);
	if (old & SHUNT_WAITED)
		(void)shunt_syscall(SYS_futex, (long)&slot->acked, FUTEX_WAKE | FUTEX_PRIVATE_FLAG,
				    1, 0);
}

void shunt_sync_entry(int sig, siginfo_t *info, void *context); /* sync_entry.S */
void shunt_on_sync(int sig, siginfo_t *info, void *context);

/* A signal is being taken: what comes by it may be another libshunt's, which will send it again. */
static _Atomic bool installing;

/*
 * Somebody else's signal: the default action, as if we were not here. Not where a
 * handler that has replaced ours calls it as the one before.
 */
static void default_action(int sig)
{
	static const struct shunt_action dfl = {0};
	struct shunt_action current = {0};

	if (atomic_load(&installing) || shunt_sigaction_raw(sig, NULL, &current) ||
	    current.handler != shunt_sync_entry)
		return;
	(void)shunt_sigaction_raw(sig, &dfl, NULL);
	(void)shunt_syscall(SYS_tgkill, shunt_own_pid(), shunt_own_tid(), sig, 0);
}

/* Async-signal-safe, takes no lock, leaves errno alone; runs with all signals blocked. */
void shunt_on_sync(int sig, siginfo_t *info, void *context)
{
	struct shunt_sync_slot *slot = NULL;

	shunt_move_from_nops(context);
	if (info->si_code == SI_TIMER)
		slot = slot_at((uintptr_t)info->si_value.sival_ptr);
	if (slot)
		acknowledge(slot);
	else
		default_action(sig);
}

/* ------------------------------------------------------------------- the signal */

static bool is_ours(int sig)
{
	struct shunt_action current = {0};

	return !shunt_sigaction_raw(sig, NULL, &current) && current.handler == shunt_sync_entry;
}

bool shunt_has_sync_signal(void)
{
	return is_ours(shunt_sync_signal);
}

static int refused; /* what a filter has refused rt_sigaction with; 0: nothing; update lock */

/* valgrind keeps one for itself: EINVAL. */
static bool set_action(int sig, const struct shunt_action *new, struct shunt_action *old)
{
	int ret = shunt_sigaction_raw(sig, new, old);

	if (ret && ret != -EINVAL)
		refused = ret;
	return !ret;
}

/* Interrupted system calls are restarted; an alternate stack is used where there is one. */
static bool install_for(int sig)
{
	const struct shunt_action ours = {
		.handler = shunt_sync_entry,
		.flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART | SHUNT_SA_RESTORER,
		.restorer = shunt_restorer(),
		.mask = shunt_handler_mask(),
	};
	struct shunt_action current = {0};
	bool installed;

	if (!set_action(sig, NULL, &current) || current.handler)
		return false;
	atomic_store(&installing, true);
	installed = set_action(sig, &ours, &current);
	if (installed && current.handler) { /* somebody else has taken it meanwhile */
		(void)shunt_sigaction_raw(sig, &current, NULL);
		installed = false;
	} else if (installed && !shunt_is_installed(sig, &ours)) {
		installed = false;
		refused = -EPERM; /* a filter says that it was done */
	}
	atomic_store(&installing, false);
	return installed;
}

static int choose_except(uint64_t not )
{
	for (int sig = 64; sig >= SIGRTMIN; sig--)
		if (!(not >> (sig - 1) & 1) && install_for(sig))
			return sig;
	return 0;
}

void shunt_sync_fill(siginfo_t *info, struct shunt_sync_slot *slot)
{
	info->si_signo = shunt_sync_signal;
	info->si_code = SI_TIMER;
	info->si_value.sival_ptr = slot;
}

bool shunt_has_chosen_signal(void)
{
	return shunt_sync_signal;
}

int shunt_choose_sync_signal(void)
{
	uint64_t mask = 0;

	if (shunt_sync_signal && is_ours(shunt_sync_signal))
		return 0;
	(void)shunt_syscall(SYS_rt_sigprocmask, SIG_BLOCK, 0, (long)&mask, sizeof(mask));
	refused = 0;
	shunt_sync_signal = choose_except(mask);
	if (!shunt_sync_signal)
		shunt_sync_signal = choose_except(0);
	shunt_sync_slots_forget();
	if (shunt_sync_signal)
		return 0;
	if (refused) {
		shunt_failed_call = "rt_sigaction";
		return refused;
	}
	shunt_failed_call = "no real-time signal is free";
	return -EAGAIN;
}

#define ENTRY_SIGNATURE 18 /* bytes */

static bool is_of_other(int sig)
{
	struct shunt_action current = {0};
	uintptr_t handler;

	if (sig == shunt_sync_signal || shunt_sigaction_raw(sig, NULL, &current))
		return false;
	handler = (uintptr_t)current.handler;
	return handler && shunt_is_readable(handler) &&
	       shunt_is_readable(handler + ENTRY_SIGNATURE - sizeof(uint64_t)) &&
	       !memcmp((const void *)handler, (const void *)(uintptr_t)shunt_sync_entry,
		       ENTRY_SIGNATURE);
}

void shunt_answer_others(void)
{
	uint64_t pending = 0;

	if (shunt_syscall(SYS_rt_sigpending, (long)&pending, sizeof(pending), 0, 0))
		return;
	for (int sig = 64; sig >= SIGRTMIN; sig--) {
		uint64_t set = pending & (uint64_t)1 << (sig - 1);

		if (!set || !is_of_other(sig))
			continue;
		(void)shunt_syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, (long)&set, 0, sizeof(set));
		(void)shunt_syscall(SYS_rt_sigprocmask, SIG_BLOCK, (long)&set, 0, sizeof(set));
	}
}

/* Ignored first: what is pending is discarded then. */
void shunt_drop_sync_signal(void)
{
	static const struct shunt_action dfl = {0};
	struct shunt_action ignore = {0};
	uintptr_t handler = (uintptr_t)SIG_IGN;

	if (!shunt_sync_signal || !is_ours(shunt_sync_signal))
		return;
	memcpy(&ignore.handler, &handler, sizeof(handler));
	(void)shunt_sigaction_raw(shunt_sync_signal, &ignore, NULL);
	(void)shunt_sigaction_raw(shunt_sync_signal, &dfl, NULL);
}
