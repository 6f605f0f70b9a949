/* SPDX-License-Identifier: MIT */
/*
 * Where a module's sites are. The relocations of its text that the linker kept say
 * where it calls trampolines, its own records where it has static branches; what
 * stands there in memory decides whether it is a site.
 *
 * The file is a hint, the live bytes are the truth: a site is taken up only if it
 * is a call, jmp or jcc of exactly the trampoline that the relocation names, or goes
 * through a GOT slot (itself, or by a PLT entry) that the dynamic linker fills with it:
 * then bind.c finds out what it did. Whatever else refers to a trampoline is left alone.
 */
#include <errno.h>
#include <link.h>

#include <shunt/module.h>
#include <shunt/port.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "core/key.h"
#include "core/site.h"
#include "linux/base/registry.h"
#include "linux/base/vector.h"
#include "linux/elf/elf.h"
#include "linux/module/find_sites.h"
#include "linux/module/got_slots.h"
#include "linux/module/image.h"
#include "linux/module/jumps.h"
#include "linux/module/site_search.h"
#include "linux/module/tramp.h"

static bool is_indirect(uint8_t kind)
{
	return (kind & 0xf) == SHUNT_KIND_CALL_GOT || (kind & 0xf) == SHUNT_KIND_JMP_GOT;
}

/*
 * Where a call of @sym goes, as far as it matters: the module's own trampoline,
 * or a slot that the dynamic linker fills with the symbol, directly or by a PLT entry.
 * Returns 1 and *mod, with its key where that is certain; 0 where it goes elsewhere;
 * -ENOMEM.
 */
static int resolve_call(struct shunt_site_search *s, const struct shunt_elf_sym *sym,
			const struct shunt_elf_site *call, struct shunt_mod *mod)
{
	uintptr_t own = sym->undefined ? 0 : s->image->bias + sym->value;
	struct shunt_segments segments = shunt_image_segments(s->image);
	uintptr_t to = call->operand;
	int ret;

	*mod = (struct shunt_mod){0};
	if (!is_indirect(call->kind)) {
		mod->tramp = to;
		if (to != own)
			to = shunt_behind_stubs(&segments, to);
		if (own && to == own)
			return (mod->key = shunt_own_tramp_key(s, own)) != NULL;
		to = shunt_plt_slot(&segments, to);
	}
	mod->slot = to;
	ret = shunt_is_slot_of(s, to, sym->name);
	if (ret)
		return ret;
	/* A slot that the linker has filled itself. */
	if (own && shunt_slot_holds(s, to, own))
		mod->key = shunt_own_tramp_key(s, own);
	return mod->key != NULL;
}

/* Whether @mod's calls are those of @new, which has a trampoline or a slot or both. */
static bool is_same(const struct shunt_mod *mod, const struct shunt_mod *new)
{
	return mod->key == new->key &&
	       (mod->slot == new->slot || (new->key && (!mod->slot || !new->slot))) &&
	       (mod->tramp == new->tramp || !mod->tramp || !new->tramp);
}

/* The mod of the calls of @sym that are made as @call. Index + 1; 0: none. */
static uint32_t find_mod(const struct shunt_site_search *s, const struct shunt_elf_sym *sym,
			 const struct shunt_elf_site *call)
{
	const struct shunt_binding *bindings = s->bindings.of_mod.data;
	const struct shunt_mod *mods = s->mods.data;
	uint32_t i = call->operand ? s->mod_of_sym[sym->index] : 0;

	while (i &&
	       (is_indirect(call->kind) ? mods[i - 1].slot : mods[i - 1].tramp) != call->operand)
		i = bindings[i - 1].next;
	return i;
}

/* The mod of a call that goes where @new says: one of the symbol that goes there too, or a new one.
 */
static int mod_of_call(struct shunt_site_search *s, const struct shunt_elf_sym *sym,
		       const struct shunt_mod *new, uint32_t *index)
{
	struct shunt_binding *bindings = s->bindings.of_mod.data;
	struct shunt_mod *mods = s->mods.data;
	uint32_t *first = &s->mod_of_sym[sym->index], i = *first;

	while (i && !is_same(&mods[i - 1], new))
		i = bindings[i - 1].next;
	if (i) {
		if (new->tramp)
			mods[i - 1].tramp = new->tramp;
		if (new->slot)
			mods[i - 1].slot = new->slot;
	} else {
		if (shunt_add_mod(s, new, new->key ? NULL : sym->name))
			return -ENOMEM;
		i = (uint32_t)s->mods.n;
		bindings = s->bindings.of_mod.data;
		bindings[i - 1].next = *first;
		*first = i;
	}
	*index = i;
	return 0;
}

/* The mod of @call: its index + 1, or 0 where it is no site. */
static int mod_for(struct shunt_site_search *s, const struct shunt_elf_sym *sym,
		   const struct shunt_elf_site *call, uint32_t *index)
{
	struct shunt_mod new;
	int ret;

	*index = find_mod(s, sym, call);
	if (*index)
		return 0;
	ret = resolve_call(s, sym, call, &new);
	return ret <= 0 ? ret : mod_of_call(s, sym, &new, index);
}

