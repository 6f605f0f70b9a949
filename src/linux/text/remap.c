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
 * differ. The comparison and the system call are one restartable sequence (remap.S): a
 * debugger that stops this thread to write has the comparison repeated. What is left is
 * the moment in which mremap() waits for the kernel's lock, and somebody who writes
 * without stopping this thread.
 *
 * A site that crosses from one page to the next needs a flush of the TLB that interrupts
 * the CPUs: where they are told by a broadcast (AMD's INVLPGB), one could go on with the
 * bytes that it has fetched of the old page and fetch the rest from the new one. That is
 * refused.
 */
#include <errno.h>

#include <shunt/port.h>

#include "linux/base/base.h"
#include "linux/base/syscall.h"
#include "linux/text/mapping.h"
#include "linux/text/page_run.h"
#include "linux/text/remap.h"
#include "linux/text/restart.h"

/* Pages that lie apart no further than this are replaced together with what is between. */
#define GAP (2 * SHUNT_PAGE)

/* Each costs up to two mappings, of which a process has 65,530. */
#define MAX_RUNS 1024

/* How often pages are compared, and copied again, before somebody else is said to be busy. */
#define TRIES 8

/* Guarded by the update lock. */
static struct shunt_page_run runs[MAX_RUNS];
static size_t nr_runs;

static uintptr_t first_page(const struct shunt_write *w)
{
	return (uintptr_t)w->addr & -SHUNT_PAGE;
}

static uintptr_t last_page(const struct shunt_write *w)
{
	return ((uintptr_t)w->addr + w->len - 1) & -SHUNT_PAGE;
}

/* --------------------------------------------------------------- runs of pages */

/* Of the writes, as many as one run has; *end is where its last page ends. */
static size_t length_of_run(const struct shunt_mapping *m, struct shunt_writes w, uintptr_t *end)
{
	uintptr_t last = last_page(shunt_nth_write(w, 0));
	size_t i = 1;

	for (; i < w.n; i++) {
		const struct shunt_write *one = shunt_nth_write(w, i);

		if (first_page(one) > last + SHUNT_PAGE + GAP ||
		    !shunt_in_range(m->range, (uintptr_t)one->addr, one->len))
			break;
		last = last_page(one);
	}
	*end = last + SHUNT_PAGE;
	return i;
}

int shunt_remap_broadcast;

/* Whether this CPU can flush others' TLBs without interrupting them. */
static bool flushes_others(void)
{
	if (!shunt_remap_broadcast)
		shunt_remap_broadcast = shunt_flushes_by_broadcast() ? 1 : -1;
	return shunt_remap_broadcast > 0;
}

static int check(struct shunt_writes w)
{
	if (!flushes_others())
		return 0;
	for (size_t i = 0; i < w.n; i++)
		if (first_page(shunt_nth_write(w, i)) != last_page(shunt_nth_write(w, i))) {
			shunt_failed_call =
				"a site crosses pages, and this CPU flushes by broadcast";
			return -EOPNOTSUPP;
		}
	return 0;
}

static int make_copy(struct shunt_page_run *run, const struct shunt_mapping *m)
{
	void *copy = shunt_copy_pages(m, run);

	if (shunt_is_map_error(copy))
		return (int)(long)copy;
	run->copy = copy;
	return 0;
}

/* Make copies of all pages that change. */
static int stage(struct shunt_writes w)
{
	while (w.n) {
		const struct shunt_write *one = shunt_nth_write(w, 0);
		struct shunt_page_run *run = &runs[nr_runs];
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
		run->w.n = length_of_run(m, w, &end);
		run->start = first_page(one);
		run->len = end - run->start;
		run->sites = shunt_sum_of_sites(run->w);
		run->anonymous = false;
		run->prot_cpu = 0;
		ret = make_copy(run, m);
		if (ret)
			return ret;
		nr_runs++;
		w.first += run->w.n * w.stride;
		w.n -= run->w.n;
	}
	return 0;
}

/*
 * Whoever unmaps or moves the copy takes it out of the run first: a copy of the process,
 * made by a raw clone() of another thread in between, drops what it finds there, and by
 * then something else may be mapped at that address. At worst it keeps some pages.
 */
static void *detach_copy(struct shunt_page_run *run)
{
	void *copy = run->copy;

	run->copy = NULL;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	return copy;
}

static void drop(struct shunt_page_run *run)
{
	void *copy = detach_copy(run);

	if (copy)
		(void)shunt_syscall(SYS_munmap, (long)copy, (long)run->len, 0, 0);
}

static void drop_all(void)
{
	for (size_t i = 0; i < nr_runs; i++)
		drop(&runs[i]);
	nr_runs = 0;
}

static int copy_again(struct shunt_page_run *run)
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

/* ---------------------------------------------------- moving a copy into place */

/* mremap(), unless this thread has been stopped since @begun was written. */
static long move_in_place(struct shunt_page_run *run, const uint64_t *begun)
{
	void *copy = detach_copy(run);
	long ret = shunt_remap_move(copy, run->len, run->start, begun);

	if (ret == (long)run->start)
		return 0;
	run->copy = copy;
	if (ret == SHUNT_REMAP_DISTURBED)
		return ret;
	shunt_failed_call = "mremap(text)";
	return ret < 0 ? ret : -EIO; /* a filter says that it was done */
}

/* The copy is not the text as it stands. */
#define STALE 2

/*
 * Whether the pages still may be replaced, with the kernel asked. STALE where it takes another
 * copy: one of no file, or with the CPU's own protection.
 */
static int check_run(struct shunt_page_run *run)
{
	const struct shunt_mapping *m;
	bool anonymous = false;
	int prot_cpu = 0, ret = shunt_mapping_find(run->start, run->len, &m);

	if (!ret)
		ret = shunt_mapping_check(m, run->start, run->len, &anonymous, &prot_cpu);
	if (ret || (anonymous == run->anonymous && prot_cpu == run->prot_cpu))
		return ret;
	run->anonymous = anonymous;
	run->prot_cpu = prot_cpu;
	return STALE;
}

static long compare_and_move(struct shunt_page_run *run, const uint64_t *begun)
{
	if (shunt_sum_of_sites(run->w) != run->sites)
		return busy("mremap(text): somebody else has written to the site");
	return shunt_is_true_copy(run) ? move_in_place(run, begun) : STALE;
}

/* One try, in which this thread must not be stopped. */
static long replace_once(struct shunt_page_run *run, uint64_t *begun)
{
	long ret = check_run(run);

	if (ret)
		return ret;
	__atomic_store_n(begun, (uintptr_t)shunt_remap_sequence, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	ret = compare_and_move(run, begun);
	__atomic_store_n(begun, 0, __ATOMIC_RELAXED);
	return ret;
}

static int replace_pages(struct shunt_page_run *run)
{
	for (unsigned tries = 1; tries <= TRIES; tries++) {
		/* A long comparison is too likely to be preempted: once is enough. */
		long ret = replace_once(
			run, shunt_begun(tries < (run->len < SHUNT_BIG_RUN ? TRIES : 2)));

		if (ret == STALE)
			ret = copy_again(run);
		else if (ret == SHUNT_REMAP_DISTURBED)
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
	struct shunt_writes w = {(const char *)writes, n, stride};
	int ret;

	drop_all(); /* what a copy of a process finds of its parent's */
	ret = check(w);
	if (!ret)
		ret = stage(w);
	for (size_t i = 0; i < nr_runs && !ret; i++)
		ret = replace_pages(&runs[i]);
	drop_all();
	shunt_clean_text(writes, n, stride);
	shunt_mappings_done();
	return ret;
}
