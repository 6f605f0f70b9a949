/* SPDX-License-Identifier: MIT */
/* How unwinders come to know code that is made at run time (frames.c). */
#ifndef SHUNT_LINUX_FRAMES_H
#define SHUNT_LINUX_FRAMES_H

#include <stddef.h>
#include <stdint.h>

/* Call frame information in the form of .eh_frame: one CIE, one FDE and the end mark. */
struct shunt_eh_frame {
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
_Static_assert(sizeof(struct shunt_eh_frame) == 56, "an FDE behind its CIE, without gaps");

/* Code in all of which the return address is on top of the stack. Never freed. */
struct shunt_frames {
	struct shunt_frames *next; /* that no unwinder has been told of */
	struct shunt_eh_frame eh_frame;
};

/*
 * Describe the @size bytes of code from @start in @frames. Unwinders get it once the lock is
 * free. Update lock held.
 */
void shunt_frames_add(struct shunt_frames *frames, uintptr_t start, size_t size);

/*
 * Give unwinders what has been added. Cheap where there is nothing. Update lock not held,
 * because the dynamic linker and malloc() are called.
 */
void shunt_frames_register(void);

#endif
