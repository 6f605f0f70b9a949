/* SPDX-License-Identifier: MIT */
/*
 * SHUNT_WAY_REMAP: new pages for old ones. The same range of the same file is mapped once
 * more, filled with a copy of the text that has the changes in it, and moved over the
 * original by mremap(). A thread that fetches from there in between waits in its
 * page fault for the kernel's lock of the address space, and then finds the new page.
 * So no thread ever traps, whatever its signal mask, its stack or its debugger; no page
 * is writable and executable at once; and the mapping stays the file's.
 *
 * Only text is replaced that is, as the kernel says just before, as it was found: private, not
 * writable, without a protection key (shunt_mapping_check()). The new pages would not have
 * what a program has chosen for its own, and would lose what it writes there meanwhile.
 * Text of no file, as a JIT makes it, is not replaced; but a module's, which has been moved
 * to huge pages, say, is, by memory of no file.
 *
 * What a debugger, say, writes into a page between our copy and mremap() would be lost with
 * the old page. So the two are compared just before, and the copy is made again if they
 * differ. The comparison and the system call are one restartable sequence (swap.S): a
 * debugger that stops this thread to write has the comparison repeated. What is left is
 * the moment in which mremap() waits for the kernel's lock, and somebody who writes
 * without stopping this thread.
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

#include <shunt/port.h>

#include "linux/base/base.h"
#include "linux/base/syscall.h"
#include "linux/text/area.h"
#include "linux/text/mapping.h"
#include "linux/text/swap.h"
#include "linux/text/text.h"

#define PAGE ((uintptr_t)4096)

/* Pages that lie apart no further than this are replaced together with what is between. */
#define GAP (2 * PAGE)

/* From here on a copy is filled by the page fault and memcpy() rather than by a write. */
#define BIG (16 * PAGE)

/* Each costs up to two mappings, of which a process has 65,530. */
#define MAX_RUNS 1024

/* How often pages are compared, and copied again, before somebody else is said to be busy. */
#define TRIES 8

/* Writes that lie @stride bytes apart. */
struct writes {
	const char *at;
	size_t n, stride;
};

/* Pages next to each other that are replaced by one mremap(). */
struct run {
	uintptr_t start;
	size_t len;
	void *copy;
	struct writes w; /* what changes in them */
	uint64_t sites;  /* what stood there before, sum_of() */
	bool anonymous;  /* they are of no file */
};

/* Guarded by the update lock. */
static struct run runs[MAX_RUNS];
static size_t nr_runs;

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

static bool is_error(const void *p)
{
	return (uintptr_t)p > -4096ul;
}

/* Of the file, unless the program has given the number to another one at this very moment. */
static void *map_file(const struct shunt_mapping *m, const struct run *run, int prot, int flags)
{
	long off = (long)(m->offset + (run->start - m->range.start));
	long p = shunt_syscall6(SYS_mmap, 0, (long)run->len, prot, MAP_PRIVATE | flags, m->fd, off);

	if (is_error((void *)p) || shunt_mapping_has_file(m))
		return (void *)p;
	(void)shunt_syscall(SYS_munmap, p, (long)run->len, 0, 0);
	return (void *)-EBADF;
}

