/* SPDX-License-Identifier: MIT */
/*
 * Trampolines of static calls in memory, by their code (elf.h). And whether a function is one,
 * which no key may be updated to.
 */
#include <link.h>

#include <shunt/module.h>
#include <shunt/port.h>
#include <shunt/static_call.h>

#include "linux/base/registry.h"
#include "linux/module/got_slots.h"
#include "linux/module/image.h"
#include "linux/module/site_search.h"
#include "linux/module/tramp.h"
#include "linux/text/area.h"

struct static_call_key *shunt_tramp_key(uintptr_t tramp)
{
	uint64_t key;

	return shunt_elf_tramp_key((const uint8_t *)tramp, tramp, &key) ? (void *)key : NULL;
}

bool shunt_is_own_key(const struct shunt_module *module, const struct static_call_key *key)
{
	uintptr_t off = (uintptr_t)key - (uintptr_t)module->call_keys;

	return off < (uintptr_t)module->call_keys_end - (uintptr_t)module->call_keys &&
	       off % sizeof(*key) == 0;
}

struct static_call_key *shunt_own_tramp_key(const struct shunt_site_search *s, uintptr_t tramp)
{
	struct static_call_key *key = NULL;

	if (shunt_image_has_text(s->image, tramp, SHUNT_TRAMP_SIZE))
		key = shunt_tramp_key(tramp);
	return key && shunt_is_own_key(s->module, key) ? key : NULL;
}

static bool is_call_key(uintptr_t key)
{
	const struct shunt_loaded *m = shunt_loaded_modules;

	while (m && !(m->module && shunt_is_own_key(m->module, (void *)key)))
		m = m->next;
	return m;
}

/* The module that has registered and has @len bytes of text at @addr; NULL: none. */
static const struct shunt_loaded *text_owner(uintptr_t addr, size_t len)
{
	const struct shunt_loaded *m = shunt_loaded_modules;

	while (m && !(m->module && shunt_segment_has(&m->segments, PF_X | PF_R, addr, len)))
		m = m->next;
	return m;
}

/* Whether a trampoline begins in [at, end); @is_text: each would lie in the text of a module. */
static bool begins_trampoline(uintptr_t at, uintptr_t end, bool is_text)
{
	for (; at != end; at++) {
		const struct static_call_key *key = NULL;

		if (is_text ? *(const uint8_t *)at == SHUNT_TRAMP_FIRST
			    : text_owner(at, SHUNT_TRAMP_SIZE) &&
				      shunt_area_are_readable(at, SHUNT_TRAMP_SIZE))
			key = shunt_tramp_key(at);
		if (key && is_call_key((uintptr_t)key))
			return true;
	}
	return false;
}

int shunt_port_overlaps_trampoline(uintptr_t addr, size_t len)
{
	uintptr_t first = addr - SHUNT_TRAMP_SIZE + 1, end = addr + len;
	size_t all = end - 1 + SHUNT_TRAMP_SIZE - first;

	/* Mostly they would all be in the text of one module, which is asked once. */
	return begins_trampoline(first, end,
				 text_owner(first, all) && shunt_area_are_readable(first, all));
}

int shunt_port_is_trampoline(uintptr_t func)
{
	/* Through a PLT entry and its slot, then the trampoline itself. */
	for (unsigned i = 0; i < 2; i++) {
		const struct shunt_loaded *m = text_owner(func, 1);
		uintptr_t word = m ? shunt_plt_slot(&m->segments, func) : 0;

		if (!word || is_call_key(word))
			return word != 0;
		if (word % 8 || !shunt_segment_has(&m->segments, PF_R, word, 8))
			return 0;
		func = *(const uintptr_t *)word;
	}
	return 0;
}
