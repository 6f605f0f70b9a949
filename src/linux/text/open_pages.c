/* SPDX-License-Identifier: MIT */
/* Pages of text that are opened for writing by mprotect(), and the stores to them. */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "linux/base/base.h"
#include "linux/text/area.h"
#include "linux/text/area_prot.h"
#include "linux/text/open_pages.h"

static int mprotect_failed(void)
{
	shunt_failed_call = "mprotect";
	return -errno;
}

/* ------------------------------------------------------------ the pages that are open */

/*
 * Ranges of pages that are open for writing: for the length of a batch, so that its
 * three steps and all their writes open each page once.
 */
static struct {
	struct {
		struct shunt_range range;
		int prot; /* before */
	} ranges[32];
	size_t n;
	unsigned closings; /* how often all were closed */
} opened;

static int close_all(void)
{
	int ret = 0;

	for (size_t i = 0; i < opened.n; i++) {
		struct shunt_range r = opened.ranges[i].range;

		if (mprotect((void *)r.start, r.end - r.start, opened.ranges[i].prot))
			ret = mprotect_failed();
	}
	opened.n = 0;
	opened.closings++;
	return ret;
}

static bool is_open(struct shunt_range pages)
{
	/* The last one first: writes come sorted. */
	for (size_t i = opened.n; i-- > 0;)
		if (pages.start >= opened.ranges[i].range.start &&
		    pages.end <= opened.ranges[i].range.end)
			return true;
	return false;
}

bool shunt_pages_has_opened(uintptr_t addr)
{
	return is_open((struct shunt_range){addr, addr + 1});
}

static int open_now(struct shunt_range pages, int prot)
{
	int ret;

	if (mprotect((void *)pages.start, pages.end - pages.start, prot | PROT_WRITE))
		return mprotect_failed();
	ret = shunt_area_is_writable(pages.start);
	if (ret)
		return ret < 0 ? ret : 0;
	shunt_failed_call = "mprotect: the text is as it was";
	return -EPERM; /* a filter says that it was done */
}

/* Open @pages of protection @prot, as part of the range before them if they follow it. */
static int open_alike(struct shunt_range pages, int prot)
{
	size_t n = opened.n;
	int ret = 0;

	if (n == sizeof(opened.ranges) / sizeof(opened.ranges[0]))
		ret = close_all();
	n = opened.n;
	if (ret)
		return ret;
	/* Recorded before it is opened: a copy of the process that is made in between closes it. */
	opened.ranges[n].range = pages;
	opened.ranges[n].prot = prot;
	atomic_signal_fence(memory_order_seq_cst);
	opened.n = n + 1;
	atomic_signal_fence(memory_order_seq_cst);
	ret = open_now(pages, prot);
	if (ret) {
		opened.n = n;
		return ret;
	}
	if (n && opened.ranges[n - 1].prot == prot &&
	    pages.start >= opened.ranges[n - 1].range.start &&
	    pages.start <= opened.ranges[n - 1].range.end) {
		opened.ranges[n - 1].range.end = pages.end;
		opened.n = n;
	}
	return 0;
}

/* Not an error: more pieces of different protection than can be open at a time. */
#define TOO_MANY 1

/* The CPU's own protection where it was asked last: a list of all mappings is read for it. */
static struct {
	struct shunt_range range;
	int prot;
} asked;

/* What @part, which is cut where it ends, has of it: threads run in the pages while they are open.
 */
static int prot_cpu(struct shunt_range *part)
{
	if (!shunt_in_range(asked.range, part->start, 1)) {
		asked.range = (struct shunt_range){0, UINTPTR_MAX};
		asked.prot = shunt_area_prot_cpu(part->start, &asked.range);
	}
	if (part->end > asked.range.end)
		part->end = asked.range.end;
	return asked.prot;
}

/* Each part of @pages as it is; what is writable already stays so. */
static int open_parts(struct shunt_range pages)
{
	struct shunt_area a;
	int ret = 0;

	for (uintptr_t at = pages.start, next; at < pages.end && !ret; at = next) {
		struct shunt_range part = {at, pages.end};

		ret = shunt_area_find(at, &a);
		if (ret)
			break;
		if (!a.is_private) {
			shunt_failed_call = "the mapping is shared";
			return -EACCES;
		}
		if (part.end > a.range.end)
			part.end = a.range.end;
		if (!(a.prot & PROT_WRITE))
			a.prot |= prot_cpu(&part);
		if (!(a.prot & PROT_WRITE) && !is_open(part))
			ret = open_alike(part, a.prot);
		next = part.end;
	}
	return ret;
}

