/* SPDX-License-Identifier: MIT */
/*
 * The port's memory: pages straight from the kernel, because malloc() may be the
 * very program that is being patched.
 *
 * Who allocates through what: the core, and all that runs with a lock held, by shunt_port_alloc()
 * or by mmap() itself. Trap handlers and the sync's allocate nothing; a trace stub by mmap(), a
 * chunk for many threads or calls (entry/context.c, entry/activation.c). malloc() is for what is
 * only shown, with no lock held (report.c, elf/elf_func.c), for timers whose signal is a thread
 * (signals/threads.c), and for the recorder's list of modules (trace/catalogue.c). The recorder's
 * rings and chunks are mapped (trace/rings.c, blocks.c), and so is all that the agent's thread asks
 * for (agent/memory.c).
 *
 * errno is left alone, by system calls of our own: what asks for memory returns its errors, and may
 * do so before the C library has started, when there is no errno.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include <shunt/port.h>

#include "linux/base/base.h"
#include "linux/base/syscall.h"

/*
 * Where it is, so that it is not taken for a caller's. What is more than these is not known. An end
 * of 0: none, or one that is being entered.
 */
#define OWN 1024
static struct {
	_Atomic uintptr_t start, end;
} own[OWN];
static _Atomic size_t nr_own;

static void enter(uintptr_t start, size_t size)
{
	size_t n = atomic_load_explicit(&nr_own, memory_order_relaxed), i = 0;
	uintptr_t none = 0;

	while (i < OWN && !atomic_compare_exchange_strong(&own[i].start, &none, start)) {
		none = 0;
		i++;
	}
	if (i == OWN)
		return;
	atomic_store(&own[i].end, start + size);
	while (n <= i && !atomic_compare_exchange_weak(&nr_own, &n, i + 1))
		;
}

static void leave(uintptr_t start)
{
	size_t n = atomic_load(&nr_own);

	for (size_t i = 0; i < n; i++)
		if (atomic_load(&own[i].start) == start) {
			atomic_store(&own[i].end, 0);
			atomic_store(&own[i].start, 0);
			return;
		}
}

bool shunt_is_memory_of_libshunt(uintptr_t addr)
{
	size_t n = atomic_load(&nr_own);

	for (size_t i = 0; i < n; i++)
		if (addr >= atomic_load(&own[i].start) && addr < atomic_load(&own[i].end))
			return true;
	return false;
}

/* What memory was refused for last; 0: nothing was refused. */
static __thread int refused __attribute__((tls_model("initial-exec")));

int shunt_port_no_memory(void)
{
	return refused ? refused : -ENOMEM;
}

/* 0 is no address that can be given. */
static bool is_error(long addr)
{
	return !addr || (addr < 0 && addr >= -4095);
}

void *shunt_port_alloc(size_t size)
{
	/* Whoever asks for much is about to fill it: spare it the page faults. */
	int populate = size > 1 << 16 ? MAP_POPULATE : 0;
	long p = shunt_syscall6(SYS_mmap, 0, (long)size, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | populate, -1, 0);

	if (!is_error(p)) {
		enter((uintptr_t)p, size);
		return (void *)p; /* NOLINT(performance-no-int-to-ptr) */
	}
	refused = p ? (int)p : -EIO; /* a filter says that it was done */
	shunt_failed_call = "mmap";
	return NULL;
}

/* Where mremap() is forbidden. */
static void *grow_by_copy(void *p, size_t from, size_t to)
{
	void *grown = shunt_port_alloc(to);

	if (grown) {
		memcpy(grown, p, from);
		shunt_port_free(p, from);
	}
	return grown;
}

void *shunt_memory_grow(void *p, size_t from, size_t to)
{
	long grown =
		shunt_syscall6(SYS_mremap, (long)p, (long)from, (long)to, MREMAP_MAYMOVE, 0, 0);

	if (is_error(grown))
		return grow_by_copy(p, from, to);
	leave((uintptr_t)p);
	enter((uintptr_t)grown, to);
	return (void *)grown; /* NOLINT(performance-no-int-to-ptr) */
}

void shunt_port_free(void *p, size_t size)
{
	if (!p)
		return;
	leave((uintptr_t)p);   /* before another thread can be given the address */
	(void)munmap(p, size); /* of what is mapped: no error */
}
