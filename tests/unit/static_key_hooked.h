/* SPDX-License-Identifier: MIT */
/* The hook of static_key_hooked.c. */
#ifndef STATIC_KEY_HOOKED_H
#define STATIC_KEY_HOOKED_H

/* Called before each compare-and-swap in core/static_key.c, where it is not NULL. */
extern void (*key_before_swap)(void);

#endif
