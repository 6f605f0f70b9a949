/* SPDX-License-Identifier: MIT */
/*
 * The page tables (memory.h has the map). Code is executable and never writable, and
 * what is writable is never executable: text is changed through its alias.
 */
#include "kernel.h"
#include "x86.h"

#define P   1ul /* present */
#define W   2ul /* writable */
#define PWT 8ul
#define PCD 16ul
#define D   (1ul << 6) /* dirty; with W clear: a shadow stack page */
#define PS  (1ul << 7) /* a large page */
#define NX  (1ul << 63)

#define LARGE 0x200000ul
#define GIB   0x40000000ul

static uint64_t pml4[512] __attribute__((aligned(PAGE)));
static uint64_t pdpt[512] __attribute__((aligned(PAGE)));
static uint64_t pd_low[512] __attribute__((aligned(PAGE)));
static uint64_t pd_alias[512] __attribute__((aligned(PAGE)));
static uint64_t pd_apic[512] __attribute__((aligned(PAGE)));
static uint64_t small[KERNEL_END / PAGE] __attribute__((aligned(PAGE)));

/* Map the small pages of [start, end) to themselves. */
static void map(uintptr_t start, uintptr_t end, uint64_t flags)
{
	for (uintptr_t page = start; page < end; page += PAGE)
		small[page / PAGE] = page | flags;
}

static void map_small(void)
{
	/* Not page 0: a NULL pointer faults. */
	map(PAGE, KERNEL_END, P | W | NX);
	map(AP_START, AP_START + PAGE, P);
	map((uintptr_t)__text_start, (uintptr_t)__text_end, P);
	map((uintptr_t)__rodata_start, (uintptr_t)__rodata_end, P | NX);
}

uint64_t paging_init(void)
{
	map_small();
	for (uintptr_t page = 0; page < MEM_END; page += LARGE) {
		pd_low[page / LARGE] = page | P | W | PS | NX;
		pd_alias[page / LARGE] = page | P | W | PS | NX;
	}
	for (uintptr_t page = 0; page < KERNEL_END; page += LARGE)
		pd_low[page / LARGE] = (uintptr_t)&small[page / PAGE] | P | W;
	pd_apic[LAPIC_BASE % GIB / LARGE] = LAPIC_BASE | P | W | PS | NX | PCD | PWT;
	pdpt[0] = (uintptr_t)pd_low | P | W;
	pdpt[ALIAS / GIB] = (uintptr_t)pd_alias | P | W;
	pdpt[LAPIC_BASE / GIB] = (uintptr_t)pd_apic | P | W;
	pml4[0] = (uintptr_t)pdpt | P | W;
	paging_load();
	return (uintptr_t)pml4;
}

void paging_load(void)
{
	write_cr3((uintptr_t)pml4);
}

/* Only at boot, before other CPUs use the page: nobody else is told. */
void paging_make_shadow(void *page)
{
	map((uintptr_t)page, (uintptr_t)page + PAGE, P | D | NX);
	paging_load();
}
