/* SPDX-License-Identifier: MIT */
/*
 * The portable suite: what a program may do with static calls, in plain C, run by
 * every variant of the build matrix (../matrix). This header is the header of an
 * ordinary program that uses Shunt: targets, and keys that are defined in one
 * file, called in others.
 *
 *	suite.c          the order of the tests, options
 *	suite_targets.c  functions that the keys point to
 *	suite_calls.c    one key, one call: forms, signatures, NULL and RET0, errors
 *	suite_threads.c  threads, signal handlers, recursion
 *	suite_early.c    before main: .preinit_array, ifunc, constructors
 *	suite_inspect.c  the inspection interface, and the sites as memory has them
 *	suite_modules.c  keys of shared objects and plugins
 *	suite_jcc.S      a conditional tail call, which few compilers write themselves
 *	whole_suite.c all of these .c but the targets, for who compiles them often
 *	plugin_lib.c     a shared object with an exported key (linked in, where static)
 *	plugin_dl.c      a plugin for dlopen() with a key of the same name as ours
 *
 * SHUNT_GENERIC: no port; what needs one is left out. SUITE_STATIC: a static
 * executable, no shared objects. SUITE_NO_TAILS: the compiler makes no tail calls.
 */
#ifndef SHUNT_TESTS_SUITE_H
#define SHUNT_TESTS_SUITE_H

#include <stdbool.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>

#include "tap.h"

#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer) || defined(SUITE_TSAN)
#define SUITE_SANITIZED 1
#endif

/* What the program calls in plugins, under -fvisibility=hidden too. */
#define PUBLIC KEEP __attribute__((visibility("default")))

/* What the variant is expected to do with the sites in the executable. */
enum expectation {
	EXPECT_INLINE,     /* each is a direct call */
	EXPECT_PARTIAL,    /* some calls have no site: the compiler took them elsewhere */
	EXPECT_TRAMPOLINE, /* none is */
};

struct options {
	enum expectation expect;
	const char *plugin;    /* path of plugin_dl, or NULL */
	unsigned long updates; /* while threads call, and signal handlers */
};

extern struct options options;

/* ------------------------------------------------------------------ targets */

struct big {
	double d[3];
	long l;
};

KEEP int add1(int x);
KEEP int add2(int x);
KEEP int add3(int x);
KEEP int add4(int x);
KEEP void bump_by_1(int *counter);
KEEP void bump_by_10(int *counter);
KEEP void *pointer_self(void *p);
KEEP _Bool is_positive(long x);
KEEP double scale2(double a, float b);
KEEP double scale3(double a, float b);
KEEP struct big big_forward(struct big b, int i);
KEEP struct big big_reverse(struct big b, int i);
KEEP long ten_args(long a, long b, long c, long d, long e, long f, long g, long h, long i, long j);
KEEP long ten_args_signed(long a, long b, long c, long d, long e, long f, long g, long h, long i,
			  long j);
KEEP int sum_of(int n, ...);
KEEP int product_of(int n, ...);

/* --------------------------------------------------------------------- keys */

/* Defined in suite_calls.c, called from all files. */
DECLARE_STATIC_CALL(st_add, add1);
DECLARE_STATIC_CALL(st_bump, bump_by_1);
DECLARE_STATIC_CALL(st_zero, add1);

/* plugin_lib.c; the second is called in the library as well. */
PUBLIC int lib_default(int x);
PUBLIC int lib_other(int x);
DECLARE_STATIC_CALL(st_lib, lib_default);
PUBLIC int lib_call(int x);
PUBLIC int lib_tail(int x);
PUBLIC int lib_update(int (*fn)(int));
PUBLIC void *lib_query(void);
PUBLIC void *lib_ret0_address(void);

/* What the inspection says of the site in jcc_site(). */
#ifdef __aarch64__
#define SUITE_JCC_STATE SHUNT_SITE_TAIL
#else
#define SUITE_JCC_STATE SHUNT_SITE_CONDITIONAL
#endif

/* suite_jcc.S: x < 0 ? jump to st_add(x) : -1. */
int jcc_site(int x);
/* And functions that jump through a word, as a trampoline does: to add2(), and anywhere. */
int jump_to_add2(int x), jump_astray(int x);

/* -------------------------------------------------------------------- tests */

/* 0 as the compiler cannot know, so that nothing is folded. */
extern volatile int zero;

int call_site(int x);
int tail_site(int x);
int loop_site(int x, int n);

void test_calls(void);
void test_errors(void);
void test_threads(void);
void test_early(void);
void test_inspect(void);
void test_modules(void);

/*
 * Report whether each known site of the key @name in the executable (@module NULL)
 * or in the module whose path contains @module has in memory what @target asks for.
 * @min: how many there are at least, where the variant has inline sites.
 */
void check_sites(const char *what, const char *name, const char *module, void *target, int min);

/* Whether a site of key @name in a function whose name contains @function is known. */
bool has_site_in(const char *name, const char *function, enum shunt_site_state *state);

#endif
