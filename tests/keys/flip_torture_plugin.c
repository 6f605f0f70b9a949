/* SPDX-License-Identifier: MIT */
/* A plugin with sites of the program's keys, which comes and goes. */
#include "flip_torture.h"

extern const struct flip_sites plugin_sites;
DEFINE_FLIP_SITES(plugin);
