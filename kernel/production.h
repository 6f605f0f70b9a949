/* SPDX-License-Identifier: MIT */
/* The sites and targets of production_sites.S, for production.c and other tests. */
#ifndef KERNEL_PRODUCTION_H
#define KERNEL_PRODUCTION_H

/* What a call that went wrong returns. */
#define WRONG_TARGET (-1) /* it reached none of the targets */
#define WRONG_RETURN (-2) /* the target found another return address than the site's */

#define NR_TARGETS 4

#ifndef __ASSEMBLER__
#include <stdbool.h>
#include <stdint.h>

#include <shunt/static_call.h>

/* Of production_sites.S. Both return the number of the target that the call reaches. */
typedef long site_fn(uintptr_t *expected);
site_fn production_aligned, production_line_1, production_line_2, production_tail, production_jcc,
	production_page;
site_fn production_target_0, production_target_1, production_target_2, production_target_3;

DECLARE_STATIC_CALL(production_call, production_target_0);

/* Whether a call through @site reaches target 0 or 1, with the right return address. */
static inline bool production_reaches_0_or_1(site_fn *site)
{
	uintptr_t expected;
	long result = site(&expected);

	return result == 0 || result == 1;
}
#endif

#endif
