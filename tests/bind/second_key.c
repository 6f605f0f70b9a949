/* SPDX-License-Identifier: MIT */
/*
 * A second key, other, in the program's file, called through a PLT entry of its own: with
 * LIBRARY the key, else a call of it.
 */
#include "bind.h"

static int ninety(void)
{
	return 90;
}

#ifdef LIBRARY
DEFINE_STATIC_CALL(other, ninety);
EXPORT_STATIC_CALL(other);
#else
DECLARE_STATIC_CALL(other, ninety);

PUBLIC int other_run(void);
KEPT int other_run(void)
{
	(void)ninety;
	return CALL(static_call(other));
}
#endif
