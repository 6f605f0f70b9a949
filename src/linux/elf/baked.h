/* SPDX-License-Identifier: MIT */
/*
 * The site table that `shunt bake` writes into a file, in place of the relocations
 * that the linker kept: where the file's static calls are, eight bytes a site. A
 * section of its own that is not loaded; the reader maps the file for it.
 *
 *	struct shunt_baked_header
 *	struct shunt_baked_mod  [nr_mods]
 *	struct shunt_baked_site [nr_sites]    sorted by off
 *	strings, each with its NUL, behind struct shunt_baked_refs
 *
 * Little-endian, aligned to 8 in the file. All addresses are link-time ones. Like
 * the rest of the file it is a claim: who patches text looks at the live bytes first.
 */
#ifndef SHUNT_LINUX_BAKED_H
#define SHUNT_LINUX_BAKED_H

#include <stdbool.h>
#include <stdint.h>

#define SHUNT_BAKED_SECTION ".shunt.sites"
#define SHUNT_BAKED_MAGIC   "SHUNTBK2" /* 8 bytes, no NUL */

/*
 * The same table, by an earlier `shunt bake`: direct calls of NULL are nops, and a ret that int3
 * fill up, where they now have the displacement that the linker left (enum shunt_op). It is
 * another magic lest an earlier libshunt take what it finds there for somebody else's.
 */
#define SHUNT_BAKED_MAGIC_BARE "SHUNTBK1"

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

/*
 * What refers to a trampoline and is no site, for `shunt sites`: the strings begin with struct
 * shunt_baked_refs and its records. The names of the mods are behind them, so that a reader that
 * does not know of them, as the library, reads the same table. Without them an earlier `shunt bake`
 * has made it, and whether there are any is not known.
 */
#define SHUNT_BAKED_REFS_MAGIC "SHUNTRF1" /* 8 bytes, no NUL */

struct shunt_baked_refs {
	char magic[8];
	uint32_t nr_refs;
	uint32_t flags; /* 0 */
};

struct shunt_baked_ref {
	uint64_t addr; /* of the field that holds the reference */
	uint64_t key;  /* struct static_call_key in this file; 0: imported */
	uint32_t name; /* in the strings: the trampoline's symbol, without a version */
	uint32_t why;  /* in the strings: why it is no site, in words, less than SHUNT_BAKED_MAX_WHY
			*/
};

#define SHUNT_BAKED_MAX_WHY 256

#define SHUNT_BAKED_KIND      0xffu  /* as struct shunt_site.kind */
#define SHUNT_BAKED_DIRECT    0x100u /* the file has the direct form for the initial value */
#define SHUNT_BAKED_MOD_SHIFT 9      /* from here on: index of the mod */
#define SHUNT_BAKED_MAX_MODS  (1u << (32 - SHUNT_BAKED_MOD_SHIFT))

_Static_assert(sizeof(struct shunt_baked_header) == 32 && sizeof(struct shunt_baked_mod) == 32 &&
		       sizeof(struct shunt_baked_site) == 8 &&
		       sizeof(struct shunt_baked_refs) == 16 &&
		       sizeof(struct shunt_baked_ref) == 24,
	       "a format on disk");

/* ------------------------------------------------------------- reading it: elf_baked.c */

struct shunt_elf;
struct shunt_elf_cpu;

/* A table in an image. */
struct shunt_baked {
	const struct shunt_elf_cpu *cpu; /* whose sites it has */
	const uint8_t *mods, *sites;     /* as many as @nr_mods, @nr_sites say; not aligned */
	uint32_t nr_mods, nr_sites;
	bool bare;           /* of SHUNT_BAKED_MAGIC_BARE */
	const char *strings; /* they end in NUL, or @strings_size is 0 */
	uint64_t strings_size;
	uint64_t base;
};

/*
 * Find the table of @elf, which it refers to from then on.
 *
 * Returns 0; -ENODATA where the file has none, or a loaded section that waits for one: one that
 * begins with eight zero bytes; -EINVAL where the table is malformed, or counts from something
 * else than where the file begins.
 */
int shunt_baked_find(const struct shunt_elf *elf, struct shunt_baked *table)
	__attribute__((warn_unused_result));

/*
 * Read element @i, less than @table->nr_mods, and the name of its trampoline.
 *
 * Returns 0, or -EINVAL where the name is not a trampoline's or lies outside the strings.
 */
int shunt_baked_read_mod(const struct shunt_baked *table, uint32_t i, struct shunt_baked_mod *mod,
			 const char **name) __attribute__((warn_unused_result));

/*
 * Read element @i, less than @table->nr_sites.
 *
 * Returns 0, or -EINVAL where no site is so, or it begins before the one before it ends. Whether
 * there is text at it is for the caller to see.
 */
int shunt_baked_read_site(const struct shunt_baked *table, uint32_t i,
			  struct shunt_baked_site *site) __attribute__((warn_unused_result));

#endif
