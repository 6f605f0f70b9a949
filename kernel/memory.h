/* SPDX-License-Identifier: MIT */
/*
 * Where everything is. Physical and virtual addresses are the same, but for the alias:
 * all memory a second time, ALIAS higher, writable and never executable.
 *
 *	0x00008000		AP_START: the page that application processors start in
 *	0x00100000		the kernel: text R|X, constants R, data R|W
 *	behind it, to MEM_END	the heap, R|W
 *	0x40000000		ALIAS: all of the above, R|W
 *	0xfee00000		the local APIC
 */
#ifndef KERNEL_MEMORY_H
#define KERNEL_MEMORY_H

#define PAGE       4096
#define AP_START   0x8000
#define KERNEL_END 0x400000 /* up to here pages are small; kernel.ld sees that it fits */
#define MEM_END    0x4000000
#define ALIAS      0x40000000
#define LAPIC_BASE 0xfee00000

#ifndef __ASSEMBLER__
#include <stddef.h>
#include <stdint.h>

/* Where to write what stands at @addr: the one way to change text. */
static inline void *alias(const void *addr)
{
	return (void *)((uintptr_t)addr + ALIAS);
}

/* The bounds of the sections, from kernel.ld. */
extern uint8_t __text_start[], __text_end[], __rodata_start[], __rodata_end[];
extern uint8_t __data_start[], __end[];

/* Build the page tables and go over to them. Returns what other CPUs load into CR3. */
uint64_t paging_init(void);
void paging_load(void);

/* Make the page at @addr (below KERNEL_END) a shadow stack page. */
void paging_make_shadow(void *page);

/* Memory: @size bytes, zeroed, aligned to 64; NULL where there are none. Not in NMIs. */
void *kalloc(size_t size);
void kfree(void *p, size_t size);

#endif
#endif
