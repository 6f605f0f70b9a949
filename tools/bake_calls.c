/* SPDX-License-Identifier: MIT */
/*
 * Direct calls in the image that is baked: each site of a static call gets the instruction that
 * the library's core would give it for its key's initial value.
 */
#include "bake_parts.h"

#include <shunt/static_call.h>

#include "site_form.h"

/* Tell libshunt that sites of @key do not go through the trampoline any more. */
static bool mark_key_baked(struct bake *b, const struct file_key *key)
{
	uint8_t *at = bake_bytes(b, key->addr + offsetof(struct static_call_key, flags),
				 sizeof(uint32_t));
	uint32_t flags;

	if (!at)
		return false;
	memcpy(&flags, at, sizeof(flags));
	flags |= STATIC_CALL_BAKED;
	memcpy(at, &flags, sizeof(flags));
	return true;
}

static void count_outcome(struct bake_result *result, enum site_outcome outcome)
{
	switch (outcome) {
	case SITE_DIRECT:
		result->direct++;
		return;
	case SITE_KEY_CLAIMED:
	case SITE_CLAIMED:
		result->interposable++;
		return;
	case SITE_AT_RUN_TIME:
		result->at_run_time++;
		return;
	case SITE_OUT_OF_REACH:
		result->far++;
		return;
	default:
		result->foreign++;
	}
}

void bake_write_direct_calls(struct bake *b)
{
	for (size_t i = 0; i < b->inv.sites.n; i++) {
		struct file_site *site = inventory_site(&b->inv, i);
		const struct file_key *key = inventory_key(&b->inv, site->key);
		size_t len = shunt_elf_site_len(b->inv.elf.cpu, site->kind);
		uint8_t bytes[SITE_MAX], *at = bake_bytes(b, site->addr, len);
		enum site_outcome outcome;

		if (key->is_branch)
			continue;
		outcome = site_form(&b->inv, site, bytes);
		if (outcome == SITE_DIRECT && at) {
			memcpy(at, bytes, len);
			site->direct = mark_key_baked(b, key);
		}
		count_outcome(b->result, outcome);
	}
}
