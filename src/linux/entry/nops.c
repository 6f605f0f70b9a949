/* SPDX-License-Identifier: MIT */
/*
 * Entries that were five nops of one byte, and are one instruction now: threads may stand between
 * two of them. They are moved behind all five, which is the same to them, wherever their
 * instruction pointer is saved: in the frame of the sync by signals, which each thread gets, and in
 * those of handlers that this has interrupted, on its stack.
 *
 * A thread that was stopped takes the signal before it goes on, at any time; so the addresses
 * stay known for good. One that blocks the signal is seen where it sleeps, once: nobody comes to
 * stand between the nops again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/ftrace.h"
#include "linux/base/alone.h"
#include "linux/base/base.h"
#include "linux/base/format.h"
#include "linux/base/syscall.h"
#include "linux/base/tasks.h"
#include "linux/sync/move.h"
#include "linux/sync/sync_handler.h"
#include "linux/sync/sync_signal.h"
#include "linux/sync/sync_slots.h"

/* ---------------------------------------- threads that sleep, or block the signal */

#define ROUNDS 40

/*
 * Whether thread @tid sleeps, outside of all nops. What its handlers have interrupted is moved, as
 * it would itself: should it go on meanwhile, what is written is out of use.
 */
static bool sleeps_outside(int32_t tid)
{
	char path[64], text[256], *ip;
	uintptr_t sp = 0;
	long fd, n;

	shunt_format(path, sizeof(path), "/proc/self/task/%d/syscall", (int)tid);
	fd = shunt_syscall(SYS_openat, -100, (long)path, 02000000 /* O_CLOEXEC */, 0);
	if (fd < 0) /* it has ended; a kernel may also have no such file */
		return fd == -ENOENT &&
		       shunt_syscall(SYS_tgkill, shunt_own_pid(), tid, 0, 0) == -ESRCH;
	n = shunt_syscall(SYS_read, fd, (long)text, sizeof(text) - 1, 0);
	(void)shunt_syscall(SYS_close, fd, 0, 0, 0);
	text[n > 0 ? n : 0] = '\0';
	ip = strrchr(text, ' '); /* ... sp pc */
	if (!ip)
		return n == -ESRCH;
	*ip++ = '\0';
	if (strrchr(text, ' '))
		sp = strtoul(strrchr(text, ' ') + 1, NULL, 16);
	if (!sp || shunt_nops_around(strtoul(ip, NULL, 16)))
		return false;
	shunt_move_below_handlers(sp);
	return true;
}

/* Whether it has answered in this round, or is gone, or sleeps elsewhere. */
static bool is_outside(int32_t tid)
{
	uint32_t round = atomic_load_explicit(&shunt_sync_round, memory_order_relaxed);
	const struct shunt_sync_slot *slot = shunt_sync_slot_of(tid);

	return tid == shunt_own_tid() ||
	       (slot && slot->sent == round && atomic_load(&slot->acked) == round) ||
	       sleeps_outside(tid);
}

/*
 * A thread blocks the signal. Each that was there is seen outside once, in one round or another; of
 * those that are made since, none has been there.
 */
static int look_at_each(void)
{
	static struct shunt_tasks tasks; /* update lock */
	const struct timespec moment = {0, 5000000};
	int ret = shunt_tasks_list(&tasks);
	size_t left = tasks.n;

	if (ret || !tasks.complete)
		return ret ? ret : -EAGAIN;
	for (int rounds = 0; rounds < ROUNDS; rounds++) {
		size_t n = 0;

		for (size_t i = 0; i < left; i++)
			if (!is_outside(tasks.tids[i]))
				tasks.tids[n++] = tasks.tids[i];
		left = n;
		if (!left)
			return 0;
		(void)shunt_syscall(SYS_nanosleep, (long)&moment, 0, 0, 0);
		ret = shunt_signal_those(sleeps_outside);
		if (ret != -EAGAIN)
			return ret;
	}
	return -EAGAIN;
}

int shunt_port_leave_nops(const uintptr_t *ips, size_t n)
{
	struct shunt_left_nops *l = shunt_port_alloc(sizeof(*l) + n * sizeof(ips[0]));
	const char *failed;
	int ret;

	if (!l)
		return shunt_port_no_memory();
	l->n = 0;
	for (size_t i = 0; i < n; i++)
		if (shunt_nops_around(ips[i] + 1) != ips[i]) /* known from an earlier session */
			l->ips[l->n++] = ips[i];
	if (l->n)
		shunt_left_nops_add(l);
	else
		shunt_port_free(l, sizeof(*l) + n * sizeof(ips[0]));
	shunt_move_below_handlers((uintptr_t)__builtin_frame_address(0));
	if (shunt_is_alone())
		return 0;
	/* poll() and others end where a signal's handler runs: who sleeps is left asleep. */
	ret = shunt_signal_those(sleeps_outside);
	failed = shunt_failed_call;
	if (ret == -EAGAIN && !look_at_each()) {
		ret = 0;
		failed = NULL;
	}
	shunt_failed_call = failed;
	return ret;
}
