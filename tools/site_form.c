/* SPDX-License-Identifier: MIT */
/*
 * The one rule by which `shunt sites` and `shunt bake` tell whether a site will be direct
 * (site_form.h): the instruction is encoded, and what that says is the answer.
 */
#include "site_form.h"

#include <string.h>

#include "bake_form.h"
#include "file_cpu.h"

/* What a direct call at @site goes to as linked. */
static uint64_t linked_target(const struct inventory *inv, const struct file_site *site)
{
	return site->via ? site->via : inventory_key(inv, site->key)->tramp;
}

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
	struct bake_target to = {.tramp = linked_target(inv, site)};
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

static bool has_bytes(const struct inventory *inv, const struct file_site *site,
		      const uint8_t *bytes)
{
	unsigned len = shunt_elf_site_len(inv->elf.cpu, site->kind);
	const uint8_t *at = shunt_elf_at(&inv->elf, site->addr, len);

	return at && !memcmp(at, bytes, len);
}

/* Whether the file has the direct form of @to at @site, as the bake that made it writes that. */
static bool has_form(const struct inventory *inv, const struct file_site *site,
		     struct bake_target to)
{
	uint8_t bytes[SITE_MAX];

	if (inv->bare)
		to.tramp = 0;
	return encode(inv, site, &to, bytes) == SITE_DIRECT && has_bytes(inv, site, bytes);
}

/* The direct form, for what the file says that the key starts out with. */
static bool has_direct_form(const struct inventory *inv, const struct file_site *site)
{
	struct bake_target to = {.tramp = linked_target(inv, site)};
	const char *symbol;

	to.initial = inventory_initial(inv, inventory_key(inv, site->key), &to.target, &symbol);
	switch (to.initial) {
	case INITIAL_NULL:
		to.target = inv->nop;
		return has_form(inv, site, to);
	case INITIAL_RET0:
		to.target = inv->return0;
		return has_form(inv, site, to);
	case INITIAL_INTERPOSABLE:
	case INITIAL_FUNCTION:
		to.initial = INITIAL_FUNCTION;
		if (has_form(inv, site, to))
			return true;
		break;
	default:
		return false;
	}
	/* A file with libshunt in it may have no symbols: which functions are NULL's and RET0's? */
	if (inv->imports_library)
		return false;
	to.initial = INITIAL_NULL;
	if (!inv->nop && has_form(inv, site, to))
		return true;
	to.initial = INITIAL_RET0;
	return !inv->return0 && has_form(inv, site, to);
}

bool site_is_as_baked(const struct inventory *inv, const struct file_site *site)
{
	unsigned kind = site->kind & 0xf;
	bool indirect = kind == SHUNT_KIND_CALL_GOT || kind == SHUNT_KIND_JMP_GOT;
	uint64_t operand =
		indirect ? inventory_key(inv, site->key)->slot : linked_target(inv, site);
	uint8_t bytes[SITE_MAX];

	if (site->direct)
		return has_direct_form(inv, site);
	return file_cpu_linked_form(inv->elf.cpu)(site->kind, site->addr, operand, bytes) ==
		       BAKE_DIRECT &&
	       has_bytes(inv, site, bytes);
}
