/* SPDX-License-Identifier: MIT */
/* A module whose constructor and destructor wait for another thread of the program. */
extern void locked_hook(void);

__attribute__((constructor)) static void begin(void)
{
	locked_hook();
}

__attribute__((destructor)) static void end(void)
{
	locked_hook();
}
