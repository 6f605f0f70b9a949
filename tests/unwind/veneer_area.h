/* SPDX-License-Identifier: MIT */
/* What a plugin tells the program of veneer_area.c, by dlsym("plugin"). */
#ifndef SHUNT_TESTS_UNWIND_VENEER_AREA_H
#define SHUNT_TESTS_UNWIND_VENEER_AREA_H

#include <shunt/static_call.h>

typedef long area_fn(long arg);

struct area_plugin {
	const struct shunt_module *module;
	area_fn *call; /* has the site of the plugin's key */
	int (*update)(area_fn *fn);
	area_fn *target; /* adds the plugin's number */
	area_fn *spare;  /* adds 1000 */
};

#endif
