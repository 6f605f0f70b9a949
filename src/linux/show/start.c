/* SPDX-License-Identifier: MIT */
/*
 * What each module's constructor calls. Here, above all the rest, because the first that comes
 * has the self-test run, and has what a debugger looks for linked into a static program.
 *
 * And all that is asked of the keys of a module: a shared object that has libshunt.a in it exports
 * what was linked of that. Where it comes before libshunt.so, the program's updates are made by it,
 * and so must be told of by it.
 */
#include <shunt/inspect.h>
#include <shunt/module.h>
#include <shunt/text_poke.h>

#include "linux/module/module.h"
#include "linux/show/debug.h"
#include "linux/show/selftest.h"

__attribute__((used)) static const void *const debug_table = &shunt_debug_table;

__attribute__((used)) static void (*const together[])(void) = {
	(void (*)(void))shunt_for_each_key,
	(void (*)(void))shunt_get_ways,
	(void (*)(void))text_poke_bp,
};

void shunt_module_register(const struct shunt_module *module)
{
	int known = shunt_module_is_known(module);

	/* Most source files of a module register it again. */
	if (known > 0)
		return;
	if (!known)
		shunt_selftest_at_start();
	shunt_module_add(module);
}
