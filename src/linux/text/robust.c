/* SPDX-License-Identifier: MIT */
/*
 * A child of vfork(), or of clone(CLONE_VM), has the update lock of the process whose memory it
 * runs in, and can be killed with it taken. So the kernel is told of the lock, as of a robust
 * mutex (set_robust_list(2)). A child has no list of its own until it asks for one; the C library's
 * is of threads.
 */
#include <stddef.h>

#include <linux/futex.h>

#include "linux/base/syscall.h"
#include "linux/text/robust.h"

/*
 * An empty list, and one lock that is always about to be taken or given back. The same for all
 * children, so it does not matter which of them writes it.
 */
static struct robust_list_head list;
static struct robust_list lock;

void shunt_robust_begin(struct shunt_robust *before, _Atomic uint32_t *word)
{
	size_t size = 0;

	before->head = NULL;
	list.list.next = &list.list;
	list.futex_offset = (long)((uintptr_t)word - (uintptr_t)&lock);
	list.list_op_pending = &lock;
	before->is_on =
		!shunt_syscall(SYS_get_robust_list, 0, (long)&before->head, (long)&size, 0) &&
		!shunt_syscall(SYS_set_robust_list, (long)&list, sizeof(list), 0, 0);
}

/* A copy of the child has another one. */
void shunt_robust_end(struct shunt_robust *before)
{
	void *now = NULL;
	size_t size = 0;

	if (!before->is_on)
		return;
	before->is_on = false;
	if (!shunt_syscall(SYS_get_robust_list, 0, (long)&now, (long)&size, 0) && now == &list)
		(void)shunt_syscall(SYS_set_robust_list, (long)before->head, sizeof(list), 0, 0);
}
