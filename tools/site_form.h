/* SPDX-License-Identifier: MIT */
/*
 * What a site of a static call becomes when its file is loaded, as far as the file says
 * (site_form.c): `shunt bake` writes it, `shunt sites` tells it.
 */
#ifndef SHUNT_TOOLS_SITE_FORM_H
#define SHUNT_TOOLS_SITE_FORM_H

#include "inventory.h"

/* The most bytes of a site. */
#define SITE_MAX 15

enum site_outcome {
	SITE_DIRECT,       /* the direct form of its key's initial value */
	SITE_KEY_CLAIMED,  /* the same, unless another module's key or function goes before it */
	SITE_CLAIMED,      /* the same, unless another module's function does */
	SITE_KEY_FOREIGN,  /* its key is in another module */
	SITE_FOREIGN,      /* the function is */
	SITE_HELPER,       /* libshunt's function is, which does nothing or returns 0 */
	SITE_AT_RUN_TIME,  /* the function is made at run time */
	SITE_OUT_OF_REACH, /* the function is in the file, and a call does not reach it */
	SITE_NR_OUTCOMES,
};

/*
 * For SITE_DIRECT, @bytes gets the form, as long as the site; for all else there is none, or the
 * dynamic linker has a say in it, and it stays. What is off at first keeps the displacement that
 * the linker left, which leads to the trampoline.
 */
enum site_outcome site_form(const struct inventory *inv, const struct file_site *site,
			    uint8_t *bytes);

/*
 * Whether the file has at @site of a baked file what belongs there: the direct form if its table
 * says that it has one, else what the linker left. (Of a file that is not baked no more than that
 * is known: a site is what has that.)
 */
bool site_is_as_baked(const struct inventory *inv, const struct file_site *site);

#endif
