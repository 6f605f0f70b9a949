/* SPDX-License-Identifier: MIT */
/*
 * The site table that `shunt bake` writes into a file, in place of the relocations
 * that the linker kept: where the file's static calls are, eight bytes a site. A
 * section of its own that is not loaded; the reader maps the file for it.
 *
 *	struct shunt_baked_header
 *	struct shunt_baked_mod  [nr_mods]
 *	struct shunt_baked_site [nr_sites]    sorted by off
 *	strings, each with its NUL
 *
 * Little-endian, aligned to 8 in the file. All addresses are link-time ones. Like
 * the rest of the file it is a claim: who patches text looks at the live bytes first.
 */
#ifndef SHUNT_LINUX_BAKED_H
#define SHUNT_LINUX_BAKED_H

#include <stdint.h>

#define SHUNT_BAKED_SECTION ".shunt.sites"
#define SHUNT_BAKED_MAGIC   "SHUNTBK1" /* 8 bytes, no NUL */

struct shunt_baked_header {
	char magic[8];
	uint32_t nr_mods;
	uint32_t nr_sites;
	uint64_t strings_off; /* from the start of the section */
	uint64_t base;        /* what sites count from: p_vaddr of the first PT_LOAD */
};

/* A key as this file uses it. */
struct shunt_baked_mod {
	uint64_t key;   /* struct static_call_key in this file; 0: imported */
	uint64_t tramp; /* what a direct call goes to as linked, trampoline or PLT; 0: none */
	uint64_t slot;  /* the GOT slot of indirect calls; 0: none */
	uint32_t name;  /* in the strings: the trampoline's symbol, without a version */
	uint32_t flags; /* 0 */
};

struct shunt_baked_site {
	uint32_t off;  /* from base */
	uint32_t what; /* the three fields below */
};

#define SHUNT_BAKED_KIND      0xffu  /* as struct shunt_site.kind */
#define SHUNT_BAKED_DIRECT    0x100u /* the file has the direct form for the initial value */
#define SHUNT_BAKED_MOD_SHIFT 9      /* from here on: index of the mod */
#define SHUNT_BAKED_MAX_MODS  (1u << (32 - SHUNT_BAKED_MOD_SHIFT))

_Static_assert(sizeof(struct shunt_baked_header) == 32 && sizeof(struct shunt_baked_mod) == 32 &&
		       sizeof(struct shunt_baked_site) == 8,
	       "a format on disk");

#endif
