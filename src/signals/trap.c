/* SPDX-License-Identifier: MIT */
/*
 * SIGTRAP: the program's action for it, and the handler that carries it out.
 *
 * on_trap() is installed for SIGTRAP and for the mirror (signals.h) when the program
 * starts. It stays; what the program installs is a record that it looks at. libshunt
 * knows nothing of this: it puts its own handler before whatever it finds, which is
 * on_trap(), and hands on what is not for it. A program that never pokes with int3 keeps
 * on_trap() as its handler, with the same effect.
 *
 * on_trap() is async-signal-safe, and compiled without instrumentation.
 */
#include <errno.h>
#include <sys/mman.h>

#include "arch/x86_64/breakpoint.h"
#include "linux/base/action.h"
#include "signals/signals.h"

void shunt_signals_restore_rt(void);    /* arch/x86_64/restorer.S, under this name */
extern const char shunt_signals_int3[]; /* the same */

static void on_trap(int sig, siginfo_t *info, void *context);

/* --------------------------------------------------------- the program's actions */

struct record {
	void (*handler)(int sig, siginfo_t *info, void *context);
	int flags;
	uint64_t mask; /* as the program gave it */
};

/*
 * Every different action that the program ever gave SIGTRAP, so that a handler can go
 * on reading the one it found: never freed, and about as many as there are different ones.
 */
#define RECORDS 256
static struct {
	struct record record;
	_Atomic bool ready;
} records[RECORDS];
static _Atomic unsigned nr_records;
static const struct record default_action;
static const struct record *_Atomic current = &default_action;

static bool is_same(const struct record *a, const struct record *b)
{
	return a->handler == b->handler && a->flags == b->flags && a->mask == b->mask;
}

/* NULL where there is no room. Two threads at once may make two of the same: no harm. */
static const struct record *find_or_add_record(const struct record *wanted)
{
	unsigned n = atomic_load(&nr_records);

	for (unsigned i = 0; i < n; i++) {
		if (atomic_load(&records[i].ready) && is_same(&records[i].record, wanted))
			return &records[i].record;
	}
	do {
		if (n == RECORDS)
			return NULL;
	} while (!atomic_compare_exchange_weak(&nr_records, &n, n + 1));
	records[n].record = *wanted;
	atomic_store(&records[n].ready, true);
	return &records[n].record;
}

static bool is_default(const struct record *r)
{
	return (uintptr_t)r->handler == (uintptr_t)SIG_DFL;
}

static bool is_ignored(const struct record *r)
{
	return (uintptr_t)r->handler == (uintptr_t)SIG_IGN;
}

/* ----------------------------------------------------------- copies of the process */

/*
 * The process that the record is of, by its number: a child of vfork() shares the memory, and
 * must not change its parent's action. A child of fork() has a copy, and its record is
 * its own: the C library calls shunt_trap_claim_process() there. Where it does not (a raw clone()),
 * the kernel has cleared a page; or, where it cannot do that, has left another one out.
 */
static _Atomic pid_t owner;
static _Atomic bool *copied; /* false there: this is a copy, of which no handler was told */
static uintptr_t absent;     /* not 0: a page that is not in a copy; a word in it, ABSENT */

#define ABSENT 0x5368756e74207369ul

void shunt_trap_claim_process(void)
{
	atomic_store(&owner, shunt_own_pid());
	if (copied)
		atomic_store(copied, true);
}

/* In a copy something else may be mapped there by now. */
static bool is_left_out(void)
{
	return absent &&
	       (!shunt_is_readable(absent) || *(const volatile uint64_t *)absent != ABSENT);
}

static void make_absent(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	absent = 0;
	if (page == MAP_FAILED)
		return;
	if (madvise(page, 4096, MADV_DONTFORK)) {
		(void)munmap(page, 4096);
		return;
	}
	*(uint64_t *)page = ABSENT;
	absent = (uintptr_t)page;
}

static bool is_vfork_child(void)
{
	if (copied && !atomic_load(copied))
		shunt_trap_claim_process();
	if (is_left_out()) {
		shunt_trap_claim_process();
		make_absent(); /* for copies of this one */
	}
	return atomic_load(&owner) != shunt_own_pid();
}

