/* SPDX-License-Identifier: MIT */
/*
 * A thread that is given a name may have ended before the consumer looks, and the file may have its
 * old one. Before the C library's, as in exits.c.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/prctl.h>

#include "linux/base/syscall.h"
#include "trace/ring.h"

#define EXPORT __attribute__((visibility("default")))

static int (*real_setname)(pthread_t, const char *);
static int (*real_prctl)(int, ...);

__attribute__((constructor)) static void find_real(void)
{
	*(void **)&real_setname = dlsym(RTLD_NEXT, "pthread_setname_np");
	*(void **)&real_prctl = dlsym(RTLD_NEXT, "prctl");
}

static void note_name(struct trace_ring *ring, const char *name)
{
	size_t n = 0;

	for (; n < sizeof(ring->name) - 1 && name[n]; n++)
		((volatile char *)ring->name)[n] = name[n];
	ring->name[n] = '\0';
	/* Pairs with the acquire in chunks.c. */
	atomic_fetch_add_explicit(&ring->named, 1, memory_order_release);
}

static void note_own_name(const char *name)
{
	struct trace_ring *own = trace_own_ring;

	/* In a child of vfork() it is the parent's. */
	if (own != &trace_no_ring && own != &trace_not_here && own->tid == shunt_own_tid())
		note_name(own, name);
}

/* Of a thread that has none yet: it reads its name when it gets one. */
static struct trace_ring *ring_of(pthread_t thread)
{
	/* As far from the thread's descriptor as here: the variable is in the static TLS. */
	uintptr_t variable =
		(uintptr_t)&trace_own_ring - (uintptr_t)pthread_self() + (uintptr_t)thread;
	struct trace_ring *found = NULL;

	/* One that had this stack before may have a ring still. */
	for (struct trace_ring *ring = atomic_load(&trace_rings); ring; ring = ring->next)
		if (atomic_load(&ring->state) == TRACE_RING_OWNED && ring->is_ready &&
		    ring->variable == variable && (!found || found->thread < ring->thread))
			found = ring;
	return found;
}

EXPORT int pthread_setname_np(pthread_t thread, const char *name)
{
	struct trace_ring *ring;
	int ret;

	if (!real_setname)
		find_real();
	ret = real_setname ? real_setname(thread, name) : ENOSYS;
	if (ret)
		return ret;
	if (pthread_equal(thread, pthread_self())) {
		note_own_name(name);
		return 0;
	}
	ring = ring_of(thread);
	if (ring)
		note_name(ring, name);
	return 0;
}

static int call_prctl(int option, const unsigned long *args)
{
	long ret;

	if (real_prctl)
		return real_prctl(option, args[0], args[1], args[2], args[3]);
	ret = shunt_syscall6(SYS_prctl, option, (long)args[0], (long)args[1], (long)args[2],
			     (long)args[3], 0);
	if (ret >= 0)
		return (int)ret;
	errno = (int)-ret;
	return -1;
}

EXPORT int prctl(int option, ...)
{
	unsigned long args[4];
	va_list list;
	int ret;

	va_start(list, option);
	for (int i = 0; i < 4; i++)
		/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): it has been begun */
		args[i] = va_arg(list, unsigned long);
	va_end(list);
	ret = call_prctl(option, args);
	if (!ret && option == PR_SET_NAME)
		note_own_name((const char *)args[0]);
	return ret;
}
