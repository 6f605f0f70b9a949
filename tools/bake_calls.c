/* SPDX-License-Identifier: MIT */
/*
 * Direct calls in the image that is baked: each site of a static call gets the instruction that
 * the library's core would give it for its key's initial value.
 */
#include "bake_parts.h"

#include <shunt/static_call.h>

#include "core/key.h"

/*
 * What the core makes of @site for its key's initial value. The core compares with
 * this program's own addresses for NULL and RET0, and gives them as targets where a
 * jump to them is needed: they are put back to the file's. What is off at first
 * keeps the displacement that the linker left, which leads to the trampoline.
 */
static bool direct_form(const struct bake *b, const struct file_site *site, struct shunt_insn *insn)
{
	const struct file_key *key = inventory_key(&b->inv, site->key);
	const struct shunt_site core_site = {.kind = site->kind};
	struct shunt_mod mod = {.tramp = key->tramp, .last = key->tramp};
	const struct shunt_sites sites = {.mods = &mod, .nr_mods = 1};
	const uintptr_t nop = (uintptr_t)__static_call_nop;
	const uintptr_t return0 = (uintptr_t)__static_call_return0;
	uint64_t value = 0, in_file = 0;
	const char *symbol;

	switch (inventory_initial(&b->inv, key, &value, &symbol)) {
	case INITIAL_NULL:
		in_file = b->inv.nop;
		value = nop;
		break;
	case INITIAL_RET0:
		in_file = b->inv.return0;
		value = return0;
		break;
	case INITIAL_FUNCTION:
		in_file = value;
		break;
	default:
		return false;
	}
	shunt_static_call_kind.direct(&sites, &core_site, value, insn);
	if (insn->op == SHUNT_OP_NOP || insn->op == SHUNT_OP_TEST || insn->op == SHUNT_OP_RET ||
	    insn->op == SHUNT_OP_RET0)
		return true;
	insn->target = in_file;
	/*
	 * Without a target of its own the file would have to go through the PLT. 0 is an address of
	 * text where the ELF header is mapped with it, and none of a function.
	 */
	return in_file && inventory_has_text(&b->inv, in_file, 1);
}

/* Write the direct form of @site. False where it stays as linked. */
static bool write_direct(struct bake *b, const struct file_site *site)
{
	unsigned len = shunt_site_len(site->kind & 0xf);
	uint8_t *at = bake_bytes(b, site->addr, len);
	struct shunt_insn insn;

	return at && direct_form(b, site, &insn) && insn.len <= len &&
	       !shunt_insn_encode_site(&insn, site->addr, len, at);
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
	b->result->foreign += initial == INITIAL_FOREIGN;
}

void bake_write_direct_calls(struct bake *b)
{
	for (size_t i = 0; i < b->inv.sites.n; i++) {
		struct file_site *site = inventory_site(&b->inv, i);
		const struct file_key *key = inventory_key(&b->inv, site->key);

		if (key->is_branch)
			continue;
		if (key->imported || !write_direct(b, site)) {
			count_indirect(b, key);
			continue;
		}
		site->direct = mark_key_baked(b, key);
		b->result->direct++;
	}
}
