/* SPDX-License-Identifier: MIT */
/*
 * What is mapped at an address. A program may at any time map something else there, or give
 * it another protection, so it is asked of the kernel, as late as can be:
 *
 *   PROCMAP_QUERY  an ioctl() of /proc/self/maps since Linux 6.11
 *   reading it     which takes far longer (proc_maps.c)
 *   by trial       where neither is to be had: by what system calls say to an address
 *
 * -EFAULT is that nothing is there; where that is not known it is another error.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "linux/base/alone.h"
#include "linux/base/base.h"
#include "linux/base/pkeys.h"
#include "linux/base/syscall.h"
#include "linux/base/valgrind.h"
#include "linux/text/area.h"
#include "linux/text/proc_maps.h"

#define PAGE SHUNT_PAGE_SIZE

/* ------------------------------------------------------------- PROCMAP_QUERY */

/* struct procmap_query of <linux/fs.h>, Linux 6.11, which headers may lack. */
struct query {
	uint64_t size, flags, addr;
	uint64_t start, end, vma_flags, page_size, offset, ino;
	uint32_t major, minor, name_size, build_id_size;
	uint64_t name, build_id;
};

#define QUERY          _IOWR('f', 17, struct query)
#define QUERY_READABLE 1
#define QUERY_WRITABLE 2
#define QUERY_EXEC     4
#define QUERY_SHARED   8

static int by_query(int fd, uintptr_t addr, struct shunt_area *area)
{
	struct query q = {.size = sizeof(q), .addr = addr};
	long ret = shunt_syscall(SYS_ioctl, fd, (long)QUERY, (long)&q, 0);

	if (!ret && !shunt_in_range((struct shunt_range){q.start, q.end}, addr, 1))
		ret = -ENOTTY; /* a filter says that it was answered */
	if (ret)
		return (int)ret;
	*area = (struct shunt_area){
		.range = {q.start, q.end},
		.offset = q.offset,
		.ino = q.ino,
		.major = q.major,
		.minor = q.minor,
		.prot = (q.vma_flags & QUERY_READABLE ? PROT_READ : 0) |
			(q.vma_flags & QUERY_WRITABLE ? PROT_WRITE : 0) |
			(q.vma_flags & QUERY_EXEC ? PROT_EXEC : 0),
		.is_private = !(q.vma_flags & QUERY_SHARED),
		.is_listed = true,
	};
	return 0;
}

/* ---------------------------------------------- by system calls that try it */

/* An atomic "or" of nothing, which the kernel refuses where this thread may not write. */
static bool is_writable(uintptr_t addr)
{
	static uint32_t nobody_waits;

	return shunt_syscall6(SYS_futex, (long)&nobody_waits, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 1,
			      0, (long)(addr & -4ul),
			      FUTEX_OP(FUTEX_OP_OR, 0, FUTEX_OP_CMP_EQ, 0)) >= 0;
}

/*
 * mremap() of no bytes maps shared memory once more, and refuses private memory. *shared is
 * unknown where mremap() itself is refused.
 */
static int find_sharing(uintptr_t page, bool *shared)
{
	long p = shunt_syscall(SYS_mremap, (long)page, 0, (long)PAGE, MREMAP_MAYMOVE);

	*shared = p >= 0 || p < -4095;
	if (*shared)
		(void)shunt_syscall(SYS_munmap, p, (long)PAGE, 0, 0);
	return *shared || p == -EINVAL ? 0 : (int)p;
}

static int by_trial(uintptr_t addr, struct shunt_area *area)
{
	uintptr_t page = addr & -PAGE;
	bool shared;

	if (!shunt_area_is_readable(addr) || find_sharing(page, &shared))
		return -EFAULT;
	*area = (struct shunt_area){
		.range = {page, page + PAGE},
		.prot = PROT_READ | PROT_EXEC | (!shared && is_writable(addr) ? PROT_WRITE : 0),
		.is_private = !shared,
	};
	return 0;
}

static int by_reading(uintptr_t addr, struct shunt_area *area)
{
	static struct shunt_maps_line line; /* update lock */
	int ret = shunt_maps_find(addr, &line);

	if (ret)
		return ret;
	*area = (struct shunt_area){line.range, line.offset, line.ino,        line.major,
				    line.minor, line.prot,   line.is_private, true};
	return 0;
}

/* By what of /proc/self/maps there is. */
static int by_maps(uintptr_t addr, struct shunt_area *area)
{
	static bool no_query; /* update lock */
	int fd = shunt_process()->maps_fd - 1, ret;

	/* What else may have got the number by now does not know the question. */
	if (fd >= 0 && !no_query && !by_query(fd, addr, area))
		return 0;
	fd = shunt_maps_open();
	if (fd < 0)
		return fd == -EFAULT ? -EPERM : fd; /* what a filter says to open() */
	ret = no_query ? -ENOTTY : by_query(fd, addr, area);
	if (!ret)
		return 0;
	/* Or a filter says so. */
	if (ret == -ENOENT && !shunt_area_is_readable(addr))
		return -EFAULT;
	no_query = true;
	return by_reading(addr, area);
}

int shunt_area_find(uintptr_t addr, struct shunt_area *area)
{
	const char *earlier = shunt_failed_call;
	int ret = by_maps(addr, area);

	if (ret && ret != -EFAULT) {
		const char *call = shunt_failed_call;

		if (by_trial(addr, area)) {
			shunt_failed_call = call;
			return ret;
		}
		ret = 0;
	}
	shunt_failed_call = ret ? "no mapping is there" : earlier;
	return ret ? -EFAULT : 0;
}

int shunt_area_is_writable(uintptr_t addr)
{
	struct shunt_area area;
	int ret = shunt_area_find(addr, &area);

	return ret ? ret : (area.prot & PROT_WRITE) != 0;
}

/* ------------------------------------------------------------------- probes */

/* A signal mask that is read, and of which nothing is done. */
#define NO_SUCH_HOW (-1)

bool shunt_area_is_readable(uintptr_t addr)
{
	/* valgrind reads the mask itself; and at 0 the kernel takes it that there is none. */
	return shunt_is_translated() || shunt_is_readable((addr & -8ul) | 8);
}

#define POPULATE_READ 22 /* MADV_POPULATE_READ, Linux 5.14, which headers may lack */

/* From how many pages on one call for all is cheaper, the look at filters included. */
#define MANY_PAGES 6

/* Whether all pages can be read, as if they were; false: it is not known. A filter may kill for it.
 */
static bool can_populate(uintptr_t page, size_t len)
{
	return len >= MANY_PAGES * PAGE && !shunt_is_filtered() &&
	       !shunt_syscall(SYS_madvise, (long)page, (long)len, POPULATE_READ, 0);
}

bool shunt_area_are_readable(uintptr_t addr, size_t len)
{
	uintptr_t end = addr + len, page = addr & -PAGE;

	if (end < addr) /* the last page of the address space is never a process's */
		return false;
	if (shunt_is_translated() || can_populate(page, end - page))
		return true;
	for (; addr < end; addr = (addr & -PAGE) + PAGE)
		if (!shunt_area_is_readable(addr))
			return false;
	return true;
}

bool shunt_area_has_key(uintptr_t addr)
{
	return shunt_uses_keys() && shunt_read_by_key_0(addr, NO_SUCH_HOW) == -EFAULT;
}

uint32_t shunt_area_open_keys(void)
{
	uint32_t rights = shunt_uses_keys() ? shunt_get_rights() : 0;

	if (rights)
		shunt_set_rights(0);
	return rights;
}

void shunt_area_close_keys(uint32_t rights)
{
	if (rights)
		shunt_set_rights(rights);
}
