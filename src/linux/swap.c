/* SPDX-License-Identifier: MIT */
/*
 * SHUNT_WAY_SWAP: new pages for old ones. The same range of the same file is mapped once
 * more, filled with a copy of the text that has the changes in it, and moved over the
 * original by mremap(). A thread that fetches from there in between waits in its
 * page fault for the kernel's lock of the address space, and then finds the new page.
 * So no thread ever traps, whatever its signal mask, its stack or its debugger; no page
 * is writable and executable at once; and the mapping stays the file's.
 *
 * Text of no file, as a JIT makes it, is replaced by memory of no file in the same way.
 *
 * A site that crosses from one page to the next needs a flush of the TLB that interrupts
 * the CPUs: where they are told by a broadcast (AMD's INVLPGB), one could go on with the
 * bytes that it has fetched of the old page and fetch the rest from the new one. That is
 * refused.
 */
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "linux/linux.h"
#include "linux/mapping.h"
#include "linux/syscall.h"

#define PAGE ((uintptr_t)4096)

/* Pages that lie apart no further than this are replaced together with what is between. */
#define GAP (2 * PAGE)

/* From here on a copy is filled by the page fault and memcpy() rather than by a write. */
#define BIG (16 * PAGE)

/* Each costs up to two mappings, of which a process has 65,530. */
#define MAX_RUNS 1024

/* Pages next to each other that are replaced by one mremap(). */
struct run {
	uintptr_t start;
	size_t len;
	void *copy;
};

/* Guarded by the update lock. */
static struct run runs[MAX_RUNS];
static size_t nr_runs;

/* Writes that lie @stride bytes apart. */
struct writes {
	const char *at;
	size_t n, stride;
};

static const struct shunt_write *nth(struct writes w, size_t i)
{
	return (const struct shunt_write *)(w.at + i * w.stride);
}

static uintptr_t first_page(const struct shunt_write *w)
{
	return (uintptr_t)w->addr & -PAGE;
}

static uintptr_t last_page(const struct shunt_write *w)
{
	return ((uintptr_t)w->addr + w->len - 1) & -PAGE;
}

/* -------------------------------------------------------------------- the copy */

/*
 * Text [start, start + len) as it stands, into @to, with those of the writes that are
 * in it, as far as they are. *next is the first that may be; it is moved on to the
 * first that is not wholly before the end.
 */
static void compose(uint8_t *to, uintptr_t start, size_t len, struct writes w, size_t *next)
{
	size_t i = *next;

	shunt_copy_text(to, (const void *)start, len);
	for (; i < w.n; i++) {
		const struct shunt_write *one = nth(w, i);
		uintptr_t off = (uintptr_t)one->addr - start;

		if (off < len && one->len <= len - off) {
			memcpy(to + off, one->bytes, one->len);
			continue;
		}
		for (size_t b = 0; b < one->len; b++)
			if (off + b < len)
				to[off + b] = one->bytes[b];
		if ((uintptr_t)one->addr + one->len > start + len)
			break;
	}
	*next = i;
}

