/* SPDX-License-Identifier: MIT */
/* What a CPU is set up with: segments, task state, interrupt table, %gs. */
#include "cpus.h"
#include "machine_check.h"
#include "trap.h"

/* By their selectors: nothing, 64-bit code, data. The first CPU boots with it (boot/). */
extern const uint64_t boot_gdt[3];
const uint64_t boot_gdt[3] = {0, 0x00af9b000000ffff, 0x00cf93000000ffff};

struct table_pointer {
	uint16_t limit;
	uint64_t base;
} __attribute__((packed));

static void load_gdt(struct cpu *cpu)
{
	const struct table_pointer pointer = {sizeof(cpu->gdt) - 1, (uintptr_t)cpu->gdt};

	__asm__ volatile("lgdt %0" : : "m"(pointer));
	__asm__ volatile("ltr %w0" : : "r"(SEL_TSS));
	/* None: a selector of one, on a bad frame, would be looked up at address 0. */
	__asm__ volatile("lldt %w0" : : "r"(0));
}

/* The descriptor of the task state, two words: base, limit, "available 64-bit TSS". */
static void describe_tss(struct cpu *cpu)
{
	uint64_t base = (uintptr_t)&cpu->tss;

	cpu->gdt[3] = (sizeof(cpu->tss) - 1) | (base & 0xffffff) << 16 | 0x89ul << 40 |
		      (base >> 24 & 0xff) << 56;
	cpu->gdt[4] = base >> 32;
}

void cpu_init(struct cpu *cpu)
{
	cpu->self = cpu;
	cpu->id = (uint32_t)(cpu - cpus);
	for (unsigned i = 0; i < 3; i++)
		cpu->gdt[i] = boot_gdt[i];
	for (unsigned i = 0; i < NR_IST; i++)
		cpu->tss.ist[i] = (uintptr_t)cpu->ist[i] + sizeof(cpu->ist[i]);
	cpu->tss.io_map = sizeof(cpu->tss);
	describe_tss(cpu);
	load_gdt(cpu);
	wrmsr(MSR_GS_BASE, (uintptr_t)cpu);
	trap_load();
	mce_cpu_init();
}
