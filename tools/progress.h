/* SPDX-License-Identifier: MIT */
/* A line on standard error for what takes longer than a second, where that is a terminal. */
#ifndef SHUNT_TOOLS_PROGRESS_H
#define SHUNT_TOOLS_PROGRESS_H

#include <stdint.h>

/* Begin: @what is done, @total steps. */
void progress_begin(const char *what, uint64_t total);
/* So many steps are done. Cheap enough for every thousandth. */
void progress(uint64_t done);
/* Take the line away again. */
void progress_end(void);

#endif
