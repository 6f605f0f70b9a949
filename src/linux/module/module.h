/* SPDX-License-Identifier: MIT */
/* Modules come (module.c). */
#ifndef SHUNT_LINUX_MODULE_H
#define SHUNT_LINUX_MODULE_H

#include <shunt/module.h>

/* Whether @module is known: 1 or 0; or an error: within an update of this thread. */
int shunt_module_is_known(const struct shunt_module *module);

/* shunt_module_register() of one that is not. */
void shunt_module_add(const struct shunt_module *module);

#endif
