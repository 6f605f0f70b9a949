/* SPDX-License-Identifier: MIT */
/*
 * The GOT slots that a module calls trampolines through, for the scan of the module: which
 * of them the dynamic linker fills with a symbol, and which one a PLT entry jumps through.
 */
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "core/key.h"
#include "core/sort.h"
#include "linux/base/base.h"
#include "linux/base/registry.h"
#include "linux/base/vector.h"
#include "linux/elf/elf.h"
#include "linux/module/got_slots.h"
#include "linux/module/image.h"
#include "linux/module/site_search.h"
#include "linux/text/area.h"

/* A slot that the dynamic linker fills, by the module's file. */
struct slot {
	uintptr_t addr;
	const char *name; /* of the symbol that it fills it with; in the file */
};

/* Whether there is a word of the module at @addr. */
static bool has_word(const struct shunt_site_search *s, uintptr_t addr)
{
	const struct shunt_segments segments = shunt_image_segments(s->image);

	return addr % sizeof(uintptr_t) == 0 &&
	       shunt_segment_has(&segments, PF_R, addr, sizeof(uintptr_t));
}

static uintptr_t slot_addr(const void *slot)
{
	return ((const struct slot *)slot)->addr;
}

static int add_slot(void *arg, uint64_t slot, const struct shunt_elf_sym *sym)
{
	struct shunt_site_search *s = arg;
	struct slot *new = shunt_vector_add(&s->slots, sizeof(*new));

	if (!new)
		return -ENOMEM;
	new->addr = s->image->bias + slot;
	new->name = sym->name;
	return 0;
}

/* A file without dynamic relocations, or with odd ones, has no such slots. */
static int find_slots(struct shunt_site_search *s)
{
	s->has_slots = true;
	if (shunt_elf_for_each_slot(s->elf, SHUNT_TRAMP_PREFIX, add_slot, s) == -ENOMEM)
		return -ENOMEM;
	shunt_sort(s->slots.data, s->slots.n, sizeof(struct slot), slot_addr);
	return 0;
}

static bool same_name(const char *a, const char *b)
{
	size_t len = shunt_elf_name_len(a);

	return len == shunt_elf_name_len(b) && !memcmp(a, b, len);
}

int shunt_is_slot_of(struct shunt_site_search *s, uintptr_t slot, const char *name)
{
	const struct slot *slots;
	size_t low = 0, high;

	if (!s->has_slots && find_slots(s))
		return -ENOMEM;
	slots = s->slots.data;
	high = s->slots.n;
	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (slots[mid].addr < slot)
			low = mid + 1;
		else
			high = mid;
	}
	return low < s->slots.n && slots[low].addr == slot && same_name(slots[low].name, name) &&
	       has_word(s, slot);
}

/* Copy the code at @addr, up to SHUNT_ELF_PLT_MAX bytes; returns how many there are. */
static size_t copy_code(const struct shunt_segments *segments, uintptr_t addr, uint8_t *code)
{
	size_t len = SHUNT_ELF_PLT_MAX;

	while (len && !shunt_segment_has(segments, PF_X | PF_R, addr, len))
		len--;
	/* The program may have made its text execute-only. */
	if (!len || !shunt_area_are_readable(addr, len))
		return 0;
	shunt_copy_text(code, (const void *)addr, len);
	return len;
}

uintptr_t shunt_plt_slot(const struct shunt_segments *segments, uintptr_t plt)
{
	uint8_t code[SHUNT_ELF_PLT_MAX];
	size_t len = copy_code(segments, plt, code);
	uint64_t slot;

	return len && shunt_elf_plt_slot(code, len, plt, &slot) ? slot : 0;
}

uintptr_t shunt_behind_stubs(const struct shunt_segments *segments, uintptr_t addr)
{
	uint8_t code[SHUNT_ELF_PLT_MAX];
	uint64_t target;

	for (unsigned i = 0; i < SHUNT_ELF_STUBS; i++) {
		size_t len = copy_code(segments, addr, code);

		if (!len || !shunt_elf_stub_target(code, len, addr, &target))
			break;
		addr = target;
	}
	return addr;
}

/* Keep the symbol's name, without a version: *at is where. */
static int keep_name(struct shunt_vector *names, const char *name, uint32_t *at)
{
	size_t len = shunt_elf_name_len(name);

	*at = (uint32_t)names->n;
	for (size_t i = 0; i <= len; i++) {
		char *c = shunt_vector_add(names, 1);

		if (!c)
			return -ENOMEM;
		*c = i < len ? name[i] : '\0';
	}
	return 0;
}

int shunt_add_mod(struct shunt_site_search *s, const struct shunt_mod *mod, const char *name)
{
	struct shunt_mod *new = shunt_vector_add(&s->mods, sizeof(*new));
	struct shunt_binding *binding = shunt_vector_add(&s->bindings.of_mod, sizeof(*binding));

	if (!new || !binding)
		return -ENOMEM;
	*new = *mod;
	if (!name)
		return 0;
	binding->by_linker = binding->is_open = true;
	s->bindings.nr_open++;
	return keep_name(&s->bindings.names, name, &binding->name);
}

bool shunt_slot_holds(const struct shunt_site_search *s, uintptr_t slot, uintptr_t value)
{
	return has_word(s, slot) &&
	       __atomic_load_n((const uintptr_t *)slot, __ATOMIC_ACQUIRE) == value;
}

void shunt_slots_free(struct shunt_site_search *s)
{
	shunt_vector_free(&s->slots, sizeof(struct slot));
	s->has_slots = false;
}

void shunt_bindings_free(struct shunt_bindings *b)
{
	shunt_vector_free(&b->of_mod, sizeof(struct shunt_binding));
	shunt_vector_free(&b->names, 1);
	b->nr_open = 0;
}
