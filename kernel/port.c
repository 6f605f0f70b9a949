/* SPDX-License-Identifier: MIT */
/*
 * The port of Shunt to ring 0: what <shunt/port.h> asks of a platform, in the order in
 * which it asks. This is the file to read for whoever brings Shunt into a kernel.
 *
 *	text is written	through the alias mapping; its own mapping is never writable
 *	core sync	an interrupt to every CPU, which serialises and says so
 *	the trap path	trap_entry_bp (trap.S) -> trap_breakpoint() -> shunt_trap()
 *	the lock	one word, with the owner's number
 *
 * After text_poke(), on_each_cpu(do_sync_core) and exc_int3() of the Linux kernel.
 */
#include "port.h"

#include <shunt/port.h>
#include <stdatomic.h>

#include "core/error.h"
#include "smp.h"

struct port_test port_test;

/* The poke that is going on. Guarded by the update lock; @active is read in traps. */
static struct {
	_Atomic bool active;
	unsigned syncs;
} poke;

/* ---------------------------------------------------------------- writing text */

static bool is_text(const uint8_t *addr, size_t len)
{
	return addr >= __text_start && addr + len <= __text_end;
}

/*
 * xchg, as Torvalds proposes, LKML 2019-05-06 [L4]: a locked store cannot be seen half, not
 * even across a cache line, by whoever reads it with a locked load.
 */
void port_write_text(void *addr, const void *bytes, size_t len)
{
	uint8_t *to = alias(addr);
	const uint8_t *from = bytes;
	uint64_t word = 0;

	memcpy(&word, from, len < sizeof(word) ? len : sizeof(word));
	switch (len) {
	case 1:
		__asm__ volatile("xchgb %b0, %1" : "+q"(word), "+m"(*to) : : "memory");
		break;
	case 2:
		__asm__ volatile("xchgw %w0, %1" : "+r"(word), "+m"(*to) : : "memory");
		break;
	case 4:
		__asm__ volatile("xchgl %k0, %1" : "+r"(word), "+m"(*to) : : "memory");
		break;
	case 8:
		__asm__ volatile("xchgq %0, %1" : "+r"(word), "+m"(*to) : : "memory");
		break;
	default:
		for (size_t i = 0; i < len; i++)
			((volatile uint8_t *)to)[i] = from[i];
	}
}

static void write_stepwise(uint8_t *addr, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		port_write_text(addr + i, bytes + i, 1);
		cpu_relax();
	}
}

int shunt_port_text_check(const struct shunt_write *writes, size_t n, size_t stride)
{
	(void)writes;
	(void)n;
	(void)stride;
	return 0; /* the kernel's own text stays mapped */
}

int shunt_port_text_write(const struct shunt_write *writes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct shunt_write *w = &writes[i];

		if (!is_text(w->addr, w->len))
			return -SHUNT_EINVAL;
		if (port_test.no_int3 && w->len == 1 && w->bytes[0] == 0xcc)
			continue;
		if (port_test.stepwise)
			write_stepwise(w->addr, w->bytes, w->len);
		else
			port_write_text(w->addr, w->bytes, w->len);
	}
	return 0;
}

/* ------------------------------------------------------------------- core sync */

/* The number of the last one that was asked for. */
static _Atomic uint64_t sync_wanted;

/*
 * The serialising instruction stands between the look at what is wanted and the answer,
 * so it is behind every write that was made before that was wanted. Interrupts off: two
 * answers of one CPU cannot overtake each other.
 */
void port_answer_sync(void)
{
	uint64_t wanted = sync_wanted;

	if (this_cpu()->synced == wanted)
		return;
	serialise();
	this_cpu()->synced = wanted;
}

static void on_sync_interrupt(struct trapframe *frame)
{
	(void)frame;
	port_answer_sync();
}

/*
 * The caller waits with its own interrupts as they were; if they are off it answers
 * others' syncs itself (cpu_relax()), so two CPUs that sync at once do not wait for
 * each other for ever.
 */
void port_sync_cores(void)
{
	uint64_t wanted = ++sync_wanted;

	apic_ipi_others(VEC_SYNC);
	serialise();
	for (unsigned i = 0; i < nr_cpus; i++)
		while (&cpus[i] != this_cpu() && cpus[i].synced < wanted)
			cpu_relax();
}

int shunt_port_core_sync(void)
{
	unsigned nr = ++poke.syncs;

	if (nr != port_test.no_sync)
		port_sync_cores();
	if (port_test.on_sync)
		port_test.on_sync(nr);
	return 0;
}

/* -------------------------------------------------------- the poke as a whole */

int shunt_port_poke_begin(size_t n, unsigned tried)
{
	(void)n;
	if (tried)
		return -SHUNT_ENOSYS; /* there is one way */
	poke.syncs = 0;
	poke.active = true;
	return SHUNT_WAY_INT3;
}

/* The IDT has led to shunt_trap() since boot. */
int shunt_port_take_traps(void)
{
	return 0;
}

int shunt_port_text_swap(const struct shunt_write *writes, size_t n, size_t stride)
{
	(void)writes;
	(void)n;
	(void)stride;
	return -SHUNT_ENOSYS;
}

void shunt_port_poke_end(void)
{
	poke.active = false;
}

