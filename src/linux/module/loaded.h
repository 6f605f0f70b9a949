/* SPDX-License-Identifier: MIT */
/* The records of modules (loaded.c), for those who fill them in. Update lock held throughout. */
#ifndef SHUNT_LINUX_LOADED_H
#define SHUNT_LINUX_LOADED_H

#include <shunt/module.h>

#include "linux/base/base.h"
#include "linux/base/registry.h"

/*
 * Whether this libshunt and @module were compiled with the same shunt/module.h. Not the size alone:
 * where there is NULL now, an earlier one had the end of its records of static branches.
 */
static inline bool shunt_is_of_this_version(const struct shunt_module *module)
{
	return module->size == sizeof(*module) && !module->reserved;
}

/* A copy of @string that is never freed; NULL: no memory. */
const char *shunt_intern(const char *string);

/* Take @m's sites back. */
void shunt_loaded_remove_sites(struct shunt_loaded *m);

/*
 * Forget modules that were mapped in @range, where the file @path is now, without a look at what
 * they had there: they have been unmapped and could not tell. A record of all of @range and of
 * that file may be one of the new module itself; it is of one that has gone if it is @gone.
 */
void shunt_loaded_forget(struct shunt_range range, const char *path,
			 const struct shunt_loaded *gone);

/* Have updates of the keys in @m->refusal refused. */
void shunt_loaded_refuse(struct shunt_loaded *m);

/* The same for those in @refusal, for good: there is no record of the module. */
void shunt_loaded_refuse_unrecorded(const struct shunt_refusal *refusal);

#endif
