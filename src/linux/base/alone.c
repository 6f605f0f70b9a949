/* SPDX-License-Identifier: MIT */
/*
 * Whether nobody else runs this text: no other thread, no child of a vfork(), no clone()
 * that shares our memory. The C library knows of its own threads only; the kernel
 * knows of all: it refuses to unshare memory that is shared, and does nothing where it is
 * not. It is not asked where a seccomp filter is in force, which may kill whoever calls
 * unshare(): then it is not known.
 *
 * A filter may also answer in the kernel's place, with 0, which here means "no filter" and "alone".
 * It sees a call's number and arguments only; so each question is put with arguments for which the
 * kernel has another answer, and with some that the kernel takes for the same.
 */
#include <errno.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>

#include "linux/base/alone.h"
#include "linux/base/syscall.h"

/* Of the batch that is going on. Update lock. */
static struct {
	bool goes_on, is_asked, is_alone;
	const char *why_not;
	uint64_t number;
} batch;

void shunt_alone_begin(void)
{
	batch.is_asked = batch.is_alone = false;
	batch.number++;
	batch.goes_on = true;
}

void shunt_alone_end(void)
{
	batch.goes_on = false;
}

uint64_t shunt_alone_batch(void)
{
	return batch.goes_on && batch.is_asked && batch.is_alone ? batch.number : 0;
}

/* The kernel takes an option of 32 bits; a filter compares 64, most often, or the lower 32. */
#define UNSEEN_BIT (1L << 32)

static long control_process(long option)
{
	return shunt_syscall(SYS_prctl, option, 0, 0, 0);
}

bool shunt_is_filtered(void)
{
	long mode = control_process(PR_GET_SECCOMP | UNSEEN_BIT);

	if (mode == -EINVAL && control_process(PR_GET_NO_NEW_PRIVS) >= 0)
		return false; /* a kernel without filters */
	return mode || control_process(-1) != -EINVAL;
}

/* Whether the kernel says it: for a flag that there is not it has an error. */
static bool is_memory_unshared(void)
{
	return shunt_syscall(SYS_unshare, CLONE_VM | UNSEEN_BIT, 0, 0, 0) == -EINVAL &&
	       !shunt_syscall(SYS_unshare, CLONE_VM, 0, 0, 0);
}

extern char __libc_single_threaded __attribute__((weak)); /* glibc 2.32 */

static bool ask(const char **why_not)
{
	*why_not = NULL;
	if (&__libc_single_threaded && !__libc_single_threaded)
		return false;
	if (shunt_is_filtered()) {
		*why_not =
			"a seccomp filter is in force, and may kill who asks whether it is alone";
		return false;
	}
	if (is_memory_unshared())
		return true;
	*why_not = "the kernel says that the memory is shared, or does not say";
	return false;
}

bool shunt_ask_if_alone(const char **why_not)
{
	if (!batch.goes_on)
		return ask(why_not);
	if (!batch.is_asked)
		batch.is_alone = ask(&batch.why_not);
	batch.is_asked = true;
	*why_not = batch.why_not;
	return batch.is_alone;
}

bool shunt_is_alone(void)
{
	const char *why_not;

	return shunt_ask_if_alone(&why_not);
}
