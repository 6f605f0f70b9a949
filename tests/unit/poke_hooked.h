/* SPDX-License-Identifier: MIT */
/* The hook of poke_hooked.c. */
#ifndef POKE_HOOKED_H
#define POKE_HOOKED_H

/* Called before each atomic load in core/poke.c, where it is not NULL. */
extern void (*poke_before_load)(const volatile void *object);

#endif
