/* SPDX-License-Identifier: MIT */
/* The forms of a site: the direct one, and what the linker left (bake_form.c). */
#ifndef SHUNT_TOOLS_BAKE_FORM_H
#define SHUNT_TOOLS_BAKE_FORM_H

#include <stdint.h>

#include "inventory.h"

/* What a site is to call. */
struct bake_target {
	enum initial_target initial; /* INITIAL_NULL, INITIAL_RET0 or INITIAL_FUNCTION */
	uint64_t target;             /* the function, or that which does so; 0: not in the file */
	uint64_t tramp;              /* what the site calls as linked; 0: it goes through a slot */
};

enum bake_outcome {
	BAKE_DIRECT,
	BAKE_NO_TARGET, /* it is not in the file */
	BAKE_FAR,       /* it is out of reach */
};

/*
 * Write the direct form of a site of @kind (struct shunt_site.kind) at @ip, as long as the site,
 * to @bytes, which stay as they are where there is none.
 */
enum bake_outcome bake_form(uint8_t kind, uint64_t ip, const struct bake_target *to,
			    uint8_t *bytes);

/*
 * The same of the form that the linker left, which leads to @operand: to what is called, or through
 * that slot.
 */
enum bake_outcome bake_linked_form(uint8_t kind, uint64_t ip, uint64_t operand, uint8_t *bytes);

#endif
