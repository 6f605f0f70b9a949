/* SPDX-License-Identifier: MIT */
/*
 * How deep this thread is in functions of the program that messages are passed to: one that does
 * again what has just failed would otherwise go on until its stack is full. Such a function may be
 * left by longjmp(): what is above the stack of the one before has left that.
 */
#include "linux/base/base.h"

#define DEEPEST 8

static __thread struct shunt_nesting now;

bool shunt_nesting_begin(struct shunt_nesting *before)
{
	uintptr_t here = (uintptr_t)__builtin_frame_address(0);

	*before = now;
	if (here >= now.frame)
		now.depth = 0;
	if (now.depth == DEEPEST)
		return false;
	now.frame = here;
	now.depth++;
	return true;
}

void shunt_nesting_end(const struct shunt_nesting *before)
{
	now = *before;
}
