/* SPDX-License-Identifier: MIT */
/* A thread's rights to memory protection keys (pkeys.c). */
#ifndef SHUNT_LINUX_PKEYS_H
#define SHUNT_LINUX_PKEYS_H

#include <stdbool.h>
#include <stdint.h>

/* Whether this CPU has protection keys and the kernel uses them. Update lock held. */
bool shunt_uses_keys(void);

/* This thread's rights: where there are keys. Async-signal-safe. */
static inline uint32_t shunt_get_rights(void)
{
	uint32_t rights, edx;

	__asm__ volatile("rdpkru" : "=a"(rights), "=d"(edx) : "c"(0));
	return rights;
}

static inline void shunt_set_rights(uint32_t rights)
{
	__asm__ volatile("wrpkru" : : "a"(rights), "c"(0), "d"(0) : "memory");
}

#endif
