/* SPDX-License-Identifier: MIT */
/* What stubs that save vector registers (ftrace_save.inc) must know of the CPU. */
#include <cpuid.h>
#include <stdbool.h>
#include <stdint.h>

#include "arch/arch.h"

/* Read by the stubs. Without xsave: no mask, and the 512 bytes of fxsave. */
struct shunt_xsave {
	uint64_t mask;
	uint64_t size;
	uint64_t has_xsavec;
};
extern struct shunt_xsave shunt_xsave;
struct shunt_xsave shunt_xsave = {0, 576, 0};

#define OSXSAVE   (1u << 27)
#define AVAILABLE 0xd                    /* leaf of cpuid */
#define NOT_SAVED (1ul << 9 | 3ul << 17) /* PKRU, and AMX' tiles and their configuration */

static uint64_t turned_on(void)
{
	uint32_t low, high;

	__asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return (uint64_t)high << 32 | low;
}

/* The area's size in either format: that of the header, and of each part, aligned. */
static uint64_t area_size(uint64_t mask)
{
	uint64_t size = 576;
	unsigned length, offset, c, d;

	for (unsigned i = 2; i < 63; i++)
		if (mask >> i & 1) {
			__cpuid_count(AVAILABLE, i, length, offset, c, d);
			size += (length + 63) & ~63ul;
			if (size < offset + (uint64_t)length)
				size = offset + (uint64_t)length;
		}
	return (size + 63) & ~63ul;
}

void shunt_ask_vectors(void)
{
	unsigned a, b, c, d;
	uint64_t mask;

	if (shunt_xsave.mask)
		return;
	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & OSXSAVE))
		return;
	mask = turned_on() & ~NOT_SAVED;
	shunt_xsave.size = area_size(mask);
	__cpuid_count(AVAILABLE, 1, a, b, c, d);
	shunt_xsave.has_xsavec = a >> 1 & 1;
	shunt_xsave.mask = mask;
}
