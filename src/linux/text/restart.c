/* SPDX-License-Identifier: MIT */
/* Where a thread says which restartable sequence it is in (restart.h). */
#include "linux/text/restart.h"
#include "linux/base/base.h"

extern const ptrdiff_t __rseq_offset __attribute__((weak)); /* glibc 2.35 */
extern const unsigned int __rseq_size __attribute__((weak));

uint64_t *shunt_begun(bool can_restart)
{
	static uint64_t nobodys; /* update lock */

	if (!can_restart || !&__rseq_size || !&__rseq_offset || !__rseq_size)
		return &nobodys;
	return (uint64_t *)(shunt_thread_end() + (uintptr_t)__rseq_offset +
			    8); /* struct rseq, rseq_cs */
}