/* ------------------------------------------------------------------------ lock */

/* 0, or the owner's number + 1. */
static _Atomic uint32_t lock;

/* An interrupt that updates in the middle of an update of its CPU is told so. */
int shunt_port_lock(void)
{
	uint32_t self = this_cpu()->id + 1, seen = 0;

	/* Pairs with the release in shunt_port_unlock(). */
	while (!atomic_compare_exchange_strong_explicit(&lock, &seen, self, memory_order_acquire,
							memory_order_relaxed)) {
		if (seen == self)
			return -SHUNT_EDEADLK;
		seen = 0;
		cpu_relax();
	}
	return 0;
}

void shunt_port_unlock(void)
{
	atomic_store_explicit(&lock, 0, memory_order_release);
}

/* ---------------------------------------------------------------------- memory */

void *shunt_port_alloc(size_t size)
{
	return kalloc(size);
}

void shunt_port_free(void *p, size_t size)
{
	kfree(p, size);
}

/* -------------------------------------- what a kernel in one piece does not need */

/* All text lies within 2 GiB. */
uintptr_t shunt_port_veneer(uintptr_t near, uintptr_t target)
{
	(void)near;
	(void)target;
	return 0;
}

/* No code is ever unloaded. */
int shunt_port_watch(uintptr_t target)
{
	(void)target;
	return 0;
}

/* All sites are known since boot (sites.c). */
void shunt_port_sites_wanted(void)
{
}

/* The kernel's own code does not make that mistake. */
int shunt_port_is_trampoline(uintptr_t func)
{
	(void)func;
	return 0;
}

int shunt_port_sites_unknown(struct static_key *key, const char **what)
{
	(void)key;
	*what = "a site is not known";
	return -SHUNT_EAGAIN;
}

void shunt_port_report(const struct shunt_report *r)
{
	print("# shunt: %s: key %s, site %p, error %d\n", r->what ? r->what : "failed",
	      r->key ? r->key : "-", r->site, r->error);
}

/* --------------------------------------------------------------- the trap path */

static struct {
	_Atomic uint64_t count[3]; /* by enum shunt_trap */
	_Atomic uint64_t stray;
} __attribute__((aligned(64))) counts[MAX_CPUS];

static void count(enum shunt_trap trap, bool active)
{
	unsigned id = this_cpu()->id;

	atomic_fetch_add_explicit(&counts[id].count[trap], 1, memory_order_relaxed);
	if (!active)
		atomic_fetch_add_explicit(&counts[id].stray, 1, memory_order_relaxed);
}

struct port_traps port_traps(void)
{
	struct port_traps sum = {0};

	for (unsigned i = 0; i < MAX_CPUS; i++) {
		sum.foreign += counts[i].count[SHUNT_TRAP_FOREIGN];
		sum.emulated += counts[i].count[SHUNT_TRAP_EMULATED];
		sum.late += counts[i].count[SHUNT_TRAP_LATE];
		sum.stray += counts[i].stray;
	}
	return sum;
}

/*
 * Let the shadow stack follow what has been done to @frame, whose stack pointer was @sp.
 * On it lie, from @ssp on: the gap of one word; where the interrupted shadow stack is; rip;
 * cs. They move down into the gap, which makes room for a return address. An emulated
 * ret takes one away. iretq compares rip and cs, and takes the rest as it is.
 */
static void follow_on_shadow_stack(uint64_t ssp, const struct trapframe *frame, uint64_t sp)
{
	const uint64_t *word = (const uint64_t *)ssp;
	uint64_t before = word[1], cs = word[3];

	if (frame->rsp == sp - 8) {
		before -= 8;
		wrss(before, *(const uint64_t *)frame->rsp);
	} else if (frame->rsp == sp + 8) {
		before += 8;
	}
	wrss(ssp, before);
	wrss(ssp + 8, frame->rip);
	wrss(ssp + 16, cs);
}

/* The trap itself: what resumes is in @frame. */
static void breakpoint(struct trapframe *frame)
{
	struct shunt_regs regs = {
		.ip = frame->rip,
		.sp = frame->rsp,
		.flags = frame->rflags,
		.ax = frame->rax,
	};
	bool active = poke.active;
	enum shunt_trap trap = shunt_trap(&regs);

	count(trap, active);
	if (trap == SHUNT_TRAP_FOREIGN) {
		if (!port_test.on_foreign || !port_test.on_foreign(frame))
			trap_unexpected(frame);
		return;
	}
	frame->rip = regs.ip;
	frame->rsp = regs.sp;
	frame->rflags = regs.flags;
	frame->rax = regs.ax;
}

/*
 * Every #BP, as the first thing in C. The word below frame->rsp is free: the entry has
 * made the gap; and one more on the shadow stack at @ssp, if that is not 0.
 */
void trap_breakpoint(struct trapframe *frame, uint64_t ssp);
void trap_breakpoint(struct trapframe *frame, uint64_t ssp)
{
	uint64_t sp = frame->rsp;

	breakpoint(frame);
	if (ssp && !port_test.no_shadow)
		follow_on_shadow_stack(ssp, frame, sp);
}

/* ------------------------------------------------------------------------ boot */

void port_init(void)
{
	trap_set(VEC_SYNC, on_sync_interrupt);
}
