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
#include <link.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include "linux/base/action.h"
#include "signals/signals.h"

void shunt_signals_restore_rt(void);    /* arch/x86_64/restorer.S, under this name */
extern const char shunt_signals_int3[]; /* the same */
int __libc_allocate_rtsig(int high);    /* glibc's, for such as us; not in its headers */

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
static const struct record *keep(const struct record *wanted)
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

/* ---------------------------------------------------------------- system calls */

static uint64_t mask_raw(int how, uint64_t mask)
{
	uint64_t old = 0;

	(void)shunt_syscall(SYS_rt_sigprocmask, how, (long)&mask, (long)&old, sizeof(mask));
	return old;
}

void shunt_unblock_trap(void)
{
	(void)mask_raw(SIG_UNBLOCK, shunt_bit(SIGTRAP) | shunt_sync_bit());
}

/*
 * The process that the record is of, by its number: a child of vfork() shares the memory, and
 * must not change its parent's action. A child of fork() has a copy, and its record is
 * its own: the C library calls claim_process() there. Where it does not (a raw clone()), the
 * kernel has cleared a page; or, where it cannot do that, has left another one out.
 */
static _Atomic pid_t owner;
static _Atomic bool *copied; /* false there: this is a copy, of which no handler was told */
static uintptr_t absent;     /* not 0: a page that is not in a copy; a word in it, ABSENT */

#define ABSENT 0x5368756e74207369ul

static pid_t own_pid(void)
{
	return (pid_t)shunt_syscall(SYS_getpid, 0, 0, 0, 0);
}

static void claim_process(void)
{
	atomic_store(&owner, own_pid());
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
		claim_process();
	if (is_left_out()) {
		claim_process();
		make_absent(); /* for copies of this one */
	}
	return atomic_load(&owner) != own_pid();
}

/* -------------------------------------------------------------------- the handler */

static _Atomic int mirror; /* 0: not ready yet */
static uint64_t sync_bit;  /* set before */

uint64_t shunt_sync_bit(void)
{
	return sync_bit;
}

/* Threads that are at exchanging the kernel's action for SIGTRAP. */
static _Atomic int exchanging;

static __thread const struct shunt_wait *waiting;

void shunt_wait_begin(struct shunt_wait *wait, const sigset_t *kernel, int place, uintptr_t first,
		      uintptr_t second)
{
	*wait = (struct shunt_wait){
		waiting, shunt_mask(kernel), place, (uintptr_t)kernel, {first, second},
	};
	atomic_signal_fence(memory_order_seq_cst);
	waiting = wait;
	atomic_signal_fence(memory_order_seq_cst);
}

void shunt_wait_end(struct shunt_wait *wait)
{
	atomic_signal_fence(memory_order_seq_cst);
	waiting = wait->outer;
}

/* Whether the system call that was interrupted has the arguments of @w's. */
static bool is_in(const struct shunt_wait *w, const greg_t *g)
{
	uintptr_t set = (uintptr_t)g[w->place], sp = (uintptr_t)g[REG_RSP];

	if (w->place != REG_RDI &&
	    ((uint32_t)g[REG_RDI] != (uint32_t)w->args[0] || (uintptr_t)g[REG_RSI] != w->args[1]))
		return false;
	if (w->place != REG_R9)
		return set == w->set;
	return set - sp < (uintptr_t)w - sp && !(set % 8) && *(const uintptr_t *)set == w->set;
}

/*
 * The mask that was in force where the signal came. In a wait it is not in the frame. It
 * was the wait itself that was interrupted if it is about to return EINTR, close below
 * the frame of whoever waits: a handler that runs within the wait is further down, by
 * a signal frame, or on another stack. A wait that was left by siglongjmp() is still
 * named, and what is there by now may be anything: but what is interrupted has other arguments.
 */
static uint64_t interrupted_mask(const ucontext_t *uc)
{
	const greg_t *g = uc->uc_mcontext.gregs;
	const struct shunt_wait *w = waiting;

	if (w && g[REG_RAX] == -EINTR && (uintptr_t)w - (uintptr_t)g[REG_RSP] < 1024 && is_in(w, g))
		return w->mask;
	return shunt_mask(&uc->uc_sigmask);
}

