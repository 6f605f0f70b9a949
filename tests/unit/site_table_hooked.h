/* SPDX-License-Identifier: MIT */
/* The hook of site_table_hooked.c. */
#ifndef SITE_HOOKED_H
#define SITE_HOOKED_H

/* Called before each atomic load in core/site_table.c, where it is not NULL. */
extern void (*site_before_load)(void);

#endif
