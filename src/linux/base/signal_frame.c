/* SPDX-License-Identifier: MIT */
/*
 * What the kernel has saved for signal handlers, on the stacks of a process: found by what hardly
 * anything else looks like (as base/handler.c, which asks a narrower question). Async-signal-safe.
 */
#include "linux/base/signal_frame.h"
#include "linux/base/base.h"
#include "linux/base/syscall.h"

#define PAGE ((uintptr_t)4096)

/* In ucontext_t, bytes. */
#define UC_LINK  8
#define UC_RSP   160
#define UC_RIP   168
#define UC_FLAGS 176
#define UC_CS    184

static uint64_t word_at(uintptr_t addr)
{
	return *(const volatile uint64_t *)addr;
}

static uint16_t own_cs(void)
{
	uint16_t cs;

	__asm__("mov %%cs, %0" : "=r"(cs));
	return cs;
}

/* Whether the ucontext_t of a signal is at @uc: as base/handler.c, and nothing linked to it. */
static bool is_frame(uintptr_t uc, uint16_t cs)
{
	uint64_t flags;

	if ((uint16_t)word_at(uc + UC_CS) != cs || word_at(uc + UC_CS) << 16 >> 32)
		return false;
	flags = word_at(uc + UC_FLAGS);
	return !(flags >> 32) && (flags & 0x202) == 0x202 && word_at(uc) < 0x100 &&
	       !word_at(uc + UC_LINK) && word_at(uc - 8) >= PAGE;
}

uintptr_t shunt_find_signal_frame(uintptr_t at, uintptr_t end)
{
	uint16_t cs = own_cs();

	/* Where the selectors would be: what lies before that is readable then. */
	at = (at & -(uintptr_t)8) + UC_CS + 8;
	while (at < end) {
		uintptr_t next = (at & -PAGE) + PAGE;

		for (; at < next && at < end; at += 8)
			if (is_frame(at - UC_CS, cs))
				return at - UC_CS;
		if (at < end && !shunt_is_readable(at))
			return 0;
	}
	return 0;
}

uintptr_t shunt_frame_sp(uintptr_t frame)
{
	return word_at(frame + UC_RSP);
}

uintptr_t *shunt_frame_ip(uintptr_t frame)
{
	return (uintptr_t *)(frame + UC_RIP);
}
