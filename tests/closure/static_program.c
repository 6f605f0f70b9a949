/* SPDX-License-Identifier: MIT */
/*
 * A program with libshunt in it, for the closure test to read. It is never run.
 */
#include <shunt/static_call.h>

static void work(void)
{
}

DEFINE_STATIC_CALL(closure, work);

int main(void)
{
	static_call(closure)();
	return static_call_update(closure, work);
}
