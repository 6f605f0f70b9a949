/* SPDX-License-Identifier: MIT */
/*
 * The port's memory: pages straight from the kernel, because malloc() may be the
 * very program that is being patched, and the page that a fork wipes.
 */
#include <sys/mman.h>

#include "linux/linux.h"

void *shunt_port_alloc(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p != MAP_FAILED)
		return p;
	shunt_failed_call = "mmap";
	return NULL;
}

void shunt_port_free(void *p, size_t size)
{
	if (p)
		(void)munmap(p, size);
}

/*
 * Made on first use, which may be in several threads at once, before any
 * constructor: the first to store its page wins.
 */
struct shunt_process *shunt_process(void)
{
	static struct shunt_process fallback;
	static struct shunt_process *_Atomic page;
	struct shunt_process *p = atomic_load_explicit(&page, memory_order_acquire);
	struct shunt_process *none = NULL;

	if (p)
		return p;
	p = shunt_port_alloc(sizeof(*p));
	if (p && madvise(p, sizeof(*p), MADV_WIPEONFORK)) {
		shunt_port_free(p, sizeof(*p)); /* before Linux 4.14 */
		p = NULL;
	}
	/* Pairs with the acquire load above and below. */
	if (atomic_compare_exchange_strong_explicit(&page, &none, p ? p : &fallback,
						    memory_order_acq_rel, memory_order_acquire))
		return p ? p : &fallback;
	shunt_port_free(p, sizeof(*p));
	return none;
}
