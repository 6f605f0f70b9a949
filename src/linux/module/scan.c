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
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <string.h>

#include <shunt/module.h>
#include <shunt/port.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "core/key.h"
#include "core/site.h"
#include "linux/base/registry.h"
#include "linux/base/vector.h"
#include "linux/elf/elf.h"
#include "linux/module/image.h"
#include "linux/module/jumps.h"
#include "linux/module/scan.h"
#include "linux/module/search.h"
#include "linux/module/slot.h"
#include "linux/module/tramp.h"

#define PREFIX "__SCT__"

/* -------------------------------------------------------- the file and its calls */

static uint32_t load32(uintptr_t addr)
{
	uint32_t value;

	memcpy(&value, (const void *)addr, sizeof(value));
	return value;
}

static uintptr_t rel32_target(uintptr_t field)
{
	return field + 4 + (uintptr_t)(intptr_t)(int32_t)load32(field);
}

/* ------------------------------------------------------------------ what is a site */

/*
 * What instruction the field belongs to, by the live bytes before it. Returns its
 * first byte, or 0 where it is no site: its address is taken, or moved to a register.
 */
static uintptr_t decode(uintptr_t field, const struct shunt_elf_ref *ref, uint8_t *kind)
{
	const uint8_t *b = (const uint8_t *)field;
	bool two = ref->before >= 2; /* a site can open its section */
	bool got = two && ref->type != R_X86_64_PC32 && ref->type != R_X86_64_PLT32;

	if (got && b[-2] == 0xff && (b[-1] == 0x15 || b[-1] == 0x25)) {
		*kind = b[-1] == 0x15 ? SHUNT_SITE_CALL_GOT : SHUNT_SITE_JMP_GOT;
		return field - 2;
	}
	/* A relaxed jmp *slot(%rip): e9 rel32 90, one byte earlier than the field. */
	if (got && b[-2] == 0xe9 && b[3] == 0x90) {
		*kind = SHUNT_SITE_JMP;
		return field - 2;
	}
	if (b[-1] == 0xe8 || b[-1] == 0xe9) {
		*kind = b[-1] == 0xe8 ? SHUNT_SITE_CALL : SHUNT_SITE_JMP;
		return field - 1;
	}
	if (two && b[-2] == 0x0f && (b[-1] & 0xf0) == 0x80) {
		*kind = (uint8_t)(SHUNT_SITE_JCC | (b[-1] & 0xf) << 4);
		return field - 2;
	}
	return 0;
}

static bool is_indirect(uint8_t kind)
{
	return (kind & 0xf) == SHUNT_SITE_CALL_GOT || (kind & 0xf) == SHUNT_SITE_JMP_GOT;
}

/* What the instruction at @addr calls, or the slot that it calls through. */
static uintptr_t operand(uintptr_t addr, uint8_t kind)
{
	return rel32_target(addr + (is_indirect(kind) || (kind & 0xf) == SHUNT_SITE_JCC ? 2 : 1));
}

/*
 * Where a call of @sym at @addr goes, as far as it matters: the module's own trampoline,
 * or a slot that the dynamic linker fills with the symbol, directly or by a PLT entry.
 * Returns 1 and *mod, with its key where that is certain; 0 where it goes elsewhere;
 * -ENOMEM.
 */
