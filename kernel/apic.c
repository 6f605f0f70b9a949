/* SPDX-License-Identifier: MIT */
/*
 * The local APIC (Intel SDM volume 3, chapter on the APIC), by its memory-mapped
 * registers: interrupts between CPUs, NMIs, the timer.
 */
#include "apic.h"

#include "cpus.h"
#include "memory.h"

enum reg {
	ID = 0x20,
	TPR = 0x80,
	EOI = 0xb0,
	SVR = 0xf0,
	ICR_LOW = 0x300,
	ICR_HIGH = 0x310,
	LVT_TIMER = 0x320,
	LVT_LINT0 = 0x350,
	LVT_LINT1 = 0x360,
	LVT_ERROR = 0x370,
	TIMER_COUNT = 0x380,
	TIMER_CURRENT = 0x390,
	TIMER_DIVIDE = 0x3e0,
};

#define ICR_NMI     (4u << 8)
#define ICR_INIT    (5u << 8)
#define ICR_STARTUP (6u << 8)
#define ICR_BUSY    (1u << 12)
#define ICR_ASSERT  (1u << 14)
#define ICR_OTHERS  (3u << 18)

#define LVT_NMI        (4u << 8)
#define LVT_MASKED     (1u << 16)
#define LVT_PERIODIC   (1u << 17)
#define SVR_ENABLE     (1u << 8)
#define TIMER_DIVIDE16 3u

static volatile uint32_t *reg(enum reg r)
{
	return (volatile uint32_t *)(LAPIC_BASE + (uintptr_t)r);
}

void apic_init(void)
{
	/* The old interrupt controllers, which nobody listens to. */
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	*reg(TPR) = 0;
	*reg(LVT_TIMER) = LVT_MASKED;
	*reg(LVT_LINT0) = LVT_MASKED;
	*reg(LVT_LINT1) = LVT_MASKED;
	*reg(LVT_ERROR) = LVT_MASKED;
	*reg(SVR) = SVR_ENABLE | VEC_SPURIOUS;
}

void apic_eoi(void)
{
	*reg(EOI) = 0;
}

/*
 * A command takes two writes. An NMI in between may send one of its own: each leaves
 * the high word as it found it.
 */
static void command(unsigned id, uint32_t low)
{
	uint32_t high = *reg(ICR_HIGH);

	while (*reg(ICR_LOW) & ICR_BUSY)
		pause();
	*reg(ICR_HIGH) = id << 24;
	*reg(ICR_LOW) = low | ICR_ASSERT;
	*reg(ICR_HIGH) = high;
}

void apic_ipi(unsigned id, uint8_t vector)
{
	command(id, vector);
}

void apic_ipi_others(uint8_t vector)
{
	command(0, vector | ICR_OTHERS);
}

void apic_nmi(unsigned id)
{
	command(id, ICR_NMI);
}

void apic_nmi_others(void)
{
	command(0, ICR_NMI | ICR_OTHERS);
}

/* Long enough for a CPU to reset, on an emulator. */
static void wait(void)
{
	for (unsigned i = 0; i < 10000; i++)
		pause();
}

void apic_start(unsigned id, uint8_t page)
{
	command(id, ICR_INIT);
	wait();
	command(id, ICR_STARTUP | page);
	wait();
	if (!cpus[id].is_up)
		command(id, ICR_STARTUP | page);
}

void apic_timer(uint32_t count, bool periodic)
{
	*reg(TIMER_DIVIDE) = TIMER_DIVIDE16;
	*reg(LVT_TIMER) = count ? VEC_TIMER | (periodic ? LVT_PERIODIC : 0) : LVT_MASKED;
	*reg(TIMER_COUNT) = count;
}

void apic_timer_once(uint32_t count, bool nmi)
{
	*reg(TIMER_DIVIDE) = TIMER_DIVIDE16;
	*reg(LVT_TIMER) = VEC_TIMER | (nmi ? LVT_NMI : 0);
	*reg(TIMER_COUNT) = count;
}

bool apic_timer_is_over(void)
{
	return !*reg(TIMER_CURRENT);
}
