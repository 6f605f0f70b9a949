/* SPDX-License-Identifier: MIT */
#ifndef TESTS_HALF_EXPORTED_H
#define TESTS_HALF_EXPORTED_H

/* The library of half_exported.c: it updates a key of its own. 0, or what was wrong. */
__attribute__((visibility("default"))) int half_switch(void);

#endif
