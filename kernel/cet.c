/* SPDX-License-Identifier: MIT */
/*
 * Shadow stacks: their memory and their tokens (cet.h). At the top of a stack that is
 * not in use stands a token, its own address, which the CPU checks and marks busy when
 * it goes over to that stack. It is written through the alias.
 */
#include "cet.h"

#define MAIN_WORDS 1024 /* two pages */
#define IST_WORDS  128

static struct {
	uint64_t main[MAIN_WORDS];
	uint64_t ist[NR_IST + 1][IST_WORDS];
} stacks[MAX_CPUS] __attribute__((aligned(PAGE)));

/* What the CPU finds the shadow stack of an IST entry by. */
static uint64_t ist_tables[MAX_CPUS][8];

_Static_assert(sizeof(stacks[0]) % PAGE == 0, "a shadow stack page holds nothing else");

bool cet_wanted(void)
{
	uint32_t out[4];

	if (!cmdline_has("cet"))
		return false;
	cpuid(7, out);
	if (out[2] & CPUID7_ECX_SHSTK)
		return true;
	print("1..0 # SKIP this CPU has no shadow stacks\n");
	tap_quit(0);
}

/* Put a token on top of the @n words at @stack; returns its address. */
static uint64_t put_token(uint64_t *stack, size_t n)
{
	uint64_t token = (uintptr_t)&stack[n - 1];

	*(volatile uint64_t *)alias(&stack[n - 1]) = token;
	return token;
}

void cet_prepare(struct cpu *cpu)
{
	uint8_t *pages = (uint8_t *)&stacks[cpu->id];

	for (size_t i = 0; i < sizeof(stacks[0]); i += PAGE)
		paging_make_shadow(pages + i);
	for (unsigned i = 1; i <= NR_IST; i++)
		ist_tables[cpu->id][i] = put_token(stacks[cpu->id].ist[i], IST_WORDS);
	wrmsr(MSR_PL0_SSP, put_token(stacks[cpu->id].main, MAIN_WORDS));
	wrmsr(MSR_SSP_TABLE, (uintptr_t)ist_tables[cpu->id]);
}

/* ------------------------------------------------------------------------- tests */

static uint64_t *ist_top(unsigned ist)
{
	return &stacks[this_cpu()->id].ist[ist][IST_WORDS - 1];
}

enum cet_token cet_ist_token(unsigned ist)
{
	volatile const uint64_t *top = ist_top(ist);

	if (*top == (uintptr_t)top)
		return CET_FREE;
	return *top == ((uintptr_t)top | 1) ? CET_BUSY : CET_NO_TOKEN;
}

/* Below the token lie cs, rip and the interrupted shadow stack pointer. */
void cet_ist_resume(unsigned ist, uint64_t rip)
{
	wrss((uintptr_t)(ist_top(ist) - 2), rip);
}

void cet_ist_break(unsigned ist, bool table)
{
	if (table)
		ist_tables[this_cpu()->id][ist] = 0;
	else
		*(volatile uint64_t *)alias(ist_top(ist)) = 0;
}