/* -------------------------------------------------------------------- the handler */

/* Threads that are at exchanging the kernel's action for SIGTRAP. */
static _Atomic int exchanging;

/*
 * The program blocks SIGTRAP: leave it pending, in the kernel, as the mirror: for this
 * thread or for the process, as it was sent. One at a time, as with any such signal.
 */
static void send_as_mirror(siginfo_t *info)
{
	long pid = shunt_own_pid();
	long tid = shunt_own_tid();
	uint64_t pending = 0;

	(void)shunt_syscall(SYS_rt_sigpending, (long)&pending, sizeof(pending), 0, 0);
	if (pending & shunt_bit(shunt_mirror()))
		return;
	if (info->si_code == SI_TKILL)
		(void)shunt_syscall(SYS_rt_tgsigqueueinfo, pid, tid, shunt_mirror(), (long)info);
	else
		(void)shunt_syscall(SYS_rt_sigqueueinfo, pid, shunt_mirror(), (long)info, 0);
}

/* Run the program's handler as the kernel would have: its mask, its flags. */
static void run_handler(const struct record *r, uint64_t mask, siginfo_t *info, void *context)
{
	const struct record *old = r;

	mask |= shunt_mask_in(r->mask);
	if (!(r->flags & SA_NODEFER))
		mask |= shunt_bit(shunt_mirror());
	if (r->flags & (int)SA_RESETHAND)
		atomic_compare_exchange_strong(&current, &old, &default_action);
	info->si_signo = SIGTRAP;
	(void)shunt_mask_raw(SIG_SETMASK, mask & ~shunt_bit(SIGTRAP));
	r->handler(SIGTRAP, info, context);
}

/*
 * An int3 that came straight to us while the action is being exchanged is most
 * likely libshunt's, whose handler is coming back: have it taken again.
 */
static bool is_early(const siginfo_t *info, ucontext_t *uc)
{
	greg_t *ip = &uc->uc_mcontext.gregs[REG_RIP];

	if (info->si_code != SI_KERNEL || !atomic_load(&exchanging))
		return false;
	if (((const uint8_t *)*ip)[-1] == 3)
		return false; /* int $3 of two bytes */
	(*ip)--;
	(void)shunt_syscall(SYS_sched_yield, 0, 0, 0, 0);
	return true;
}

static void on_trap(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	const struct record *r = atomic_load(&current);
	bool sent = info->si_code <= 0;
	uint64_t mask = shunt_interrupted_mask(uc);

	if (sig == SIGTRAP && is_early(info, uc))
		return;
	/* As the kernel: what is blocked is kept also where it is ignored, and may be waited for.
	 */
	if (sig == SIGTRAP && sent && mask & shunt_bit(shunt_mirror()))
		send_as_mirror(info);
	else if (sent && is_ignored(r))
		return;
	/* A trap that is blocked or ignored kills. */
	else if (is_default(r) || is_ignored(r) ||
		 (sig == SIGTRAP && mask & shunt_bit(shunt_mirror())))
		shunt_die_of_trap(info, uc, shunt_signals_int3);
	else
		run_handler(r, mask, info, context);
}

/* ------------------------------------------------------------- the kernel's action */

static unsigned long with_restart(unsigned long flags, bool restart)
{
	return restart ? flags | SA_RESTART : flags & ~(unsigned long)SA_RESTART;
}

/* What the kernel has never in flags: a filter may answer 0 in its place, and write nothing. */
#define NOT_WRITTEN (~0ul)

/* What is in force for @sig; false: that is not told. */
static bool ask(int sig, struct shunt_action *now)
{
	*now = (struct shunt_action){.flags = NOT_WRITTEN};
	return !shunt_sigaction_raw(sig, NULL, now) && now->flags != NOT_WRITTEN;
}

static bool exchange_restart(int sig, bool restart)
{
	struct shunt_action was, now;

	if (!ask(sig, &now))
		return false;
	if (now.flags == with_restart(now.flags, restart))
		return true;
	was = now;
	now.flags = with_restart(now.flags, restart);
	if (!shunt_sigaction_raw(sig, &now, &was) && was.handler != now.handler) {
		was.flags = with_restart(was.flags, restart);
		(void)shunt_sigaction_raw(sig, &was, NULL);
	}
	return ask(sig, &now) && now.flags == with_restart(now.flags, restart);
}