/*
 * The program blocks SIGTRAP: leave it pending, in the kernel, as the mirror: for this
 * thread or for the process, as it was sent. One at a time, as with any such signal.
 */
static void hold(siginfo_t *info)
{
	long pid = own_pid();
	long tid = shunt_syscall(SYS_gettid, 0, 0, 0, 0);
	uint64_t pending = 0;

	(void)shunt_syscall(SYS_rt_sigpending, (long)&pending, sizeof(pending), 0, 0);
	if (pending & shunt_bit(mirror))
		return;
	if (info->si_code == SI_TKILL)
		(void)shunt_syscall(SYS_rt_tgsigqueueinfo, pid, tid, mirror, (long)info);
	else
		(void)shunt_syscall(SYS_rt_sigqueueinfo, pid, mirror, (long)info, 0);
}

/* Run the program's handler as the kernel would have: its mask, its flags. */
static void run(const struct record *r, uint64_t mask, siginfo_t *info, void *context)
{
	const struct record *old = r;

	mask |= shunt_mask_in(r->mask);
	if (!(r->flags & SA_NODEFER))
		mask |= shunt_bit(mirror);
	if (r->flags & (int)SA_RESETHAND)
		atomic_compare_exchange_strong(&current, &old, &default_action);
	info->si_signo = SIGTRAP;
	(void)mask_raw(SIG_SETMASK, mask & ~shunt_bit(SIGTRAP));
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
	uint64_t mask = interrupted_mask(uc);

	if (sig == SIGTRAP && is_early(info, uc))
		return;
	if (is_ignored(r) && sent)
		return;
	/* As the kernel: a trap that is blocked or ignored kills. */
	if (sig == SIGTRAP && sent && mask & shunt_bit(mirror))
		hold(info);
	else if (is_default(r) || is_ignored(r) || (sig == SIGTRAP && mask & shunt_bit(mirror)))
		shunt_die_of_trap(info, uc, shunt_signals_int3);
	else
		run(r, mask, info, context);
}

/* ------------------------------------------------------------- the kernel's action */

static unsigned long with_restart(unsigned long flags, bool restart)
{
	return restart ? flags | SA_RESTART : flags & ~(unsigned long)SA_RESTART;
}

/*
 * Whether system calls go on after the handler of @sig, which is ours or libshunt's. If
 * libshunt took over in the meantime, put it back.
 */
static void set_restart(int sig, bool restart)
{
	struct shunt_action was, now = {0};
	uint64_t mask = mask_raw(SIG_BLOCK, ~0ul);

	atomic_fetch_add(&exchanging, 1);
	if (!shunt_sigaction_raw(sig, NULL, &now) &&
	    now.flags != with_restart(now.flags, restart)) {
		was = now;
		now.flags = with_restart(now.flags, restart);
		if (!shunt_sigaction_raw(sig, &now, &was) && was.handler != now.handler) {
			was.flags = with_restart(was.flags, restart);
			(void)shunt_sigaction_raw(sig, &was, NULL);
		}
	}
	atomic_fetch_sub(&exchanging, 1);
	(void)mask_raw(SIG_SETMASK, mask);
}

static void install(int sig)
{
	struct shunt_action ours = {
		.handler = on_trap,
		.flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART | SHUNT_SA_RESTORER,
		.restorer = shunt_signals_restore_rt,
		.mask = ~0ul,
	};

	(void)shunt_sigaction_raw(sig, &ours, NULL);
}

