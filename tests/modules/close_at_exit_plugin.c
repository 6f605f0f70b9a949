/* SPDX-License-Identifier: MIT */
/* A module with a key (OWNER), and one that calls it, for close_at_exit.c. */
#include <shunt/static_call.h>

int exit_home(void);
int exit_call(void);
int exit_update(int (*function)(void));

#ifdef OWNER
int exit_home(void)
{
	return 1;
}

DEFINE_STATIC_CALL(exit_key, exit_home);
EXPORT_STATIC_CALL(exit_key);

int exit_update(int (*function)(void))
{
	return static_call_update(exit_key, function ? function : exit_home);
}
#else
DECLARE_STATIC_CALL(exit_key, exit_home);
#endif

int exit_call(void)
{
	return static_call(exit_key)() + 0;
}
