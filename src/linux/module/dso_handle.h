/* SPDX-License-Identifier: MIT */
/* By which name the C library knows a module's exit functions (dso_handle.c). */
#ifndef SHUNT_LINUX_DSO_HANDLE_H
#define SHUNT_LINUX_DSO_HANDLE_H

#include "linux/module/image.h"

/*
 * The __dso_handle of @image, which @look of shunt_image_look() is called for; NULL where it has
 * none, or where two could be it.
 */
void *shunt_dso_handle(const struct shunt_image *image);

#endif