static int add_call(struct shunt_site_search *s, const struct shunt_elf_site *call, uint32_t mod)
{
	struct shunt_site *site = shunt_vector_add(&s->sites, sizeof(*site));

	if (!site)
		return -ENOMEM;
	site->off = (uint32_t)(call->addr - s->base);
	site->owner = mod;
	site->next = mod;
	site->kind = call->kind;
	return 0;
}

/* What the file says of a reference, held against the live bytes. */
static int add_reference(void *arg, const struct shunt_elf_ref *ref,
			 const struct shunt_elf_sym *sym)
{
	struct shunt_site_search *s = arg;
	uintptr_t field = s->image->bias + ref->field;
	size_t before = ref->before < 2 ? (size_t)ref->before : 2;
	struct shunt_elf_site call;
	uint32_t index;
	int ret;

	if (!shunt_image_has_text(s->image, field - before, before + 4) ||
	    shunt_elf_site_at(ref, (const uint8_t *)field, field, &call) ||
	    call.addr - s->base > UINT32_MAX)
		return 0;
	ret = mod_for(s, sym, &call, &index);
	return ret || !index ? ret : add_call(s, &call, index - 1);
}

void shunt_site_search_free(struct shunt_site_search *s)
{
	shunt_vector_free(&s->sites, sizeof(struct shunt_site));
	shunt_vector_free(&s->mods, sizeof(struct shunt_mod));
	shunt_slots_free(s);
	shunt_bindings_free(&s->bindings);
}

int shunt_find_call_sites(struct shunt_site_search *s)
{
	size_t size = s->elf->symtab.symbols.count * sizeof(s->mod_of_sym[0]);
	int ret;

	s->base = s->image->bias;
	s->mod_of_sym = size ? shunt_port_alloc(size) : NULL;
	if (size && !s->mod_of_sym)
		return -ENOMEM;
	ret = shunt_elf_for_each_ref(s->elf, SHUNT_TRAMP_PREFIX, add_reference, s);
	shunt_port_free(s->mod_of_sym, size);
	if (ret)
		shunt_site_search_free(s);
	return ret;
}

/* ------------------------------------------------------------ static branches */

/* A set of keys, with the index of each: open addressing, at most half full. */
struct key_set {
	struct {
		const struct shunt_static_key *key;
		uint32_t index;
	} * slots;
	size_t size; /* a power of 2 */
};

static uint32_t *key_set_find(struct key_set *set, const struct shunt_static_key *key)
{
	size_t i = (uintptr_t)key / 8 * 0x9e3779b97f4a7c15u >> 20;

	for (;; i++) {
		i &= set->size - 1;
		if (set->slots[i].key == key)
			return &set->slots[i].index;
		if (!set->slots[i].key) {
			set->slots[i].key = key;
			set->slots[i].index = UINT32_MAX;
			return &set->slots[i].index;
		}
	}
}

static bool key_set_init(struct key_set *set, size_t n)
{
	set->size = 16;
	while (set->size < 2 * n)
		set->size *= 2;
	set->slots = shunt_port_alloc(set->size * sizeof(set->slots[0]));
	return set->slots;
}

/* One that another has changed is known by its length alone, and then not taken up. */
static uint8_t branch_kind(const struct shunt_image *image, uintptr_t code)
{
	struct shunt_elf_branch branch;

	(void)shunt_elf_branch_at((const uint8_t *)code,
				  shunt_image_has_text(image, code, 5) ? 5 : 2, &branch);
	return branch.kind;
}

static int add_branch(struct shunt_site_search *s, struct key_set *set,
		      const struct static_jump_entry *entry, uint32_t index)
{
	uintptr_t code = shunt_jump_code(entry);
	uint32_t *mod_index;
	struct shunt_site *site;
	struct shunt_segments segments = shunt_image_segments(s->image);
	enum shunt_jump what = shunt_jump_site(&segments, entry);

	if (what == SHUNT_JUMP_NONE)
		return 0;
	if (what == SHUNT_JUMP_KEYLESS) {
		s->keyless++;
		return 0;
	}
	if (what == SHUNT_JUMP_ASTRAY || code - s->base > UINT32_MAX) {
		s->astray++;
		return 0;
	}
	mod_index = key_set_find(set, shunt_jump_key(entry));
	if (*mod_index == UINT32_MAX) {
		struct shunt_mod *mod = shunt_vector_add(&s->mods, sizeof(*mod));

		if (!mod)
			return -ENOMEM;
		mod->key = shunt_jump_key(entry);
		*mod_index = (uint32_t)s->mods.n - 1;
	}
	site = shunt_vector_add(&s->sites, sizeof(*site));
	if (!site)
		return -ENOMEM;
	site->off = (uint32_t)(code - s->base);
	site->owner = index;
	site->next = *mod_index;
	site->kind = branch_kind(s->image, code);
	return 0;
}

int shunt_find_branch_sites(struct shunt_site_search *s)
{
	const struct static_jump_entry *entries = s->jumps.first;
	size_t n = s->jumps.n;
	struct key_set set;
	int ret = 0;

	if (!key_set_init(&set, n))
		return -ENOMEM;
	s->base = s->image->bias;
	for (size_t i = 0; i < n && !ret; i++)
		ret = add_branch(s, &set, &entries[i], (uint32_t)i);
	shunt_port_free(set.slots, set.size * sizeof(set.slots[0]));
	if (ret)
		shunt_site_search_free(s);
	return ret;
}
