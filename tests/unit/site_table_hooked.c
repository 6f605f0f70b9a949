/* SPDX-License-Identifier: MIT */
/* core/site_table.c with a hook before each atomic load: see poke_hooked.c. */
#include <stdatomic.h>

#include "site_table_hooked.h"

void (*site_before_load)(void);

static void before_load(void)
{
	if (site_before_load)
		site_before_load();
}

#undef atomic_load_explicit
#define atomic_load_explicit(object, order) (before_load(), (void)(order), *(object))

/* As part of this file, or the macro would not reach it. */
#include "core/site_table.c" /* NOLINT(bugprone-suspicious-include) */
