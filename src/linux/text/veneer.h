/* SPDX-License-Identifier: MIT */
/* Veneers (veneer.c): in the modules' own areas, and in pools where those are full. */
#ifndef SHUNT_LINUX_VENEER_H
#define SHUNT_LINUX_VENEER_H

#include <stddef.h>
#include <stdint.h>

#include "linux/text/frames.h"

/* One veneer of an area, bytes: see <shunt/module.h>. */
#define SHUNT_AREA_VENEER 8

#define SHUNT_POOL_SIZE (1u << 16)

struct shunt_veneer {
	uint8_t jmp[6];
	uint8_t ud2[2];
	uint64_t target;
};
_Static_assert(sizeof(struct shunt_veneer) == 16, "fits a pool");

/* One pool. Never freed. */
struct shunt_pool {
	struct shunt_pool *next;
	struct shunt_veneer *veneers; /* SHUNT_POOL_SIZE bytes */
	size_t n;                     /* in use */
	struct shunt_frames frames;
};

/* veneer.c: all pools, oldest first. Guarded by the update lock. */
extern struct shunt_pool *shunt_pools;

#endif
