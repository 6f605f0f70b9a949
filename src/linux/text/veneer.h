/* SPDX-License-Identifier: MIT */
/*
 * Veneers (veneer.c): in the modules' own areas, and in pools where those are full; and
 * how unwinders come to know the pools (frames.c).
 */
#ifndef SHUNT_LINUX_VENEER_H
#define SHUNT_LINUX_VENEER_H

#include <stddef.h>
#include <stdint.h>

/* One veneer of an area, bytes: see <shunt/module.h>. */
#define SHUNT_AREA_VENEER 8

#define SHUNT_POOL_SIZE (1u << 16)

struct shunt_veneer {
	uint8_t jmp[6];
	uint8_t ud2[2];
	uint64_t target;
};
_Static_assert(sizeof(struct shunt_veneer) == 16, "fits a pool");

/* Call frame information in the form of .eh_frame: one CIE, one FDE and the end mark. */
struct shunt_frames {
	struct {
		uint32_t length; /* of what follows it, bytes */
		uint32_t id;
		uint8_t version;
		char augmentation[1];
		uint8_t code_align, data_align, return_column;
		uint8_t program[11];
	} cie;
	struct {
		uint32_t length;
		uint32_t cie; /* how far before this field the CIE is, bytes */
		uint64_t start, size;
	} fde;
	uint32_t end;
} __attribute__((packed, aligned(8)));
_Static_assert(sizeof(struct shunt_frames) == 56, "an FDE behind its CIE, without gaps");

/* One pool. Never freed. */
struct shunt_pool {
	struct shunt_pool *next;
	struct shunt_pool *next_unknown; /* frames.c */
	struct shunt_veneer *veneers;    /* SHUNT_POOL_SIZE bytes */
	size_t n;                        /* in use */
	struct shunt_frames frames;
};

/* veneer.c: all pools, oldest first. Guarded by the update lock. */
extern struct shunt_pool *shunt_pools;

/* frames.c: make @pool's frame information. Unwinders get it once the lock is free. */
void shunt_frames_add(struct shunt_pool *pool);

/*
 * frames.c: give unwinders what has been added. Cheap where there is nothing. Update
 * lock not held, because the dynamic linker and malloc() are called.
 */
void shunt_frames_register(void);

#endif