/*
 * Whether system calls go on after the handler of @sig, which is ours or libshunt's. If
 * libshunt took over in the meantime, put it back. Returns whether that is so now.
 */
static bool set_restart(int sig, bool restart)
{
	uint64_t mask = shunt_mask_raw(SIG_BLOCK, ~0ul);
	bool done;

	atomic_fetch_add(&exchanging, 1);
	done = exchange_restart(sig, restart);
	atomic_fetch_sub(&exchanging, 1);
	(void)shunt_mask_raw(SIG_SETMASK, mask);
	return done;
}

/* Returns whether on_trap() is the handler of @sig now. */
static bool install(int sig)
{
	struct shunt_action now,
		ours = {
			.handler = on_trap,
			.flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART | SHUNT_SA_RESTORER,
			.restorer = shunt_signals_restore_rt,
			.mask = ~0ul,
		};

	(void)shunt_sigaction_raw(sig, &ours, NULL);
	return ask(sig, &now) && now.handler == on_trap;
}

/* Set once, at the start. Without it no record is of any use. */
static bool is_installed;

/* A signal that is ignored is not pending either. */
static bool discard_pending(void)
{
	static const struct shunt_action ignore = {
		.handler = (void (*)(int, siginfo_t *, void *))(uintptr_t)1, /* SIG_IGN */
	};

	(void)shunt_sigaction_raw(shunt_mirror(), &ignore, NULL);
	return install(shunt_mirror());
}

/* The kernel does as @r is to be done. */
static bool carry_out(const struct record *r)
{
	return is_installed &&
	       set_restart(SIGTRAP, is_ignored(r) || is_default(r) || r->flags & SA_RESTART) &&
	       set_restart(shunt_mirror(), r->flags & SA_RESTART) &&
	       (!is_ignored(r) || discard_pending());
}

int shunt_trap_action(const struct sigaction *act, struct sigaction *old)
{
	const struct record *was = atomic_load(&current), *r;
	struct record wanted;

	bool is_others = act && is_vfork_child();

	if (is_others && !copied && !absent) { /* or a copy: it cannot be told */
		errno = EPERM;
		return -1;
	}
	if (act && !is_others) {
		wanted = (struct record){act->sa_sigaction, act->sa_flags,
					 shunt_mask(&act->sa_mask)};
		r = find_or_add_record(&wanted);
		if (!r) {
			errno = ENOMEM;
			return -1;
		}
		was = atomic_exchange(&current, r);
		if (!carry_out(r)) {
			atomic_store(&current, was);
			errno = EPERM;
			return -1;
		}
	}
	if (old) {
		memset(old, 0, sizeof(*old));
		old->sa_sigaction = was->handler;
		old->sa_flags = was->flags;
		shunt_set_mask(&old->sa_mask, was->mask);
	}
	return 0;
}

/* ----------------------------------------------------------------------- start */

void shunt_trap_watch_processes(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page != MAP_FAILED && madvise(page, 4096, MADV_WIPEONFORK)) {
		(void)munmap(page, 4096); /* before Linux 4.14 */
		page = MAP_FAILED;
	}
	copied = page == MAP_FAILED ? NULL : page;
	if (!copied)
		make_absent();
	shunt_trap_claim_process();
	(void)pthread_atfork(NULL, NULL, shunt_trap_claim_process);
}

/* What stands already, from a parent or from an earlier constructor, is the program's. */
void shunt_trap_adopt(void)
{
	struct shunt_action found = {0};
	struct record r;
	const struct record *kept;

	if (shunt_sigaction_raw(SIGTRAP, NULL, &found))
		return;
	r = (struct record){found.handler, (int)found.flags, shunt_mask_out(found.mask)};
	kept = find_or_add_record(&r);
	if (kept)
		atomic_store(&current, kept);
	is_installed = install(SIGTRAP) && install(shunt_mirror());
	(void)set_restart(SIGTRAP, is_ignored(&r) || is_default(&r) || r.flags & SA_RESTART);
}
