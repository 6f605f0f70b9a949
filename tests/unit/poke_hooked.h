/* SPDX-License-Identifier: MIT */
/* The hooks of poke_hooked.c, and what can be taken out of the core by it. */
#ifndef POKE_HOOKED_H
#define POKE_HOOKED_H

/* Called before each atomic load in core/poke*.c and core/trap.c, where it is not NULL. */
extern void (*poke_before_load)(const volatile void *object);

/* For negative controls: bits. */
enum {
	WITHOUT_SYNC = 1,     /* no core is synchronised */
	WITHOUT_WAY_BACK = 2, /* once something has failed, the batch writes nothing more */
};
extern unsigned poke_without;

#endif
