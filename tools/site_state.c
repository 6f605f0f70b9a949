/* SPDX-License-Identifier: MIT */
/* What will become of a file's sites when it is loaded, in words (site_state.h). */
#include "site_state.h"

#include <stdio.h>

const char site_may_be_far[] = "may be far";

/* What a far site hangs on. */
enum far_why {
	FAR_TARGET,   /* in this file */
	FAR_FOREIGN,  /* in another */
	FAR_IMPORTED, /* its key is */
	FAR_RUN_TIME,
	NR_FAR_WHYS,
};
_Static_assert(NR_FAR_WHYS == SITE_NR_FAR_WHYS, "each has its words");

void site_words(struct site_words *words, const struct shunt_elf_cpu *cpu)
{
	static const char *const why[] = {
		[FAR_TARGET] = "the target is out of reach: through a veneer beyond",
		[FAR_FOREIGN] = "the target is in another module: through a veneer if beyond",
		[FAR_IMPORTED] = ("the key is in another module, and the target may be: through a "
				  "veneer if beyond"),
		[FAR_RUN_TIME] = "the target is made at run time: through a veneer if beyond",
	};

	for (size_t i = 0; i < NR_FAR_WHYS; i++)
		(void)snprintf(words->why_far[i], sizeof(words->why_far[i]), "%s %s", why[i],
			       cpu->reach);
}

/* The state of @site, a call of @key, with what it hangs on, or NULL. */
static const char *call_state(const struct inventory *inv, const struct site_words *words,
			      const struct file_site *site, const struct file_key *key,
			      const char **why)
{
	const char *symbol;
	uint64_t target;

	switch (inventory_initial(inv, key, &target, &symbol)) {
	case INITIAL_FOREIGN:
		*why = words->why_far[FAR_FOREIGN];
		return site_may_be_far;
	case INITIAL_UNKNOWN:
		*why = words->why_far[key->imported ? FAR_IMPORTED : FAR_RUN_TIME];
		return site_may_be_far;
	case INITIAL_INTERPOSABLE:
		*why = "unless another module's function takes the target's place";
		return "inline";
	case INITIAL_FUNCTION:
		if (inv->elf.cpu->reaches(site->addr, target))
			return "inline";
		*why = words->why_far[FAR_TARGET];
		return site_may_be_far;
	default:
		return "inline";
	}
}

const char *site_state(const struct inventory *inv, const struct site_words *words,
		       const struct file_site *site, const char **why)
{
	const struct file_key *key = inventory_key(inv, site->key);
	const char *state;

	*why = NULL;
	if (key->is_branch)
		return "inline";
	if (site->direct)
		return "baked";
	if (!key->own)
		return call_state(inv, words, site, key, why);
	state = call_state(inv, words, site, inventory_key(inv, key->own - 1), why);
	if (state != site_may_be_far)
		*why = "unless another module's key or function takes the place of this one's";
	return state;
}
