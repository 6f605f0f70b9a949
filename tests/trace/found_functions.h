/* SPDX-License-Identifier: MIT */
#ifndef SHUNT_TESTS_FOUND_FUNCTIONS_H
#define SHUNT_TESTS_FOUND_FUNCTIONS_H

#include <setjmp.h>

extern volatile long found_sink;
extern jmp_buf found_place;
long found_inlined(long n);
long found_recurse(long n);
long found_last(long n);
long found_tail(long n);
long found_alloca(long n);
long double found_precise(long double x);
long found_jump(long n);
void found_void(long n);
void found_void_outer(long n);
void found_void_big(long n);
void found_void_recurse(long n);
void found_void_alloca(long n);

#endif
