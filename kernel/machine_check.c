/* SPDX-License-Identifier: MIT */
/* Machine checks: allowed, asked for, taken (machine_check.h). */
#include "machine_check.h"

#include "cpus.h"
#include "kernel.h"

#define CPUID1_EDX_MCE (1u << 7)
#define CR4_MCE        (1ul << 6)

#define MSR_MCG_STATUS 0x17a
#define MSR_MC0_STATUS 0x401
#define MCG_STATUS     7ul /* in progress; rip is where it came in; and can go on */
#define MC_VALID       (1ul << 63)

static trap_handler_t recover;
static bool available;

/*
 * What the debugger writes to: it is there; a CPU has a machine check, and must not get
 * another (the monitor does not ask; the machine would shut down).
 */
static volatile struct {
	uint8_t is_there;
	uint8_t busy[MAX_CPUS];
} debugger;

void mce_cpu_init(void)
{
	uint32_t out[4];

	cpuid(1, out);
	if (out[3] & CPUID1_EDX_MCE)
		write_cr4(read_cr4() | CR4_MCE);
}

/* Until MCG_STATUS is cleared a second one would end the machine; so that comes last. */
static void on_machine_check(struct trapframe *frame)
{
	if (!recover || rdmsr(MSR_MCG_STATUS) != MCG_STATUS || !(rdmsr(MSR_MC0_STATUS) & MC_VALID))
		trap_unexpected(frame);
	recover(frame);
	wrmsr(MSR_MC0_STATUS, 0);
	wrmsr(MSR_MCG_STATUS, 0);
	debugger.busy[this_cpu()->id] = 0;
}

trap_handler_t mce_set(trap_handler_t handler)
{
	trap_handler_t before = recover;

	recover = handler;
	return before;
}

/* The debugger stops the machine here, and takes @at and @steps from the registers. */
__attribute__((noinline)) void mce_request(uintptr_t at, unsigned steps)
{
	__asm__ volatile("" : : "r"(at), "r"(steps) : "memory");
}

bool mce_available(void)
{
	return available;
}

void mce_init(void)
{
	trap_set(VEC_MC, on_machine_check);
	if (!cmdline_has("mce"))
		return;
	print("# mce: request %lx, answer %lx\n", (uintptr_t)mce_request, (uintptr_t)&debugger);
	while (!debugger.is_there)
		pause();
	available = true;
}
