/* SPDX-License-Identifier: MIT */
/* The sites and targets of production_sites.S, for production.c and other tests. */
#ifndef KERNEL_PRODUCTION_H
#define KERNEL_PRODUCTION_H

/* What a call that went wrong returns. */
#define WRONG_TARGET (-1) /* it reached none of the targets */
#define WRONG_RETURN (-2) /* the target found another return address than the site's */
#define WRONG_FLAGS  (-3) /* or other flags than those of the call */

#define NR_TARGETS 4

#ifndef __ASSEMBLER__
#include <stdbool.h>
#include <stdint.h>

#include <shunt/static_call.h>

#include "x86.h"

/* What a call must find: where it returns to, which the site fills in; the flags at the site. */
struct expected {
	uintptr_t ret;
	uint64_t flags;
};

/* Of production_sites.S. Both return the number of the target that the call reaches. */
typedef long site_fn(struct expected *expected);
site_fn production_aligned, production_line_1, production_line_2, production_tail, production_jcc,
	production_page;
site_fn production_switched_line, production_switched_tail, production_switched_page;
site_fn production_target_0, production_target_1, production_target_2, production_target_3;
/* The target of what is switched on and off. */
void production_target_switched(struct expected *expected);

DECLARE_STATIC_CALL(production_call, production_target_0);
DECLARE_STATIC_CALL(production_switched, production_target_switched);

/* Flags for the next call: those of arithmetic in some pattern, IF as it is. */
static inline uint64_t production_flags(uint32_t number)
{
	/* An odd factor: all 64 patterns of the 6 flags come in turn. */
	uint64_t bits = number * (uint64_t)37;

	return (bits & (RFLAGS_CF | RFLAGS_PF | RFLAGS_AF)) |
	       (bits << 3 & (RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF)) | RFLAGS_ONE |
	       (irqs_on() ? RFLAGS_IF : 0);
}

/* Whether a call through @site reaches target 0 or 1, with the right return address and flags. */
static inline bool production_reaches_0_or_1(site_fn *site)
{
	static _Atomic uint32_t calls;
	struct expected expected = {.flags = production_flags(calls++)};
	long result = site(&expected);

	return result == 0 || result == 1;
}
#endif

#endif