/* A signal that is ignored is not pending either. */
static void discard_pending(void)
{
	static const struct shunt_action ignore = {
		.handler = (void (*)(int, siginfo_t *, void *))(uintptr_t)1, /* SIG_IGN */
	};

	(void)shunt_sigaction_raw(mirror, &ignore, NULL);
	install(mirror);
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
		r = keep(&wanted);
		if (!r) {
			errno = ENOMEM;
			return -1;
		}
		was = atomic_exchange(&current, r);
		if (is_ignored(r))
			discard_pending();
		set_restart(SIGTRAP, is_ignored(r) || is_default(r) || r->flags & SA_RESTART);
		set_restart(mirror, r->flags & SA_RESTART);
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

static void watch_processes(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page != MAP_FAILED && madvise(page, 4096, MADV_WIPEONFORK)) {
		(void)munmap(page, 4096); /* before Linux 4.14 */
		page = MAP_FAILED;
	}
	copied = page == MAP_FAILED ? NULL : page;
	if (!copied)
		make_absent();
	claim_process();
	(void)pthread_atfork(NULL, NULL, claim_process);
}

/* What stands already, from a parent or from an earlier constructor, is the program's. */
static void adopt(void)
{
	struct shunt_action found = {0};
	struct record r;
	const struct record *kept;

	if (shunt_sigaction_raw(SIGTRAP, NULL, &found))
		return;
	r = (struct record){found.handler, (int)found.flags, shunt_mask_out(found.mask)};
	kept = keep(&r);
	if (kept)
		atomic_store(&current, kept);
	install(SIGTRAP);
	install(mirror);
	set_restart(SIGTRAP, is_ignored(&r) || is_default(&r) || r.flags & SA_RESTART);
}

char **shunt_environment;

/* Not by the C library: a sanitizer's strcmp() would start the sanitizer, which comes here. */
static bool is_variable(const char *variable, const char *wanted)
{
	while (*wanted && *variable == *wanted) {
		variable++;
		wanted++;
	}
	return *variable == *wanted;
}

static bool is_set(const char *wanted)
{
	char **v = shunt_environment;

	while (v && *v && !is_variable(*v, wanted))
		v++;
	return v && *v;
}

/* As secure_getenv() has it; the kernel's notes are behind the environment. */
static bool is_secure(void)
{
	const ElfW(auxv_t) * note;
	char **v = shunt_environment;

	while (v && *v)
		v++;
	for (note = (const void *)(v ? v + 1 : NULL); note && note->a_type != AT_NULL; note++)
		if (note->a_type == AT_SECURE)
			return note->a_un.a_val != 0;
	return false;
}

/*
 * libshunt makes its core sync by the highest signal that has the default action. Where it
 * will have to, from the start on, that is to be one which no thread blocks and no
 * handler is set for. It is for libshunt to find; nothing is agreed between the two.
 */
static bool needs_sync_signal(void)
{
	long commands = shunt_syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0, 0);

	if (is_set("SHUNT_SYNC=signal") && !is_secure())
		return true;
	if (is_set("SHUNT_SYNC=membarrier") && !is_secure())
		return false;
	return commands < 0 || !(commands & MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE);
}

static void take_signals(void)
{
	int first = __libc_allocate_rtsig(0), sync = 0;

	if (needs_sync_signal())
		sync = __libc_allocate_rtsig(0);
	sync_bit = sync > 0 ? shunt_bit(sync) : 0;
	/* Pairs with the acquire in shunt_mirror(). */
	atomic_store_explicit(&mirror, first, memory_order_release);
}

/* All signals are blocked meanwhile. A SIGTRAP that was blocked by our parent stays so. */
static void start(void)
{
	static _Atomic bool begun;
	uint64_t mask = mask_raw(SIG_BLOCK, ~0ul);

	if (!atomic_exchange(&begun, true)) {
		shunt_next_init();
		claim_process();
		take_signals();
		adopt();
		watch_processes(); /* last: it may allocate, and whoever does that come here */
		mask = mask & shunt_bit(SIGTRAP) ? shunt_mask_in(mask) : mask;
		mask &= ~sync_bit;
	}
	while (!atomic_load_explicit(&mirror, memory_order_acquire))
		(void)sched_yield();
	(void)mask_raw(SIG_SETMASK, mask);
}

int shunt_mirror(void)
{
	int sig = atomic_load_explicit(&mirror, memory_order_acquire);

	if (sig)
		return sig;
	start();
	return atomic_load_explicit(&mirror, memory_order_acquire);
}
