/* SPDX-License-Identifier: MIT */
/* What the programs here and their plugins know of each other. */
#ifndef SHUNT_TESTS_MODULES_HOST_H
#define SHUNT_TESTS_MODULES_HOST_H

#include <stdbool.h>

#include <shunt/static_call.h>
#include <shunt/static_key.h>

#define PUBLIC __attribute__((visibility("default")))
#define KEPT   __attribute__((noinline, used))

/* The program's, which exports its keys. */
PUBLIC int host_default(int x);
PUBLIC int host_other(int x);
DECLARE_STATIC_CALL(host_call, host_default);
DECLARE_STATIC_KEY_FALSE(host_branch);
PUBLIC extern int host_notes[16]; /* what constructors and destructors have seen */

/* A plugin's, found by dlsym("plugin"). Plugins differ in @number alone. */
struct plugin {
	int number;
	int (*target)(int); /* adds 1000 * @number */
	int (*own)(int);    /* calls the plugin's own key (own target: adds 10 * @number) */
	bool (*own_branch)(void);
	int (*exported)(int); /* calls the key that the plugin exports */
	int (*host)(int);     /* calls host_call, twice */
	int (*host_tail)(int);
	bool (*host_is_on)(void);
	int (*update)(bool other); /* the own key: to @target, or back */
	int (*turn)(bool on);
	int (*update_host)(int (*fn)(int));
};

#endif
