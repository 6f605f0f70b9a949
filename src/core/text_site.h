/* SPDX-License-Identifier: MIT */
/* Sites that are nobody's key: their records, which the trap handler finds (text_site.c). */
#ifndef SHUNT_CORE_TEXT_SITE_H
#define SHUNT_CORE_TEXT_SITE_H

#include "core/site.h"

struct shunt_text_site {
	uintptr_t addr;
	_Atomic uint64_t insn; /* packed; 0: forgotten */
	struct shunt_site site;
	uint64_t next_insn; /* what the poke in progress commits; update lock */
	uint64_t last_insn; /* what it would go back to */
};

/* The site at @addr that text_poke_bp() has made known, or NULL; @insn: what it is to do now. */
struct shunt_site *shunt_text_site_find(uintptr_t addr, struct shunt_insn *insn);

/*
 * The record for the site at @addr: NULL where there is none; made, or NULL: no memory.
 * And forget those of [addr, addr + len). Update lock held.
 */
struct shunt_text_site *shunt_text_site_at(uintptr_t addr);
struct shunt_text_site *shunt_text_site_make(uintptr_t addr);
void shunt_text_sites_forget(uintptr_t addr, size_t len);

/*
 * The instruction of exactly @len bytes at @bytes, as it stands at @addr, in one word. Behind a
 * ret or a jmp there may be bytes that are never reached. -ERANGE: its target is too far.
 */
int shunt_text_insn_decode(const uint8_t *bytes, size_t len, uintptr_t addr, uint64_t *word);
void shunt_text_insn_unpack(uint64_t word, struct shunt_insn *insn);

#endif
