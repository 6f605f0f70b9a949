/* SPDX-License-Identifier: MIT */
/*
 * Direct calls in the image that is baked: each site of a static call gets the instruction that
 * the library's core would give it for its key's initial value.
 */
#include "bake_parts.h"

#include <shunt/static_call.h>

#include "bake_form.h"
#include "file_cpu.h"

/* Where the file has what @key starts out with; 0: nowhere. */
static uint64_t target_in_file(const struct bake *b, const struct file_key *key,
			       enum initial_target *initial)
{
	uint64_t target = 0;
	const char *symbol;

	*initial = inventory_initial(&b->inv, key, &target, &symbol);
	if (*initial == INITIAL_NULL)
		target = b->inv.nop;
	else if (*initial == INITIAL_RET0)
		target = b->inv.return0;
	/*
	 * Without a target of its own the file would have to go through the PLT. 0 is an address of
	 * text where the ELF header is mapped with it, and none of a function.
	 */
	return inventory_has_text(&b->inv, target, 1) ? target : 0;
}

/*
 * Write the direct form of @site. What is off at first keeps the displacement that the linker
 * left, which leads to the trampoline.
 */
static enum bake_outcome write_direct(struct bake *b, const struct file_site *site)
{
	const struct shunt_elf_cpu *cpu = b->inv.elf.cpu;
	const struct file_key *key = inventory_key(&b->inv, site->key);
	struct bake_target to = {.tramp = site->via ? site->via : key->tramp};
	uint8_t *at = bake_bytes(b, site->addr, shunt_elf_site_len(cpu, site->kind));

	to.target = target_in_file(b, key, &to.initial);
	if (!at || (to.initial != INITIAL_NULL && to.initial != INITIAL_RET0 &&
		    to.initial != INITIAL_FUNCTION))
		return BAKE_NO_TARGET;
	return file_cpu_form(cpu)(site->kind, site->addr, &to, at);
}

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

/* Count a site of @key that stays as linked by the reason. */
static void count_indirect(struct bake *b, const struct file_key *key)
{
	enum initial_target initial;
	const char *symbol;
	uint64_t target;

	if (key->imported) {
		*(key->own ? &b->result->interposable : &b->result->foreign) += 1;
		return;
	}
	initial = inventory_initial(&b->inv, key, &target, &symbol);
	b->result->interposable += initial == INITIAL_INTERPOSABLE;
	/* libshunt's own helpers, where they are jumped to. */
	b->result->foreign +=
		initial == INITIAL_FOREIGN || initial == INITIAL_NULL || initial == INITIAL_RET0;
}

void bake_write_direct_calls(struct bake *b)
{
	for (size_t i = 0; i < b->inv.sites.n; i++) {
		struct file_site *site = inventory_site(&b->inv, i);
		const struct file_key *key = inventory_key(&b->inv, site->key);
		enum bake_outcome outcome = BAKE_NO_TARGET;

		if (key->is_branch)
			continue;
		if (!key->imported)
			outcome = write_direct(b, site);
		if (outcome == BAKE_DIRECT) {
			site->direct = mark_key_baked(b, key);
			b->result->direct++;
		} else if (outcome == BAKE_FAR) {
			b->result->far++;
		} else {
			count_indirect(b, key);
		}
	}
}
