/* SPDX-License-Identifier: MIT */
/* The CPU's forms of sites, of linux/show/selftest.c alone. */
#if defined(__x86_64__)
#include "arch/x86_64/selftest.h"
#elif defined(__aarch64__)
#include "arch/aarch64/selftest.h"
#else
#error "no such folder in src/arch: see doc/porting.md"
#endif
