/* SPDX-License-Identifier: MIT */
/*
 * The port's memory: pages straight from the kernel, because malloc() may be the
 * very program that is being patched.
 */
#include <sys/mman.h>

#include <shunt/port.h>

#include "linux/base/base.h"

void *shunt_port_alloc(size_t size)
{
	/* Whoever asks for much is about to fill it: spare it the page faults. */
	int populate = size > 1 << 16 ? MAP_POPULATE : 0;
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | populate,
		       -1, 0);

	if (p != MAP_FAILED && p)
		return p;
	shunt_failed_call = "mmap";
	return NULL;
}

void shunt_port_free(void *p, size_t size)
{
	if (p)
		(void)munmap(p, size);
}
