/* SPDX-License-Identifier: MIT */
/* Sites that are nobody's key, as the trap handler sees them (text_poke.c). */
#ifndef SHUNT_CORE_TEXT_POKE_H
#define SHUNT_CORE_TEXT_POKE_H

#include "core/site.h"

/* As shunt_site_find(), for sites that text_poke_bp() has made known. */
struct shunt_site *shunt_text_site_find(uintptr_t addr, struct shunt_insn *insn);

#endif
