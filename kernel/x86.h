/* SPDX-License-Identifier: MIT */
/*
 * The instructions that C has no words for, and the numbers that go with them
 * (Intel SDM volumes 3 and 4). Those that assembly needs too come first.
 */
#ifndef KERNEL_X86_H
#define KERNEL_X86_H

/* Segment selectors: the same GDT layout on every CPU (cpu.c). */
#define SEL_CODE 0x08
#define SEL_DATA 0x10
#define SEL_TSS  0x18

#define CR0_PE  (1 << 0)
#define CR0_WP  (1 << 16)
#define CR0_PG  (1 << 31)
#define CR4_PAE (1 << 5)
#define CR4_CET (1 << 23)

#define MSR_EFER          0xc0000080
#define EFER_LME          (1 << 8)
#define EFER_NXE          (1 << 11)
#define MSR_GS_BASE       0xc0000101
#define MSR_APIC_BASE     0x1b
#define MSR_S_CET         0x6a2
#define MSR_PL0_SSP       0x6a4
#define MSR_SSP_TABLE     0x6a8
#define S_CET_SHSTK_EN    (1 << 0)
#define S_CET_WR_SHSTK_EN (1 << 1) /* wrss works */

#define CPUID7_ECX_SHSTK (1 << 7)

/* Exceptions. */
#define VEC_DB  1
#define VEC_NMI 2
#define VEC_BP  3
#define VEC_UD  6
#define VEC_DF  8
#define VEC_GP  13
#define VEC_PF  14
#define VEC_MC  18
#define VEC_CP  21

#ifndef __ASSEMBLER__
#include <stdbool.h>
#include <stdint.h>

#define RFLAGS_CF  (1ul << 0)
#define RFLAGS_ONE (1ul << 1) /* always set */
#define RFLAGS_PF  (1ul << 2)
#define RFLAGS_AF  (1ul << 4)
#define RFLAGS_ZF  (1ul << 6)
#define RFLAGS_SF  (1ul << 7)
#define RFLAGS_TF  (1ul << 8)
#define RFLAGS_IF  (1ul << 9)
#define RFLAGS_DF  (1ul << 10)
#define RFLAGS_OF  (1ul << 11)
#define RFLAGS_RF  (1ul << 16)
#define RFLAGS_AC  (1ul << 18)
#define RFLAGS_ID  (1ul << 21)
/* Those of arithmetic; and all that code in ring 0 may set without other effects here. */
#define RFLAGS_ARITH (RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF)
#define RFLAGS_USER  (RFLAGS_ARITH | RFLAGS_DF | RFLAGS_AC | RFLAGS_ID)

static inline void outb(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t inb(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline uint64_t rdmsr(uint32_t msr)
{
	uint32_t low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
	return low | (uint64_t)high << 32;
}

static inline void wrmsr(uint32_t msr, uint64_t value)
{
	__asm__ volatile("wrmsr"
			 :
			 : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
			 : "memory");
}

static inline uint64_t read_cr2(void)
{
	uint64_t value;

	__asm__ volatile("movq %%cr2, %0" : "=r"(value));
	return value;
}

static inline uint64_t read_cr4(void)
{
	uint64_t value;

	__asm__ volatile("movq %%cr4, %0" : "=r"(value));
	return value;
}

static inline void write_cr3(uint64_t value)
{
	__asm__ volatile("movq %0, %%cr3" : : "r"(value) : "memory");
}

static inline void write_cr4(uint64_t value)
{
	__asm__ volatile("movq %0, %%cr4" : : "r"(value) : "memory");
}

/* CPUID; it is also the serialising instruction that needs the least around it. */
static inline void cpuid(uint32_t leaf, uint32_t out[4])
{
	__asm__ volatile("cpuid"
			 : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3])
			 : "a"(leaf), "c"(0)
			 : "memory");
}

static inline void serialise(void)
{
	uint32_t out[4];

	cpuid(0, out);
}

static inline void irq_enable(void)
{
	__asm__ volatile("sti" : : : "memory");
}

static inline void irq_disable(void)
{
	__asm__ volatile("cli" : : : "memory");
}

static inline uint64_t read_flags(void)
{
	uint64_t flags;

	__asm__ volatile("pushfq; popq %0" : "=r"(flags) : : "memory");
	return flags;
}

static inline bool irqs_on(void)
{
	return read_flags() & RFLAGS_IF;
}

/* Interrupts off; returns what irq_restore() takes. */
static inline bool irq_save(void)
{
	bool on = irqs_on();

	irq_disable();
	return on;
}

static inline void irq_restore(bool on)
{
	if (on)
		irq_enable();
}

static inline void pause(void)
{
	__asm__ volatile("pause" : : : "memory");
}

/* The shadow stack pointer; 0 where there is no shadow stack (then it is a nop). */
static inline uint64_t read_ssp(void)
{
	uint64_t ssp = 0;

	__asm__ volatile("rdsspq %0" : "+r"(ssp));
	return ssp;
}

/* Write to a shadow stack page (S_CET_WR_SHSTK_EN). */
static inline void wrss(uint64_t addr, uint64_t value)
{
	__asm__ volatile("wrssq %0, (%1)" : : "r"(value), "r"(addr) : "memory");
}

#endif
#endif
