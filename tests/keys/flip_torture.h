/* SPDX-License-Identifier: MIT */
/* The keys of flip_torture.c, which its plugin tests and calls as well. */
#ifndef SHUNT_TESTS_KEYS_FLIP_TORTURE_H
#define SHUNT_TESTS_KEYS_FLIP_TORTURE_H

#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "../api/tap.h"

/* The callees of what may be NULL, or return 0. */
void flip_callee(int *count), flip_tail_callee(int *count);
int flip_one(void);

DECLARE_STATIC_KEY_FALSE(flip_key);
DECLARE_STATIC_CALL(flip_call, flip_callee);
DECLARE_STATIC_CALL(flip_tail, flip_tail_callee);
DECLARE_STATIC_CALL(flip_ret0, flip_one);

/* Each says what its key says: 1 for on, 0 for off. */
struct flip_sites {
	int (*branch)(void), (*likely)(void), (*call)(void), (*tail)(void), (*ret0)(void);
};

/* A call in the last place, which compilers make a jmp. */
#define FLIP_TAIL_CALLER(name)                      \
	KEEP void name(int *count);                 \
	KEEP void name(int *count)                  \
	{                                           \
		static_call_cond(flip_tail)(count); \
	}

#define DEFINE_FLIP_SITES(prefix)                                                                  \
	KEEP static int prefix##_branch(void)                                                      \
	{                                                                                          \
		return static_branch_unlikely(&flip_key) ? 1 : 0;                                  \
	}                                                                                          \
	KEEP static int prefix##_likely(void)                                                      \
	{                                                                                          \
		return static_branch_likely(&flip_key) ? 1 : 0;                                    \
	}                                                                                          \
	KEEP static int prefix##_call(void)                                                        \
	{                                                                                          \
		int count = 0;                                                                     \
                                                                                                   \
		static_call_cond(flip_call)(&count);                                               \
		return count;                                                                      \
	}                                                                                          \
	FLIP_TAIL_CALLER(prefix##_do_tail)                                                         \
	static int prefix##_tail(void)                                                             \
	{                                                                                          \
		int count = 0;                                                                     \
                                                                                                   \
		prefix##_do_tail(&count);                                                          \
		return count;                                                                      \
	}                                                                                          \
	KEEP static int prefix##_ret0(void)                                                        \
	{                                                                                          \
		return static_call(flip_ret0)();                                                   \
	}                                                                                          \
	const struct flip_sites prefix##_sites = {prefix##_branch, prefix##_likely, prefix##_call, \
						  prefix##_tail, prefix##_ret0}

#endif