static void *map(const struct shunt_mapping *m, uintptr_t start, size_t len, int prot, int flags)
{
	long off = (long)(m->offset + (start - m->range.start));
	long p;

	if (m->fd < 0)
		p = shunt_syscall6(SYS_mmap, 0, (long)len, prot,
				   MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
	else
		p = shunt_syscall6(SYS_mmap, 0, (long)len, prot, MAP_PRIVATE | flags, m->fd, off);
	if (p < 0 && p > -4096)
		shunt_failed_call = "mmap(a copy of text)";
	return (void *)p;
}

static bool is_error(const void *p)
{
	return (uintptr_t)p > -4096ul;
}

/* Executable from the start, and written past its protection: no mprotect() needed. */
static void *copy_by_write(const struct shunt_mapping *m, uintptr_t start, size_t len,
			   struct writes w)
{
	static uint8_t buf[BIG]; /* update lock */
	void *p = map(m, start, len, m->prot, 0);
	size_t next = 0;
	int ret = 0;

	for (size_t off = 0; !is_error(p) && off < len && !ret; off += sizeof(buf)) {
		size_t part = len - off < sizeof(buf) ? len - off : sizeof(buf);

		compose(buf, start + off, part, w, &next);
		ret = shunt_text_write_mem((uint8_t *)p + off, buf, part);
	}
	if (!ret)
		return p;
	(void)shunt_syscall(SYS_munmap, (long)p, (long)len, 0, 0);
	return (void *)(long)ret;
}

/* Writable first, and executable afterwards: no /proc needed. */
static void *copy_by_store(const struct shunt_mapping *m, uintptr_t start, size_t len,
			   struct writes w)
{
	int flags = len >= BIG ? MAP_POPULATE : 0;
	void *p = map(m, start, len, PROT_READ | PROT_WRITE, flags);
	size_t next = 0;
	long ret;

	if (is_error(p))
		return p;
	compose(p, start, len, w, &next);
	ret = shunt_syscall(SYS_mprotect, (long)p, (long)len, m->prot, 0);
	if (!ret)
		return p;
	shunt_failed_call = "mprotect(a copy of text)";
	(void)shunt_syscall(SYS_munmap, (long)p, (long)len, 0, 0);
	return (void *)(long)shunt_closed(ret);
}

/* The cheaper first; the other where that is forbidden (PR_SET_MDWE, no /proc). */
static void *copy_of(const struct shunt_mapping *m, uintptr_t start, size_t len, struct writes w)
{
	bool big = len >= BIG;
	void *p = big ? copy_by_store(m, start, len, w) : copy_by_write(m, start, len, w);

	if (is_error(p))
		p = big ? copy_by_write(m, start, len, w) : copy_by_store(m, start, len, w);
	return p;
}

/* -------------------------------------------------------------------- the runs */

/* Of the writes, as many as one run has; *end is where its last page ends. */
static size_t run_of(const struct shunt_mapping *m, struct writes w, uintptr_t *end)
{
	uintptr_t last = last_page(nth(w, 0));
	size_t i = 1;

	for (; i < w.n; i++) {
		const struct shunt_write *one = nth(w, i);

		if (first_page(one) > last + PAGE + GAP ||
		    !shunt_in_range(m->range, (uintptr_t)one->addr, one->len))
			break;
		last = last_page(one);
	}
	*end = last + PAGE;
	return i;
}

/* Whether this CPU can flush others' TLBs without interrupting them. */
static bool flushes_by_broadcast(void)
{
	static int known; /* update lock; 0: not asked yet, 1: no, 2: yes */
	unsigned eax, ebx = 0, ecx, edx;

	if (!known)
		known = __get_cpuid(0x80000008, &eax, &ebx, &ecx, &edx) && ebx >> 3 & 1 ? 2 : 1;
	return known == 2;
}

static int check(struct writes w)
{
	if (!flushes_by_broadcast())
		return 0;
	for (size_t i = 0; i < w.n; i++)
		if (first_page(nth(w, i)) != last_page(nth(w, i))) {
			shunt_failed_call =
				"a site crosses pages, and this CPU flushes by broadcast";
			return -EOPNOTSUPP;
		}
	return 0;
}

/* Make copies of all pages that change. */
static int stage(struct writes w)
{
	while (w.n) {
		const struct shunt_write *one = nth(w, 0);
		struct run *run = &runs[nr_runs];
		const struct shunt_mapping *m;
		struct writes part = w;
		uintptr_t end;
		int ret = shunt_mapping_find((uintptr_t)one->addr, one->len, &m);

		if (ret)
			return ret;
		if (nr_runs == MAX_RUNS) {
			shunt_failed_call = "no more than 1024 runs of pages at a time";
			return -E2BIG;
		}
		part.n = run_of(m, w, &end);
		run->start = first_page(one);
		run->len = end - run->start;
		run->copy = copy_of(m, run->start, run->len, part);
		if (is_error(run->copy))
			return (int)(long)run->copy;
		nr_runs++;
		w.at += part.n * w.stride;
		w.n -= part.n;
	}
	return 0;
}

static int swap(struct run *run)
{
	long ret = shunt_syscall6(SYS_mremap, (long)run->copy, (long)run->len, (long)run->len,
				  MREMAP_MAYMOVE | MREMAP_FIXED, (long)run->start, 0);

	if (ret == (long)run->start) {
		run->copy = NULL;
		return 0;
	}
	shunt_failed_call = "mremap(text)";
	return (int)ret;
}

static void drop(void)
{
	for (size_t i = 0; i < nr_runs; i++)
		if (runs[i].copy)
			(void)shunt_syscall(SYS_munmap, (long)runs[i].copy, (long)runs[i].len, 0,
					    0);
	nr_runs = 0;
}

int shunt_port_text_swap(const struct shunt_write *writes, size_t n, size_t stride)
{
	struct writes w = {(const char *)writes, n, stride};
	int ret;

	drop(); /* what a copy of a process finds of its parent's */
	ret = check(w);
	if (!ret)
		ret = stage(w);
	for (size_t i = 0; i < nr_runs && !ret; i++)
		ret = swap(&runs[i]);
	drop();
	shunt_mappings_done();
	return ret;
}
