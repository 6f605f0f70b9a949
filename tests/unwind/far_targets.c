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

/* Addresses that are no functions, for keys that nobody calls. */
TARGET void *far_room(unsigned i);
TARGET void *far_room(unsigned i)
{
	static char room[4096];

	return room + i;
}