static void *map(const struct shunt_mapping *m, const struct run *run, int prot, int flags)
{
	void *p;

	if (run->anonymous || m->fd < 0)
		p = (void *)shunt_syscall6(SYS_mmap, 0, (long)run->len, prot,
					   MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
	else
		p = map_file(m, run, prot, flags);
	if (!p)
		p = (void *)(long)-EIO; /* a filter says that it was done */
	if (is_error(p))
		shunt_failed_call = "mmap(a copy of text)";
	return p;
}

/* Executable from the start, and written past its protection: no mprotect() needed. */
static void *copy_by_write(const struct shunt_mapping *m, const struct run *run)
{
	static uint8_t buf[BIG]; /* update lock */
	void *p = map(m, run, m->prot, 0);
	size_t len = run->len;
	size_t next = 0;
	int ret = 0;

	for (size_t off = 0; !is_error(p) && off < len && !ret; off += sizeof(buf)) {
		size_t part = len - off < sizeof(buf) ? len - off : sizeof(buf);

		compose(buf, run->start + off, part, run->w, &next);
		ret = shunt_text_write_mem((uint8_t *)p + off, buf, part);
	}
	if (!ret)
		return p;
	(void)shunt_syscall(SYS_munmap, (long)p, (long)len, 0, 0);
	return (void *)(long)ret;
}

/* Writable first, and executable afterwards: no /proc needed. */
static void *copy_by_store(const struct shunt_mapping *m, const struct run *run)
{
	int flags = run->len >= BIG ? MAP_POPULATE : 0;
	void *p = map(m, run, PROT_READ | PROT_WRITE, flags);
	size_t next = 0;
	long ret;

	if (is_error(p))
		return p;
	compose(p, run->start, run->len, run->w, &next);
	ret = shunt_syscall(SYS_mprotect, (long)p, (long)run->len, m->prot, 0);
	if (!ret && !shunt_area_is_writable((uintptr_t)p))
		return p;
	ret = ret ? ret : -EPERM; /* a filter says that it was done */
	shunt_failed_call = "mprotect(a copy of text)";
	(void)shunt_syscall(SYS_munmap, (long)p, (long)run->len, 0, 0);
	return (void *)(long)shunt_closed(ret);
}

/* The cheaper first; the other where that is forbidden (PR_SET_MDWE, no /proc). */
static void *copy_of(const struct shunt_mapping *m, const struct run *run)
{
	bool big = run->len >= BIG;
	void *p = big ? copy_by_store(m, run) : copy_by_write(m, run);

	if (is_error(p))
		p = big ? copy_by_write(m, run) : copy_by_store(m, run);
	return p;
}

/* ----------------------------------------------------- what others have written */

/*
 * Text is not read by memcmp() and the like: ThreadSanitizer has no writable shadow for it.
 */
#define READS_TEXT __attribute__((no_sanitize("thread")))

typedef uint64_t chunk_t __attribute__((vector_size(16), aligned(1), may_alias));
typedef uint64_t word_t __attribute__((aligned(1), may_alias));
typedef uint32_t half_t __attribute__((aligned(1), may_alias));

/* Up to 16 bytes: the first and the last ones, which may overlap. */
READS_TEXT static inline bool few_differ(const uint8_t *a, const uint8_t *b, size_t len)
{
	const uint8_t *c = a + len, *d = b + len;
	uint8_t rest = 0;

	if (len >= 8)
		return (*(const word_t *)a ^ *(const word_t *)b) |
		       (*(const word_t *)(c - 8) ^ *(const word_t *)(d - 8));
	if (len >= 4)
		return (*(const half_t *)a ^ *(const half_t *)b) |
		       (*(const half_t *)(c - 4) ^ *(const half_t *)(d - 4));
	while (len--)
		rest |= *a++ ^ *b++;
	return rest;
}

READS_TEXT static inline bool differ(const uint8_t *a, const uint8_t *b, size_t len)
{
	chunk_t sum = {0, 0};

	for (; len >= 64; len -= 64, a += 64, b += 64) {
		const chunk_t *x = (const chunk_t *)a, *y = (const chunk_t *)b;

		sum |= (x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3]);
	}
	for (; len > 16; len -= 16, a += 16, b += 16)
		sum |= *(const chunk_t *)a ^ *(const chunk_t *)b;
	return sum[0] | sum[1] | few_differ(a, b, len);
}

/* As a number, whose low bytes are nought. */
READS_TEXT static inline uint64_t bytes_at(const struct shunt_write *one)
{
	unsigned spare = 8u * (8u - one->len) % 64;
	uint64_t bytes = 0;

	if ((uintptr_t)one->addr % PAGE <= PAGE - 8)
		return *(const word_t *)one->addr << spare;
	for (size_t b = one->len; b-- > 0;)
		bytes = bytes << 8 | one->addr[b];
	return bytes << spare;
}

/* Of the bytes at the sites: one that changes, changes it, for each step can be undone. */
READS_TEXT static uint64_t sum_of(struct writes w)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < w.n; i++)
		sum = (sum ^ bytes_at(nth(w, i))) * 0x9e3779b97f4a7c15u;
	return sum;
}

