/* SPDX-License-Identifier: MIT */
/* A tracer in small: every function compiled with -pg -mfentry returns by a return stub. */
#ifndef SHUNT_TESTS_HIJACK_H
#define SHUNT_TESTS_HIJACK_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct hijack_counts {
	unsigned long entries, returns, tails;
};
extern __thread struct hijack_counts hijack_counts;
extern int hijack_off;
extern void (*hijack_on_return)(void); /* called in each return; general registers only */

void hijack_entry(uintptr_t *word);
void hijack_return(uintptr_t *word);

#ifdef __cplusplus
}
#endif

#endif
