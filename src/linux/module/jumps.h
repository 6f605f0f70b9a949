/* SPDX-License-Identifier: MIT */
/* The records of static branches (jumps.c). */
#ifndef SHUNT_LINUX_JUMPS_H
#define SHUNT_LINUX_JUMPS_H

#include <shunt/module.h>
#include <shunt/static_key.h>

#include "linux/base/registry.h"
#include "linux/module/image.h"

/*
 * The records of the module's static branches, by the one that @module names. @image
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
struct shunt_static_key *shunt_jump_old_key(const struct shunt_image *image,
					    const struct shunt_old_jump *entry);

/* What a record stands for. */
enum shunt_jump {
	SHUNT_JUMP_NONE, /* no site, or one that the linker dropped (its value for such: 0, -1) */
	SHUNT_JUMP_KEYLESS, /* a test of something that is no key: shunt_jump_key() has none */
	SHUNT_JUMP_SITE,    /* a site in the module's text */
	SHUNT_JUMP_ASTRAY,  /* something that is not text: its key cannot be changed */
};

/* @segments: the module's; n is 0 where they are not known. */
enum shunt_jump shunt_jump_site(const struct shunt_segments *segments,
				const struct static_jump_entry *entry);

static inline bool shunt_jump_has_key(const struct shunt_segments *segments,
				      const struct static_jump_entry *entry)
{
	enum shunt_jump what = shunt_jump_site(segments, entry);

	return what == SHUNT_JUMP_SITE || what == SHUNT_JUMP_ASTRAY;
}

#endif