static int follow(struct shunt_scan *s, const struct shunt_elf_sym *sym, uintptr_t addr,
		  uint8_t kind, struct shunt_mod *mod)
{
	uintptr_t own = sym->undefined ? 0 : s->image->bias + sym->value;
	uintptr_t to = operand(addr, kind);
	int ret;

	*mod = (struct shunt_mod){0};
	if (!is_indirect(kind)) {
		mod->tramp = to;
		if (own && to == own)
			return (mod->key = shunt_own_tramp_key(s, own)) != NULL;
		to = shunt_plt_slot(s, to);
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

/* The mod of the calls of @sym that are made as the one at @addr. Index + 1; 0: none. */
static uint32_t find_mod(const struct shunt_scan *s, const struct shunt_elf_sym *sym,
			 uintptr_t addr, uint8_t kind)
{
	const struct shunt_binding *bindings = s->bindings.of_mod.data;
	const struct shunt_mod *mods = s->mods.data;
	uintptr_t to = operand(addr, kind);
	uint32_t i = to ? s->mod_of_sym[sym->index] : 0;

	while (i && (is_indirect(kind) ? mods[i - 1].slot : mods[i - 1].tramp) != to)
		i = bindings[i - 1].next;
	return i;
}

/* Enter a call that goes where @new says, of which there is no mod yet. */
static int enter(struct shunt_scan *s, const struct shunt_elf_sym *sym, const struct shunt_mod *new,
		 uint32_t *index)
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

/* The mod of the site at @addr: its index + 1, or 0 where it is no site. */
static int mod_for(struct shunt_scan *s, const struct shunt_elf_sym *sym, uintptr_t addr,
		   uint8_t kind, uint32_t *index)
{
	struct shunt_mod new;
	int ret;

	*index = find_mod(s, sym, addr, kind);
	if (*index)
		return 0;
	ret = follow(s, sym, addr, kind, &new);
	return ret <= 0 ? ret : enter(s, sym, &new, index);
}

static int on_ref(void *arg, const struct shunt_elf_ref *ref, const struct shunt_elf_sym *sym)
{
	struct shunt_scan *s = arg;
	uintptr_t field = s->image->bias + ref->field, addr;
	struct shunt_site *site;
	uint32_t index;
	uint8_t kind;
	size_t before = ref->before < 2 ? (size_t)ref->before : 2;
	int ret;

	if (ref->addend != -4 || !before ||
	    !shunt_image_has_text(s->image, field - before, before + 4))
		return 0;
	addr = decode(field, ref, &kind);
	if (!addr || addr - s->base > UINT32_MAX)
		return 0;
	ret = mod_for(s, sym, addr, kind, &index);
	if (ret || !index)
		return ret;

	site = shunt_vector_add(&s->sites, sizeof(*site));
	if (!site)
		return -ENOMEM;
	site->off = (uint32_t)(addr - s->base);
	site->owner = index - 1;
	site->next = index - 1;
	site->kind = kind;
	return 0;
}

void shunt_scan_free(struct shunt_scan *s)
{
	shunt_vector_free(&s->sites, sizeof(struct shunt_site));
	shunt_vector_free(&s->mods, sizeof(struct shunt_mod));
	shunt_slots_free(s);
	shunt_bindings_free(&s->bindings);
}

int shunt_scan_calls(struct shunt_scan *s)
{
	size_t size = s->elf->symtab.symbols.count * sizeof(s->mod_of_sym[0]);
	int ret;

	s->base = s->image->bias;
	s->mod_of_sym = size ? shunt_port_alloc(size) : NULL;
	if (size && !s->mod_of_sym)
		return -ENOMEM;
	ret = shunt_elf_for_each_ref(s->elf, PREFIX, on_ref, s);
	shunt_port_free(s->mod_of_sym, size);
	if (ret)
		shunt_scan_free(s);
	return ret;
}

/* ------------------------------------------------------------ static branches */

/* A set of keys, with the index of each: open addressing, at most half full. */
struct key_set {
	struct {
		const struct static_key *key;
		uint32_t index;
	} * slots;
	size_t size; /* a power of 2 */
};

static uint32_t *key_set_find(struct key_set *set, const struct static_key *key)
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

/* The form that the compiler left: a nop of 5 bytes, or a jmp of 2 or 5. */
static uint8_t branch_kind(uintptr_t code)
{
	return *(const uint8_t *)code == 0xeb ? SHUNT_SITE_BRANCH2 : SHUNT_SITE_BRANCH;
}

static int add_branch(struct shunt_scan *s, struct key_set *set,
		      const struct static_jump_entry *entry, uint32_t index)
{
	uintptr_t code = shunt_jump_code(entry);
	uint32_t *mod_index;
	struct shunt_site *site;
	struct shunt_segments segments = {s->image->headers, s->image->nr_headers, s->image->bias};
	enum shunt_jump what = shunt_jump_site(&segments, entry);

	if (what == SHUNT_JUMP_NONE)
		return 0;
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
	site->kind = branch_kind(code);
	return 0;
}

int shunt_scan_branches(struct shunt_scan *s)
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
		shunt_scan_free(s);
	return ret;
}
