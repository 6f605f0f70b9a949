/* SPDX-License-Identifier: MIT */
/*
 * What the kernel has saved for signal handlers, on the stacks of a process: found by what hardly
 * anything else looks like (as base/handler.c, which asks a narrower question). Async-signal-safe.
 */
#include "linux/base/signal_frame.h"
#include "linux/base/base.h"
#include "linux/base/syscall.h"

#define PAGE ((uintptr_t)4096)

static uint64_t word_at(uintptr_t addr)
{
	return *(const volatile uint64_t *)addr;
}

uintptr_t shunt_find_signal_frame(uintptr_t at, uintptr_t end)
{
	const struct shunt_frame_mark own = shunt_frame_mark();

	/* Where its end would be: what lies before that is readable then. */
	at = (at & -(uintptr_t)8) + SHUNT_UC_EXTENT;
	while (at < end) {
		uintptr_t next = (at & -PAGE) + PAGE;

		for (; at < next && at < end; at += 8)
			if (shunt_is_ucontext(own, at - SHUNT_UC_EXTENT + 8, word_at))
				return at - SHUNT_UC_EXTENT + 8;
		if (at < end && !shunt_is_readable(at))
			return 0;
	}
	return 0;
}

uintptr_t shunt_frame_sp(uintptr_t frame)
{
	return word_at(frame + SHUNT_UC_SP);
}

uintptr_t *shunt_frame_ip(uintptr_t frame)
{
	return (uintptr_t *)(frame + SHUNT_UC_IP);
}
