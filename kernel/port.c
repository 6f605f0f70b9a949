/* SPDX-License-Identifier: MIT */
/*
 * The port of Shunt to ring 0: what <shunt/port.h> asks of a platform, in the order in
 * which it asks. This is the file to read for whoever brings Shunt into a kernel.
 *
 *	text is written	through the alias mapping; its own mapping is never writable
 *	a poke		of what is switched on and off: one byte; of all else: int3
 *	core sync	an interrupt to every CPU, which serialises and says so (core_sync.c)
 *	the trap path	trap_entry_bp (trap.S) -> trap_breakpoint() -> shunt_trap()
 *	the lock	one word, with the owner's number
 *
 * After text_poke(), on_each_cpu(do_sync_core) and exc_int3() of the Linux kernel.
 */
#include "port.h"

#include <shunt/port.h>
#include <stdatomic.h>

#include "core/error.h"
#include "core_sync.h"
#include "cpus.h"
#include "kernel.h"
#include "trap.h"

/* ---------------------------------------------------------------- writing text */

static bool is_text(const uint8_t *addr, size_t len)
{
	return addr >= __text_start && addr + len <= __text_end;
}

/*
 * One store where there is an instruction for it. Across a cache line it may be seen as two;
 * the int3 of the poke protects it. So no lock prefix, which across a line is a split lock,
 * and raises #AC where the CPU is told to.
 */
void port_write_text(void *addr, const void *bytes, size_t len)
{
	uint8_t *to = alias(addr);
	uint64_t word = 0;

	memcpy(&word, bytes, len < sizeof(word) ? len : sizeof(word));
	switch (len) {
	case 1:
		__asm__ volatile("movb %b1, %0" : "=m"(*to) : "q"(word) : "memory");
		break;
	case 2:
		__asm__ volatile("movw %w1, %0" : "=m"(*to) : "r"(word) : "memory");
		break;
	case 4:
		__asm__ volatile("movl %k1, %0" : "=m"(*to) : "r"(word) : "memory");
		break;
	case 8:
		__asm__ volatile("movq %1, %0" : "=m"(*to) : "r"(word) : "memory");
		break;
	default:
		for (size_t i = 0; i < len; i++)
			((volatile uint8_t *)to)[i] = ((const uint8_t *)bytes)[i];
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
		port_write_text(w->addr, w->bytes, w->len);
	}
	return 0;
}

/* ------------------------------------------------------------------- core sync */

int shunt_port_core_sync(void)
{
	core_sync();
	return 0;
}

/* -------------------------------------------------------- the poke as a whole */

/*
 * By single bytes where that will do: nobody traps, and one core sync follows. Else, or where that
 * has failed, by int3.
 */
int shunt_port_poke_begin(size_t n, bool flips, unsigned tried)
{
	(void)n;
	if (flips && !(tried & 1u << SHUNT_WAY_FLIP))
		return SHUNT_WAY_FLIP;
	return tried & 1u << SHUNT_WAY_INT3 ? -SHUNT_ENOSYS : SHUNT_WAY_INT3;
}

/* The IDT has led to shunt_trap() since boot. */
int shunt_port_install_handler(void)
{
	return 0;
}

int shunt_port_text_remap(const struct shunt_write *writes, size_t n, size_t stride)
{
	(void)writes;
	(void)n;
	(void)stride;
	return -SHUNT_ENOSYS;
}

void shunt_port_poke_end(void)
{
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

/* The kernel's own code does not make these mistakes. */
int shunt_port_is_trampoline(uintptr_t func)
{
	(void)func;
	return 0;
}

int shunt_port_overlaps_trampoline(uintptr_t addr, size_t len)
{
	(void)addr;
	(void)len;
	return 0;
}

bool shunt_port_registers_modules(void)
{
	return false;
}

int shunt_port_is_own_key(const void *key)
{
	(void)key;
	return 1;
}

int shunt_port_sites_unknown(struct shunt_static_key *key, const char **what)
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

	if (shunt_trap(&regs) == SHUNT_TRAP_FOREIGN)
		trap_unexpected(frame); /* nobody else here uses int3 */
	frame->rip = regs.ip;
	frame->rsp = regs.sp;
	frame->rflags = regs.flags;
	frame->rax = regs.ax;
}

/*
 * Every #BP, as the first thing in C. The word below frame->rsp is free: the entry has
 * made the gap; and one more on the shadow stack at @ssp, if that is not 0.
 */
void trap_breakpoint(struct trapframe *frame, uint64_t ssp)
{
	uint64_t sp = frame->rsp;

	breakpoint(frame);
	if (ssp)
		follow_on_shadow_stack(ssp, frame, sp);
}