/* Where there was no room for its last parts, its first ones have been closed with the others. */
static int open_pages(struct shunt_range pages)
{
	int ret = 0;

	for (unsigned tries = 0; tries < 2 && !ret; tries++) {
		unsigned before = opened.closings;

		if (is_open(pages))
			return 0;
		ret = open_parts(pages);
		if (!ret && before == opened.closings)
			return 0;
	}
	return ret ? ret : TOO_MANY;
}

/* The pages of writes[0] and of its successors, as long as they are near. */
static struct shunt_range pages_of(const struct shunt_write *w, size_t n)
{
	uintptr_t page = SHUNT_PAGE_SIZE;
	struct shunt_range r = {(uintptr_t)w[0].addr & -page, 0};

	for (size_t i = 0; i < n; i++) {
		uintptr_t start = (uintptr_t)w[i].addr & -page;

		if (i && start > r.end)
			break; /* what lies between may not be text */
		r.end = (((uintptr_t)w[i].addr + w[i].len - 1) & -page) + page;
	}
	return r;
}

/* The pages of writes[0], and of as many behind it as can be open with it, are in @r then. */
static int open_for(const struct shunt_write *w, size_t n, struct shunt_range *r)
{
	int ret;

	*r = pages_of(w, n);
	ret = open_pages(*r);
	if (ret != TOO_MANY)
		return ret;
	*r = pages_of(w, 1); /* two at most */
	ret = open_pages(*r);
	return ret > 0 ? -E2BIG : ret;
}

/* ------------------------------------------------------------------------- the stores */

/* An aligned word of text. */
typedef uint64_t __attribute__((may_alias)) text_word_t;
typedef uint32_t __attribute__((may_alias)) text_word32_t;

/*
 * With @whole in one store, where the write lies in an aligned word: the word as it is, with the
 * bytes in it. Else only the bytes of the site, four in their own aligned word by one store, too.
 * ThreadSanitizer keeps the shadow of text read-only: a store that it sees faults.
 */
__attribute__((noinline, no_sanitize("thread"))) static void store(const struct shunt_write *w,
								   bool whole)
{
	unsigned at = (unsigned)(uintptr_t)w->addr % 8;
	text_word_t *word = (text_word_t *)(w->addr - at);
	uint32_t four;

	if (w->len == sizeof(four) && at % sizeof(four) == 0) {
		memcpy(&four, w->bytes, sizeof(four));
		__atomic_store_n((text_word32_t *)w->addr, four, __ATOMIC_RELAXED);
		return;
	}
	if (whole && at + w->len <= 8) {
		text_word_t value = *word;

		for (size_t i = 0; i < w->len; i++)
			((volatile uint8_t *)&value)[at + i] = w->bytes[i];
		__atomic_store_n(word, value, __ATOMIC_RELAXED);
		return;
	}
	for (size_t i = 0; i < w->len; i++)
		((volatile uint8_t *)w->addr)[i] = w->bytes[i];
}

/* A single byte, over @old alone. False: another one stands there. */
__attribute__((noinline, no_sanitize("thread"))) static bool store_over(const struct shunt_write *w,
									uint8_t old)
{
	return __atomic_compare_exchange_n(w->addr, &old, w->bytes[0], false, __ATOMIC_RELAXED,
					   __ATOMIC_RELAXED) ||
	       old == w->bytes[0];
}

/* 0 or -EBUSY */
static int put(const struct shunt_write *w, bool whole_words)
{
	uint8_t old;

	if (!shunt_write_is_over(w, &old)) {
		store(w, whole_words);
		return 0;
	}
	if (store_over(w, old))
		return 0;
	shunt_failed_call = "somebody else has written to the site";
	return -EBUSY;
}

int shunt_pages_write(const struct shunt_write *w, size_t n, bool whole_words)
{
	struct shunt_range r = {0, 0};
	int saved = errno, ret = 0, others = 0;
	uint32_t rights = shunt_area_open_keys();

	for (size_t i = 0; i < n && !ret; i++) {
		if (!shunt_in_range(r, (uintptr_t)w[i].addr, w[i].len))
			ret = open_for(w + i, n - i, &r);
		if (!ret && put(&w[i], whole_words))
			others = -EBUSY;
	}
	shunt_area_close_keys(rights);
	errno = saved;
	return ret ? ret : others;
}

int shunt_pages_close(void)
{
	int saved = errno, ret = close_all();

	asked.range = (struct shunt_range){0, 0};
	errno = saved;
	return ret;
}
