/* SPDX-License-Identifier: MIT */
/* What will become of a file's sites when it is loaded, in words (site_state.h). */
#include "site_state.h"

#include <stdio.h>

const char site_may_be_far[] = "may be far";
const char site_foreign[] = "foreign";
const char site_baked[] = "baked";

void site_words(struct site_words *words, const struct shunt_elf_cpu *cpu)
{
	static const char *const why[SITE_NR_OUTCOMES] = {
		[SITE_KEY_FOREIGN] = "the key is in another module, and the target may be: through "
				     "a veneer if beyond",
		[SITE_FOREIGN] = "the target is in another module: through a veneer if beyond",
		[SITE_HELPER] = "the target, libshunt's function for NULL or RET0, is in another "
				"module: through a veneer if beyond",
		[SITE_AT_RUN_TIME] = "the target is made at run time: through a veneer if beyond",
		[SITE_OUT_OF_REACH] = "the target is out of reach: through a veneer beyond",
	};

	for (size_t i = 0; i < SITE_NR_OUTCOMES; i++)
		(void)snprintf(words->why_far[i], sizeof(words->why_far[i]), "%s %s",
			       why[i] ? why[i] : "", cpu->reach);
}

const char *site_state(const struct inventory *inv, const struct site_words *words,
		       const struct file_site *site, const char **why)
{
	uint8_t bytes[SITE_MAX];
	enum site_outcome outcome;

	*why = NULL;
	if (inventory_key(inv, site->key)->is_branch)
		return "inline";
	if (inv->baked && !site_is_as_baked(inv, site)) {
		*why = site->direct ? "not the instruction that was baked"
				    : "not the instruction that the linker left";
		return site_foreign;
	}
	if (site->direct)
		return site_baked;
	outcome = site_form(inv, site, bytes);
	switch (outcome) {
	case SITE_DIRECT:
		return "inline";
	case SITE_CLAIMED:
		*why = "unless another module's function takes the target's place";
		return "inline";
	case SITE_KEY_CLAIMED:
		*why = "unless another module's key or function takes the place of this one's";
		return "inline";
	default:
		*why = words->why_far[outcome];
		return site_may_be_far;
	}
}
