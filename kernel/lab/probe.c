/* SPDX-License-Identifier: MIT */
/*
 * The laboratory's probe: one call through a site, with every register watched, that comes
 * back whatever happens to it. A fault ends the probe, not the kernel.
 */
#include "internal.h"

#define VEC_IRETQ 0x5f

/* The innermost probe of each CPU; probes nest, in interrupts. */
static struct lab_catch *probes[MAX_CPUS];

const char *lab_result_name(unsigned result)
{
	static const char *const names[] = {
		"wrong return address", "wrong stack pointer",      "unknown int3",
		"wrong target",         "interrupts not as before", "registers changed"};

	if (result < ARRAY_SIZE(names))
		return names[result];
	switch (result - LAB_FAULT) {
	case VEC_DB:
		return "#DB";
	case VEC_UD:
		return "#UD";
	case VEC_DF:
		return "#DF";
	case VEC_GP:
		return "#GP";
	case VEC_PF:
		return "#PF";
	case VEC_CP:
		return "#CP";
	default:
		return "fault";
	}
}

/* A fault in an interrupt's handler may leave the interrupt in service. */
void lab_bad(unsigned result)
{
	struct lab_catch *probe;

	irq_disable();
	probe = probes[this_cpu()->id];
	if (!probe)
		panic("lab: %s outside a probe", lab_result_name(result));
	for (unsigned i = 0; i < 4; i++)
		apic_eoi();
	lab_throw(probe, result + 1);
}

static void on_fault(struct trapframe *frame)
{
	if (!probes[this_cpu()->id])
		trap_unexpected(frame);
	lab_bad(LAB_FAULT + (unsigned)frame->vector);
}

void lab_probe_init(void)
{
	static const uint8_t faults[] = {VEC_UD, 10, 11, 12, VEC_GP, VEC_PF, VEC_CP};

	for (unsigned i = 0; i < ARRAY_SIZE(faults); i++)
		trap_set(faults[i], on_fault);
	idt_set(VEC_IRETQ, lab_entry_iretq, 0);
}

/* The patterns of entry.S; rax is not among them. */
static bool registers_kept(const struct lab_regs *regs)
{
	const uint64_t *reg = &regs->rcx;

	for (unsigned i = 0; i < 12; i++)
		if (reg[i] != 0x1101 + i)
			return false;
	return true;
}

static unsigned judge(const struct lab_regs *regs, bool irqs)
{
	if (regs->rax >= LAB_TARGETS)
		return LAB_WRONG_TARGET;
	if (!(regs->flags & RFLAGS_IF) != !irqs)
		return LAB_BAD_FLAGS;
	return registers_kept(regs) ? LAB_GOOD + (unsigned)regs->rax : LAB_REGISTERS;
}

unsigned lab_go(const struct lab_site *site)
{
	struct lab_catch **slot = &probes[this_cpu()->id];
	struct lab_catch *outer = *slot;
	struct lab_catch here;
	struct lab_regs regs;
	bool irqs = irqs_on();
	unsigned thrown = (unsigned)lab_catch(&here);

	if (!thrown) {
		*slot = &here;
		lab_probe(site->code, site->ret, &regs);
	}
	irq_restore(irqs);
	if (!irqs)
		irq_disable();
	*slot = outer;
	return thrown ? thrown - 1 : judge(&regs, irqs);
}
