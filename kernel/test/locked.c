/* SPDX-License-Identifier: MIT */
/*
 * Emulation from the site's bytes (Torvalds, LKML 2019-05-06 [L4]): a trapped call goes where
 * the four bytes behind the int3 lead, read with a locked instruction, while the writer stores
 * them with xchg (locked_write()). Data accesses are coherent as instruction fetches are
 * not: the handler gets the old offset or the new one, never a mixture.
 *
 * The core does not need it, because it emulates from the key, which one store changes:
 * so a batch changes together, and a call can become a nop, whose bytes are no offset.
 * Here the core still says that the trap is ours and that a call is due, and only the
 * offset is taken from the text. It holds where sites change from call to call, and as
 * long as the writer changes an offset by one store. The core writes each run of bytes
 * that differ by one; production_sites.S has offsets that differ in one run.
 */
#include "locked.h"

#include "kernel.h"
#include "port.h"
#include "trap.h"

struct locked_reads locked_reads;

void locked_write(void *addr, const void *bytes, size_t len)
{
	uint8_t *to = alias(addr);
	uint32_t word = 0;

	memcpy(&word, bytes, len < sizeof(word) ? len : sizeof(word));
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
	default:
		port_write_text(addr, bytes, len);
	}
}

/* cmpxchg of 0 by 0. It writes in any case, so it goes through the alias. */
static int32_t locked_read(uintptr_t addr)
{
	int32_t value = 0;

	__asm__ volatile("lock cmpxchgl %2, %1"
			 : "+a"(value), "+m"(*(int32_t *)alias((void *)addr))
			 : "r"(0)
			 : "memory", "cc");
	return value;
}

/* In the place of trap_breakpoint(): test_entry_locked (entries.S). */
void locked_breakpoint(struct trapframe *frame, uint64_t ssp);
void locked_breakpoint(struct trapframe *frame, uint64_t ssp)
{
	uint64_t behind = frame->rip, sp = frame->rsp, target;

	trap_breakpoint(frame, ssp);
	if (frame->rsp != sp - 8) /* not a call */
		return;
	target = behind + 4 + (uint64_t)(int64_t)locked_read(behind);
	locked_reads.calls++;
	if (target != frame->rip)
		locked_reads.ahead++;
	frame->rip = target;
	if (ssp) /* where iretq compares it (port.c) */
		wrss(ssp + 8, target);
}
