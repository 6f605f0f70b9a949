/* SPDX-License-Identifier: MIT */
/* Finding the sites of a module (scan.c), for the record of the module (module.c). */
#ifndef SHUNT_LINUX_SCAN_H
#define SHUNT_LINUX_SCAN_H

#include "linux/elf.h"
#include "linux/linux.h"
#include "linux/vector.h"

/*
 * jumps.c: the records of the module's static branches, by the one that @module names. @image
 * NULL: it is not known where the module is mapped.
 */
void shunt_jumps_find(const struct shunt_image *image, const struct shunt_module *module,
		      struct shunt_jumps *jumps);

/*
 * A record of a static branch as shunt/module.h had them before they had their magic: then
 * @module named the first of them and, in what is reserved now, their end.
 */
struct shunt_old_jump {
	int32_t code;
	int32_t target;
	int32_t handle;
};

/* How many @module has; 0 where it is of no such version, or they are not in @image. */
size_t shunt_jumps_old(const struct shunt_image *image, const struct shunt_module *module);
/* The key of one of them; NULL: its handle is not in @image. */
struct static_key *shunt_jump_old_key(const struct shunt_image *image,
				      const struct shunt_old_jump *entry);

/* What a record stands for. */
enum shunt_jump {
	SHUNT_JUMP_NONE,   /* no site, or one that the linker dropped (its value for such: 0, -1) */
	SHUNT_JUMP_SITE,   /* a site in the module's text */
	SHUNT_JUMP_ASTRAY, /* something that is not text: its key cannot be changed */
};

/* @segments: the module's; n is 0 where they are not known. */
enum shunt_jump shunt_jump_site(const struct shunt_segments *segments,
				const struct static_jump_entry *entry);

/* A scan, and what it has found. */
struct shunt_scan {
	const struct shunt_image *image;
	const struct shunt_elf *elf;
	const struct shunt_module *module;
	uint32_t *mod_of_sym;           /* by symbol index: its first mod: index + 1; 0: none */
	struct shunt_vector mods;       /* struct shunt_mod */
	struct shunt_vector sites;      /* struct shunt_site */
	struct shunt_bindings bindings; /* of the mods of static calls */
	struct shunt_vector slots;      /* slot.c: of symbols of trampolines, in @elf */
	bool has_slots;                 /* they have been looked for */
	uintptr_t base;                 /* what the sites' offsets count from */
	struct shunt_jumps jumps;       /* of branches: shunt_jumps_find() */
	size_t astray;                  /* of these, how many do not lead to text */
};

/* Whether @elf is the file that @image was mapped from. */
bool shunt_is_mapped_file(const struct shunt_elf *elf, const struct shunt_image *image);

/*
 * What the SHUNT_TRAMP_SIZE bytes at @tramp jump through, if they are those of a
 * trampoline (endbr64; jmp *key(%rip)), or NULL. A PLT entry may have them, too.
 */
#define SHUNT_TRAMP_SIZE 10
struct static_call_key *shunt_tramp_key(uintptr_t tramp);

/* Whether @key is one of the module's own. */
bool shunt_is_own_key(const struct shunt_module *module, const struct static_call_key *key);

/* The key of the module's own trampoline at @tramp, or NULL. */
struct static_call_key *shunt_own_tramp_key(const struct shunt_scan *s, uintptr_t tramp);

/* slot.c: the slot that the module's PLT entry at @plt jumps through; 0: it is none. */
uintptr_t shunt_plt_slot(const struct shunt_scan *s, uintptr_t plt);

/*
 * Whether the dynamic linker fills the slot at @slot with the symbol @name, a version
 * aside. 1, 0 or -ENOMEM.
 */
int shunt_is_slot_of(struct shunt_scan *s, uintptr_t slot, const char *name);

/* Whether a word of the module is at @slot, and is @value. */
bool shunt_slot_holds(const struct shunt_scan *s, uintptr_t slot, uintptr_t value);

void shunt_slots_free(struct shunt_scan *s);

/* A new mod of a static call; of the symbol @name, where the dynamic linker binds it. */
int shunt_add_mod(struct shunt_scan *s, const struct shunt_mod *mod, const char *name);

/*
 * Find the sites of static calls by the relocations of s->elf, or of static branches
 * by the module's records: fills in mods, sites and base.
 *
 * Returns 0, -ENOMEM, -ENODATA (no relocations) or -EINVAL (a malformed file); after
 * an error there is nothing to free. Update lock not held.
 */
int shunt_scan_calls(struct shunt_scan *s);
int shunt_scan_branches(struct shunt_scan *s);

void shunt_scan_free(struct shunt_scan *s);

/*
 * baked.c: the table that `shunt bake` has put into the file in place of its
 * relocations. Fills in s->mods and s->bindings, and @table; the sites, which are many,
 * stay where they are until shunt_baked_load(). Each element of the table has two mods:
 * i, and where its direct and indirect calls go through different slots, nr_mods + i for
 * the indirect ones.
 *
 * Returns 0, -ENODATA where the file has no table, -EINVAL where it is malformed,
 * -ENOMEM. Update lock not held.
 */
int shunt_baked_open(struct shunt_scan *s, struct shunt_baked_table *table);

/*
 * Read the sites into @array, which has room for table->nr_sites; returns how many
 * are good. The file must still be mapped.
 */
uint32_t shunt_baked_load(const struct shunt_baked_table *table, const struct shunt_mod *mods,
			  const struct shunt_bindings *bindings, struct shunt_site *array);

#endif
