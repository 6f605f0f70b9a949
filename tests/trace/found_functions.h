/* SPDX-License-Identifier: MIT */
#ifndef SHUNT_TESTS_FOUND_FUNCTIONS_H
#define SHUNT_TESTS_FOUND_FUNCTIONS_H

#include <setjmp.h>

extern volatile long found_sink;
extern jmp_buf found_place;

/* None is inlined but where found_functions.c says so, or how many calls there are would be the
 * compiler's choice. */
#define NOT_INLINED __attribute__((noinline))
NOT_INLINED long found_inlined(long n);
NOT_INLINED long found_recurse(long n);
NOT_INLINED long found_last(long n);
NOT_INLINED long found_tail(long n);
NOT_INLINED long found_alloca(long n);
NOT_INLINED long double found_precise(long double x);
NOT_INLINED long found_jump(long n);
NOT_INLINED void found_void(long n);
NOT_INLINED void found_void_outer(long n);
NOT_INLINED void found_void_big(long n);
NOT_INLINED void found_void_recurse(long n);
NOT_INLINED void found_void_alloca(long n);
NOT_INLINED void found_void_inlined(long n);

#endif
