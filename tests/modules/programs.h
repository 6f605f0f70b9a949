/* SPDX-License-Identifier: MIT */
/* What host.c has for the programs. */
#ifndef SHUNT_TESTS_MODULES_PROGRAMS_H
#define SHUNT_TESTS_MODULES_PROGRAMS_H

#include <pthread.h>

#include <shunt/inspect.h>

#include "../api/tap.h"
#include "host.h"

KEPT int host_site(int x);
KEPT int host_tail(int x);
KEPT bool host_test(void);
int host_jcc(int x); /* -1 for 0 */

/* Whether all calls of host_call in the program reach the function that adds @added. */
bool host_reaches(int added);

const struct plugin *plugin_open(const char *path, void **handle);
bool plugin_works(const struct plugin *p, int host_added, bool on);

/* libshunt's messages are kept from messages_start() on. */
void messages_start(void);
unsigned messages_with(const char *part);
void messages_print(void);

/* The sites of a key (NULL: of all), in modules whose file name has @module in it. */
struct site_counts {
	unsigned all, by_state[8];
};
struct site_counts count_sites(const char *key, const char *module);

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#define TSAN 1
#else
#define TSAN 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define ASAN 1
#else
#define ASAN 0
#endif

#endif
