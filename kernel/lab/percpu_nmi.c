/* SPDX-License-Identifier: MIT */
/*
 * percpu-nmi: percpu, and NMIs step back out of the shadow of the `sti`.
 *
 * Proposed by Andy Lutomirski (LKML 2019-04-29 [L3], his second solution): "if the return
 * address is one of these magic jumps, clear IF and back up IP by one byte", in the handlers of
 * NMIs and machine checks. The `sti` is executed once more, and the shadow is there again.
 *
 * Held against it: "This should work, but it's a bit ugly" [L3]. The shadow stack.
 *
 * What the run shows: it works, for NMIs and for machine checks; the interrupt behind them
 * waits for the end of the second shadow. It does not help where their own handler goes
 * through a site: that has overwritten the per-CPU words by then. The handler of
 * #DB does the same here, as it can come in in the shadow as well.
 */
#include "percpu.h"

void percpu_step_back(struct trapframe *frame)
{
	if (frame->rip != (uintptr_t)lab_percpu_sti_jmp &&
	    frame->rip != (uintptr_t)lab_percpu_nmi_jmp)
		return;
	frame->rflags &= ~RFLAGS_IF;
	frame->rip--;
}

static const struct lab_scheme lab_scheme_percpu_nmi = {
	.id = "percpu-nmi",
	.update = lab_poke,
	.trap = percpu_trap,
	.entry = lab_entry_plain,
	.nmi = percpu_step_back,
	.points = percpu_points,
};
LAB_SCHEME(percpu_nmi);
