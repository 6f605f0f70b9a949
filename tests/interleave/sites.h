/* SPDX-License-Identifier: MIT */
/*
 * The sites of the interleaving test, for sites.S and for C. Each kind of site stands
 * in three places: within a cache line, across the end of one, across the end of a page.
 * X(kind, place, alignment, offset): the site's key is il_<kind>_<place>.
 */
#ifndef INTERLEAVE_SITES_H
#define INTERLEAVE_SITES_H

/* clang-format off */
#define IL_PLACES(X, kind) X(kind, in, 64, 0) X(kind, line, 64, 62) X(kind, page, 4096, 4094)

/* Keys whose first value is a function that returns something. */
#define IL_EACH_LONG(X) \
	IL_PLACES(X, call) IL_PLACES(X, ret0) IL_PLACES(X, jmp) IL_PLACES(X, jmp_ret0) \
	IL_PLACES(X, jcc) IL_PLACES(X, two)
/* Keys that start out NULL. */
#define IL_EACH_VOID(X) IL_PLACES(X, null) IL_PLACES(X, jmp_null)
/* Static keys that start out false: a nop of 5 bytes. */
#define IL_EACH_BRANCH(X) IL_PLACES(X, branch)
/* Static keys that start out true: a jmp of 2 bytes. */
#define IL_EACH_SHORT(X) \
	X(branch2, in, 64, 0) X(branch2, line, 64, 63) X(branch2, page, 4096, 4095)
/* clang-format on */

#endif
