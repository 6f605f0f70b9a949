/* SPDX-License-Identifier: MIT */
/* Compiled with -fno-plt: the call goes through the GOT. */
#include "bind.h"

int event_type(void);
DECLARE_STATIC_CALL(event, event_type);

PUBLIC int run_got(void);
KEPT int run_got(void)
{
	return CALL(static_call(event));
}
