/* SPDX-License-Identifier: MIT */
/* Whether a function is a static call's trampoline, which no key may be updated to. */
#include <link.h>
#include <string.h>

#include <shunt/port.h>

#include "linux/base/registry.h"
#include "linux/module/image.h"
#include "linux/module/scan.h"

static bool is_call_key(uintptr_t key)
{
	const struct shunt_loaded *m = shunt_loaded_modules;

	while (m && !(m->module && shunt_is_own_key(m->module, (void *)key)))
		m = m->next;
	return m;
}

/* What `jmp *word(%rip)` at @func, behind endbr64 and bnd or without, jumps through; 0: another. */
static uintptr_t jumps_through(const struct shunt_loaded *m, uintptr_t func)
{
	static const uint8_t endbr64[] = {0xf3, 0x0f, 0x1e, 0xfa}, jmp[] = {0xff, 0x25};
	int32_t off;

	if (shunt_segment_has(&m->segments, PF_X | PF_R, func, 10) &&
	    !memcmp((void *)func, endbr64, sizeof(endbr64)))
		func += sizeof(endbr64);
	if (shunt_segment_has(&m->segments, PF_X | PF_R, func, 7) && *(const uint8_t *)func == 0xf2)
		func++;
	if (!shunt_segment_has(&m->segments, PF_X | PF_R, func, 6) ||
	    memcmp((void *)func, jmp, sizeof(jmp)) != 0)
		return 0;
	memcpy(&off, (void *)(func + 2), sizeof(off));
	return func + 6 + (uintptr_t)(intptr_t)off;
}

int shunt_port_is_trampoline(uintptr_t func)
{
	/* Through a PLT entry and its slot, then the trampoline itself. */
	for (unsigned i = 0; i < 2; i++) {
		const struct shunt_loaded *m = shunt_loaded_modules;
		uintptr_t word;

		while (m && !(m->module && shunt_segment_has(&m->segments, PF_X | PF_R, func, 1)))
			m = m->next;
		word = m ? jumps_through(m, func) : 0;
		if (!word || is_call_key(word))
			return word != 0;
		if (word % 8 || !shunt_segment_has(&m->segments, PF_R, word, 8))
			return 0;
		func = *(const uintptr_t *)word;
	}
	return 0;
}
