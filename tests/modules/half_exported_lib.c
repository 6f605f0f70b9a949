/* SPDX-License-Identifier: MIT */
/* The library of half_exported.c: it asks for static calls alone. */
#include <shunt/static_call.h>

#include "../common/one_two.h"
#include "half_exported.h"

DEFINE_STATIC_CALL(half, one);

int half_switch(void)
{
	int ret = static_call_update(half, two);

	if (ret || static_call(half)() != 2)
		return ret ? ret : 1;
	return static_call_update(half, one);
}
