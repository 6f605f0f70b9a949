/* SPDX-License-Identifier: MIT */
/* Modules that keys point into (target.c, watch.c). */
#ifndef SHUNT_LINUX_TARGET_H
#define SHUNT_LINUX_TARGET_H

#include "linux/base/base.h"
#include "linux/module/image.h"

/* watch.c: @image says itself when it goes away. Async-signal-safe. */
void shunt_targets_known(const struct shunt_image *image);

/*
 * target.c: put each key that points into @range back to its default, and say so.
 * Update lock not held.
 */
void shunt_targets_gone(struct shunt_range range, const char *path);

#endif
