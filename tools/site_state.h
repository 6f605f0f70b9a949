/* SPDX-License-Identifier: MIT */
/* The state of a site as `shunt sites` lists it (site_state.c). */
#ifndef SHUNT_TOOLS_SITE_STATE_H
#define SHUNT_TOOLS_SITE_STATE_H

#include "site_form.h"

/* Why a site may be far, with how far a call reaches on the file's CPU. */
struct site_words {
	char why_far[SITE_NR_OUTCOMES][128];
};

void site_words(struct site_words *words, const struct shunt_elf_cpu *cpu);

extern const char site_may_be_far[], site_foreign[], site_baked[];

/*
 * "inline", site_baked, site_may_be_far or site_foreign; and in *why what it hangs on, or NULL. All
 * that is listed as a site is poked, but for what is foreign.
 */
const char *site_state(const struct inventory *inv, const struct site_words *words,
		       const struct file_site *site, const char **why);

#endif
