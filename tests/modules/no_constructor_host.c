/* SPDX-License-Identifier: MIT */
/* A file that registers its module, beside one that does not. */
#include <shunt/static_key.h>

#ifndef __SHUNT_REGISTERS
#error "it has no constructor"
#endif

extern int no_constructor_host;
int no_constructor_host;
