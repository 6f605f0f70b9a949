/* SPDX-License-Identifier: MIT */
/* Targets in a shared object, out of reach of the program's calls. */
#define TARGET __attribute__((visibility("default"), noinline))

extern long (*volatile path_hook)(long arg);

TARGET long far_a(long arg);
TARGET long far_a(long arg)
{
	return path_hook(arg) + 1;
}

TARGET long far_b(long arg);
TARGET long far_b(long arg)
{
	return path_hook(arg + 1);
}
