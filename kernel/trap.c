/* SPDX-License-Identifier: MIT */
/* The interrupt table, and from the entries in trap.S to the handlers in C (trap.h). */
#include "trap.h"
#include "apic.h"
#include "cpus.h"
#include "kernel.h"

#define GATE_INTERRUPT 0x8eul /* present, ring 0, interrupts off */

extern uint8_t trap_entries[256][32]; /* trap.S */

static struct gate idt[256] __attribute__((aligned(16)));
static trap_handler_t handlers[256];

void idt_set(uint8_t vector, void (*entry)(void), unsigned ist)
{
	uint64_t addr = (uintptr_t)entry;

	idt[vector].word[0] = (addr & 0xffff) | (uint64_t)SEL_CODE << 16 | (uint64_t)ist << 32 |
			      GATE_INTERRUPT << 40 | (addr >> 16 & 0xffff) << 48;
	idt[vector].word[1] = addr >> 32;
}

void idt_set_stack(uint8_t vector, unsigned ist)
{
	uint64_t *word = &idt[vector].word[0];

	*word = (*word & ~(7ul << 32)) | (uint64_t)ist << 32;
}

struct gate idt_get(uint8_t vector)
{
	return idt[vector];
}

void idt_restore(uint8_t vector, struct gate gate)
{
	idt[vector] = gate;
}

trap_handler_t trap_set(uint8_t vector, trap_handler_t handler)
{
	trap_handler_t before = handlers[vector];

	handlers[vector] = handler;
	return before;
}

void trap_init(void)
{
	for (unsigned v = 0; v < 256; v++)
		idt_set((uint8_t)v, (void (*)(void))(uintptr_t)trap_entries[v], 0);
	idt_set_stack(VEC_DF, IST_DF);
	idt_set_stack(VEC_MC, IST_MC);
	idt_set(VEC_BP, trap_entry_bp, 0);
}

void trap_load(void)
{
	const struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) pointer = {sizeof(idt) - 1, (uintptr_t)idt};

	__asm__ volatile("lidt %0" : : "m"(pointer));
}

void trap_unexpected(struct trapframe *f)
{
	panic("trap %lu, error %lx, at %lx, rsp %lx, flags %lx, ss %lx, cr2 %lx", f->vector,
	      f->error, f->rip, f->rsp, f->rflags, f->ss, read_cr2());
}

void trap(struct trapframe *frame);
void trap(struct trapframe *frame)
{
	struct cpu *cpu = this_cpu();
	uint8_t vector = (uint8_t)frame->vector;
	bool tracing;

	cpu->taken[vector]++;
	if (vector == VEC_SPURIOUS)
		return;
	if (!handlers[vector])
		trap_unexpected(frame);
	tracing = cpu_context_begin(cpu);
	handlers[vector](frame);
	cpu_context_end(cpu, tracing);
	if (vector >= 0x20)
		apic_eoi();
}
