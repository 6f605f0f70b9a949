/* SPDX-License-Identifier: MIT */
/* The page that the kernel clears in a copy of the process. */
#include <linux/kcmp.h>
#include <sys/mman.h>

#include <shunt/port.h>

#include "linux/base/base.h"
#include "linux/base/syscall.h"

/*
 * Whether @page is wiped in a copy of the process: not before Linux 4.14, and not where a
 * filter refuses it, or answers 0 in place of the kernel. The kernel itself refuses it for shared
 * memory.
 */
static bool is_wiped_on_fork(void *page, size_t size)
{
	void *shared;
	bool is_refused;

	if (madvise(page, size, MADV_WIPEONFORK))
		return false;
	shared = mmap(NULL, size, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return false;
	is_refused = madvise(shared, size, MADV_WIPEONFORK) != 0;
	(void)munmap(shared, size);
	return is_refused;
}

/*
 * Made on first use, which may be in several threads at once, before any
 * constructor: the first to store its page wins.
 */
struct shunt_process *_Atomic shunt_process_page;
_Atomic bool shunt_process_is_wiped;

struct shunt_process *shunt_make_process(void)
{
	static struct shunt_process fallback;
	struct shunt_process *p = atomic_load_explicit(&shunt_process_page, memory_order_acquire);
	struct shunt_process *none = NULL;

	if (p)
		return p;
	p = shunt_port_alloc(sizeof(*p));
	if (p && !is_wiped_on_fork(p, sizeof(*p))) {
		shunt_port_free(p, sizeof(*p));
		p = NULL;
	}
	atomic_store_explicit(&(p ? p : &fallback)->is_original, true, memory_order_relaxed);
	/* Pairs with the acquire load above and below. */
	if (atomic_compare_exchange_strong_explicit(&shunt_process_page, &none, p ? p : &fallback,
						    memory_order_acq_rel, memory_order_acquire)) {
		shunt_process_is_wiped = p != NULL;
		return p ? p : &fallback;
	}
	shunt_port_free(p, sizeof(*p));
	return none;
}

bool shunt_is_child_in_memory(void)
{
	struct shunt_process *p = atomic_load_explicit(&shunt_process_page, memory_order_acquire);
	int32_t pid, own;

	if (!p || !atomic_load_explicit(&shunt_process_is_wiped, memory_order_relaxed))
		return false;
	pid = atomic_load_explicit(&p->pid, memory_order_relaxed);
	own = pid ? shunt_own_pid() : 0;
	return own > 0 && pid != own;
}

static int check_number(int32_t number, const char *call)
{
	if (number > 0)
		return 0;
	shunt_failed_call = call;
	return number ? number : -EIO; /* a filter says that it was done */
}

int shunt_check_pid(int32_t pid)
{
	return check_number(pid, "getpid");
}

int shunt_check_tid(int32_t tid)
{
	return check_number(tid, "gettid");
}

int32_t shunt_parent_in_memory(void)
{
	int32_t pid = shunt_own_pid();
	int32_t parent = (int32_t)shunt_syscall(SYS_getppid, 0, 0, 0, 0);

	if (parent <= 0 || shunt_syscall(SYS_kcmp, pid, parent, KCMP_VM, 0))
		return 0;
	/* A filter that answers 0 does so for a kind that there is not, too. */
	return shunt_syscall(SYS_kcmp, pid, parent, -1, 0) == -EINVAL ? parent : 0;
}

/* Where the kernel does not wipe the page the number in it may be that of a copy's parent. */
int shunt_look_whose_memory(void)
{
	struct shunt_process *p = shunt_process();
	int32_t of = atomic_load_explicit(&p->memory_pid, memory_order_relaxed);
	int32_t own = shunt_own_pid();
	int ret = shunt_check_pid(own);

	if (ret)
		return ret;
	if (!of)
		of = atomic_load_explicit(&p->pid, memory_order_relaxed);
	if (of == own)
		return 0;
	if (of && atomic_load_explicit(&shunt_process_is_wiped, memory_order_relaxed))
		return 1;
	return shunt_parent_in_memory() != 0;
}

bool shunt_is_in_others_memory(void)
{
	const char *earlier = shunt_failed_call;
	bool is = shunt_look_whose_memory() == 1;

	shunt_failed_call = earlier;
	return is;
}

bool shunt_holds_trace_lock(void)
{
	/* Without a page nobody has taken one. */
	struct shunt_process *p = atomic_load_explicit(&shunt_process_page, memory_order_acquire);
	uint32_t of_calls, of_sets, tid;

	if (!p)
		return false;
	of_calls = atomic_load_explicit(&p->calls_lock, memory_order_relaxed) & INT32_MAX;
	of_sets = atomic_load_explicit(&p->sets_lock, memory_order_relaxed) & INT32_MAX;
	if (!of_calls && !of_sets)
		return false; /* without the system call */
	tid = (uint32_t)shunt_own_tid();
	return of_calls == tid || of_sets == tid;
}

bool shunt_is_process_of_memory(void)
{
	int32_t of = shunt_process()->memory_pid;

	return !of || of == shunt_own_pid();
}
