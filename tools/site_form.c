/* SPDX-License-Identifier: MIT */
/*
 * The one rule by which `shunt sites` and `shunt bake` tell whether a site will be direct
 * (site_form.h): the instruction is encoded, and what that says is the answer.
 */
#include "site_form.h"

#include "bake_form.h"
#include "file_cpu.h"

static enum site_outcome encode(const struct inventory *inv, const struct file_site *site,
				const struct bake_target *to, uint8_t *bytes)
{
	switch (file_cpu_form(inv->elf.cpu)(site->kind, site->addr, to, bytes)) {
	case BAKE_DIRECT:
		return SITE_DIRECT;
	case BAKE_FAR:
		return SITE_OUT_OF_REACH;
	default:
		return to->initial == INITIAL_FUNCTION ? SITE_AT_RUN_TIME : SITE_HELPER;
	}
}

/* What @site becomes for what @key, which this file defines, starts out with. */
static enum site_outcome form_of_key(const struct inventory *inv, const struct file_site *site,
				     const struct file_key *key, uint8_t *bytes)
{
	struct bake_target to = {.tramp = site->via ? site->via
						    : inventory_key(inv, site->key)->tramp};
	uint8_t unused[SITE_MAX];
	const char *symbol;
	enum site_outcome outcome;

	to.initial = inventory_initial(inv, key, &to.target, &symbol);
	switch (to.initial) {
	case INITIAL_UNKNOWN:
		return SITE_AT_RUN_TIME;
	case INITIAL_FOREIGN:
		return SITE_FOREIGN;
	case INITIAL_NULL:
		to.target = inv->nop;
		break;
	case INITIAL_RET0:
		to.target = inv->return0;
		break;
	case INITIAL_INTERPOSABLE:
		to.initial = INITIAL_FUNCTION;
		outcome = encode(inv, site, &to, unused);
		return outcome == SITE_DIRECT ? SITE_CLAIMED : outcome;
	case INITIAL_FUNCTION:
		break;
	}
	/*
	 * Without a target of its own the file would have to go through the PLT. 0 is an address of
	 * text where the ELF header is mapped with it, and none of a function.
	 */
	if (!inventory_has_text(inv, to.target, 1))
		to.target = 0;
	return encode(inv, site, &to, bytes);
}

enum site_outcome site_form(const struct inventory *inv, const struct file_site *site,
			    uint8_t *bytes)
{
	const struct file_key *key = inventory_key(inv, site->key);
	uint8_t unused[SITE_MAX];
	enum site_outcome outcome;

	if (!key->imported)
		return form_of_key(inv, site, key, bytes);
	if (!key->own)
		return SITE_KEY_FOREIGN;
	outcome = form_of_key(inv, site, inventory_key(inv, key->own - 1), unused);
	return outcome == SITE_DIRECT || outcome == SITE_CLAIMED ? SITE_KEY_CLAIMED : outcome;
}