/* Whether the copy is the text as it stands now, but for the sites. */
READS_TEXT static bool is_true_copy(const struct run *run)
{
	const uint8_t *text = (const uint8_t *)run->start, *copy = run->copy;
	size_t at = 0;

	for (size_t i = 0; i < run->w.n; i++) {
		const struct shunt_write *one = nth(run->w, i);
		size_t off = (size_t)(one->addr - text);

		if (off - at <= 16 ? few_differ(text + at, copy + at, off - at)
				   : differ(text + at, copy + at, off - at))
			return false;
		at = off + one->len;
	}
	return !differ(text + at, copy + at, run->len - at);
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

int shunt_swap_broadcast;

/* Whether this CPU can flush others' TLBs without interrupting them. */
static bool flushes_by_broadcast(void)
{
	unsigned eax, ebx = 0, ecx, edx;

	if (!shunt_swap_broadcast)
		shunt_swap_broadcast =
			__get_cpuid(0x80000008, &eax, &ebx, &ecx, &edx) && ebx >> 3 & 1 ? 1 : -1;
	return shunt_swap_broadcast > 0;
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

static int make_copy(struct run *run, const struct shunt_mapping *m)
{
	void *copy = copy_of(m, run);

	if (is_error(copy))
		return (int)(long)copy;
	run->copy = copy;
	return 0;
}

/* Make copies of all pages that change. */
static int stage(struct writes w)
{
	while (w.n) {
		const struct shunt_write *one = nth(w, 0);
		struct run *run = &runs[nr_runs];
		const struct shunt_mapping *m;
		uintptr_t end;
		int ret = shunt_mapping_find((uintptr_t)one->addr, one->len, &m);

		if (ret)
			return ret;
		if (nr_runs == MAX_RUNS) {
			shunt_failed_call = "no more than 1024 runs of pages at a time";
			return -E2BIG;
		}
		run->w = w;
		run->w.n = run_of(m, w, &end);
		run->start = first_page(one);
		run->len = end - run->start;
		run->sites = sum_of(run->w);
		run->anonymous = false;
		ret = make_copy(run, m);
		if (ret)
			return ret;
		nr_runs++;
		w.at += run->w.n * w.stride;
		w.n -= run->w.n;
	}
	return 0;
}

/*
 * Whoever unmaps or moves the copy takes it out of the run first: a copy of the process,
 * made by a raw clone() of another thread in between, drops what it finds there, and by
 * then something else may be mapped at that address. At worst it keeps some pages.
 */
static void *take_copy(struct run *run)
{
	void *copy = run->copy;

	run->copy = NULL;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	return copy;
}

static void drop(struct run *run)
{
	void *copy = take_copy(run);

	if (copy)
		(void)shunt_syscall(SYS_munmap, (long)copy, (long)run->len, 0, 0);
}

static void drop_all(void)
{
	for (size_t i = 0; i < nr_runs; i++)
		drop(&runs[i]);
	nr_runs = 0;
}

static int copy_again(struct run *run)
{
	const struct shunt_mapping *m;
	int ret = shunt_mapping_find(run->start, run->len, &m);

	if (ret)
		return ret;
	drop(run);
	return make_copy(run, m);
}

static int busy(const char *why)
{
	shunt_failed_call = why;
	return -EBUSY;
}

/* -------------------------------------------------------------------- the swap */

extern const ptrdiff_t __rseq_offset __attribute__((weak)); /* glibc 2.35 */
extern const unsigned int __rseq_size __attribute__((weak));

/*
 * Where this thread says in which restartable sequence it is. The kernel clears it when it
 * stops the thread elsewhere. Where that is not to be had, a word that nobody clears.
 */
static uint64_t *sequence(bool can_restart)
{
	static uint64_t nobodys; /* update lock */
	char *thread;

	if (!can_restart || !&__rseq_size || !&__rseq_offset || !__rseq_size)
		return &nobodys;
	__asm__("mov %%fs:0, %0" : "=r"(thread));
	return (uint64_t *)(thread + __rseq_offset + 8); /* struct rseq, rseq_cs */
}

/* mremap(), unless this thread has been stopped since @begun was written. */
static long put_in_place(struct run *run, const uint64_t *begun)
{
	void *copy = take_copy(run);
	long ret = shunt_swap_move(copy, run->len, run->start, begun);

	if (ret == (long)run->start)
		return 0;
	run->copy = copy;
	if (ret == SHUNT_SWAP_DISTURBED)
		return ret;
	shunt_failed_call = "mremap(text)";
	return ret < 0 ? ret : -EIO; /* a filter says that it was done */
}

/* The copy is not the text as it stands. */
#define STALE 2

/*
 * Whether the pages still may be replaced, with the kernel asked. STALE where it takes another
 * copy: one of no file.
 */
static int check_run(struct run *run)
{
	const struct shunt_mapping *m;
	bool anonymous = false;
	int ret = shunt_mapping_find(run->start, run->len, &m);

	if (!ret)
		ret = shunt_mapping_check(m, run->start, run->len, &anonymous);
	if (ret || anonymous == run->anonymous)
		return ret;
	run->anonymous = anonymous;
	return STALE;
}

static long compare_and_move(struct run *run, const uint64_t *begun)
{
	if (sum_of(run->w) != run->sites)
		return busy("mremap(text): somebody else has written to the site");
	return is_true_copy(run) ? put_in_place(run, begun) : STALE;
}

/* One try, in which this thread must not be stopped. */
static long swap_once(struct run *run, uint64_t *begun)
{
	long ret = check_run(run);

	if (ret)
		return ret;
	__atomic_store_n(begun, (uintptr_t)shunt_swap_sequence, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	ret = compare_and_move(run, begun);
	/* The kernel reads it at any time, and libshunt may be unloaded. */
	__atomic_store_n(begun, 0, __ATOMIC_RELAXED);
	return ret;
}

static int swap(struct run *run)
{
	for (unsigned tries = 1; tries <= TRIES; tries++) {
		/* A long comparison is too likely to be preempted: once is enough. */
		long ret = swap_once(run, sequence(tries < (run->len < BIG ? TRIES : 2)));

		if (ret == STALE)
			ret = copy_again(run);
		else if (ret == SHUNT_SWAP_DISTURBED)
			ret = 0;
		else
			return (int)ret;
		if (ret)
			return (int)ret;
	}
	return busy("mremap(text): somebody else goes on writing beside the site");
}

int shunt_port_text_remap(const struct shunt_write *writes, size_t n, size_t stride)
{
	struct writes w = {(const char *)writes, n, stride};
	int ret;

	drop_all(); /* what a copy of a process finds of its parent's */
	ret = check(w);
	if (!ret)
		ret = stage(w);
	for (size_t i = 0; i < nr_runs && !ret; i++)
		ret = swap(&runs[i]);
	drop_all();
	shunt_mappings_done();
	return ret;
}
