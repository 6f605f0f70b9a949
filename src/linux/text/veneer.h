/* SPDX-License-Identifier: MIT */
/* Veneers (veneer.c): in the modules' own areas, and in pools where those are full. */
#ifndef SHUNT_LINUX_VENEER_H
#define SHUNT_LINUX_VENEER_H

#include <stddef.h>
#include <stdint.h>

#include "arch/process.h"
#include "linux/text/frames.h"

#define SHUNT_POOL_SIZE (1u << 16)

/* One pool. Never freed. */
struct shunt_pool {
	struct shunt_pool *next;
	struct shunt_veneer *veneers; /* SHUNT_POOL_SIZE bytes */
	size_t n;                     /* in use */
	struct shunt_frames frames;
};

/*
 * veneer.c: SHUNT_POOL_SIZE bytes of executable memory within reach of @near, and of which @near is
 * within reach; NULL: there are none. And write to it what nobody runs yet, of at most
 * SHUNT_NEW_TEXT_MAX bytes, with no core sync: 0 or an error. Update lock held, no batch begun.
 */
#define SHUNT_NEW_TEXT_MAX 32
void *shunt_map_pool(uintptr_t near);
int shunt_write_new_text(void *at, const void *code, size_t len);

/* veneer.c: shunt_port_far_error() is to be @error. NULL. And: the update lock has been taken. */
void *shunt_no_veneer(int error);
void shunt_pools_begin(void);

/* veneer.c: all pools, oldest first. Guarded by the update lock. */
extern struct shunt_pool *shunt_pools;

#endif
