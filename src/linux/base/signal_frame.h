/* SPDX-License-Identifier: MIT */
/* What the kernel has saved for signal handlers, on stacks (signal_frame.c). */
#ifndef SHUNT_LINUX_SIGNAL_FRAME_H
#define SHUNT_LINUX_SIGNAL_FRAME_H

#include <stdint.h>

/*
 * The next signal frame of the kernel at or above @at, and before @end; 0: there is none. Its
 * address is that of the saved ucontext_t. Stacks are looked through page by page, as far as they
 * can be read.
 */
uintptr_t shunt_find_signal_frame(uintptr_t at, uintptr_t end);

/* In it: the interrupted stack pointer, and where the instruction pointer is. */
uintptr_t shunt_frame_sp(uintptr_t frame);
uintptr_t *shunt_frame_ip(uintptr_t frame);

#endif
