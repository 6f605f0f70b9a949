/* SPDX-License-Identifier: MIT */
/*
 * What ftrace's handler of #BP did before, and what was proposed for it: `skip` is the negative
 * control of the storm (ftrace_storm.c), `regs-caller` what [L4] was written against.
 */
#include "ftrace_int3.h"

#include "ftrace.h"

static _Atomic uint64_t list_calls;

uint64_t ftrace_int3_list_calls(void)
{
	return list_calls;
}

/* Ftrace's handler at the time of [L3]: the site is a nop as long as the int3 is there. */
void ftrace_int3_skip(struct trapframe *frame)
{
	uintptr_t ip = frame->rip - 1;

	if (!ftrace_has_entry(ip))
		trap_unexpected(frame);
	frame->rip = *(volatile uint8_t *)ip == 0xcc ? ip + FTRACE_INSN_SIZE : ip;
}

/*
 * What the patches that [L4] answers did: an int3 at an entry always calls ftrace_regs_caller, here
 * the stub of the list, which "doesn't emulate either the old _or_ the new call".
 */
void ftrace_int3_regs_caller(struct trapframe *frame, uint64_t ssp)
{
	uintptr_t ip = frame->rip - 1;

	if (!ftrace_has_entry(ip)) {
		trap_breakpoint(frame, ssp);
		return;
	}
	if (*(volatile uint8_t *)ip != 0xcc) {
		frame->rip = ip;
		return;
	}
	frame->rsp -= 8;
	*(uint64_t *)frame->rsp = ip + FTRACE_INSN_SIZE;
	frame->rip = ftrace_stub(FTRACE_SLOTS);
	list_calls++;
}
