/* SPDX-License-Identifier: MIT */
/* Negative controls: a trap path that comes back with something wrong (spoil.c). */
#ifndef KERNEL_TEST_SPOIL_H
#define KERNEL_TEST_SPOIL_H

/* Every trap sets CF. */
void spoil_carry(void);

/* The one that the word "control=..." names, of those of the self-test; nothing else. */
void spoil_by_name(void);

#endif
