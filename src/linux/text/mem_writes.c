/* SPDX-License-Identifier: MIT */
/*
 * Writes of text through /proc/self/mem (mem_writes.h): of few sites not a byte more than changes,
 * of many whole runs of pages; and nothing over what others have written meanwhile.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "linux/base/base.h"
#include "linux/text/area.h"
#include "linux/text/mapping.h"
#include "linux/text/mem_writes.h"
#include "linux/text/proc_mem.h"
#include "linux/text/restart.h"
#include "linux/text/text.h"

/* ------------------------------------------------------------------------- runs */

/*
 * A run begins where the page of its first write does: the kernel writes pages' worth from there
 * on, each of which would lie on two pages.
 */
static const uint8_t *start_of_run(const struct shunt_write *w)
{
	return w->addr - (uintptr_t)w->addr % 4096;
}

/*
 * Of writes[0] and its successors, as many as go into one run: each on the page
 * of the one before or on the next, so that all bytes between them are text of
 * the same module, and all of it in a buffer of @max bytes.
 */
static size_t length_of_run(const struct shunt_write *w, size_t n, size_t max)
{
	const uint8_t *start = start_of_run(w);
	uintptr_t page = shunt_text_page(w[0].addr);
	size_t i = 1;

	for (; i < n && shunt_text_page(w[i].addr) - page <= 1 &&
	       (size_t)(w[i].addr + w[i].len - start) <= max;
	     i++)
		page = shunt_text_page(w[i].addr);
	return i;
}

/* Put a write into the buffer; most are an int3 or a displacement. */
static void patch(uint8_t *at, const struct shunt_write *w)
{
	if (w->len == 1)
		*at = w->bytes[0];
	else if (w->len == 4)
		memcpy(at, w->bytes, 4);
	else
		for (size_t i = 0; i < w->len; i++)
			at[i] = w->bytes[i];
}

/* Whether what is between the sites of [addr, addr + len) may be written too, by what is there now.
 */
static bool is_plain_text(const uint8_t *addr, size_t len)
{
	struct shunt_area a;
	uintptr_t at = (uintptr_t)addr, end = at + len;

	for (; at < end; at = a.range.end)
		if (shunt_mapping_others_write(at) || shunt_area_find(at, &a) || !a.is_private ||
		    a.prot & PROT_WRITE || !a.is_listed || !a.ino || shunt_area_has_key(at))
			return false;
	return true;
}

/* ----------------------------------------------------------------------- writes */

/*
 * How often a write is begun anew because this thread was stopped, or without a CPU, between the
 * look at what stands there and the write: then others may have written.
 */
#define RESTARTS 16

static uint64_t *begin_look(unsigned tries)
{
	uint64_t *begun = shunt_begun(tries < RESTARTS);

	__atomic_store_n(begun, (uintptr_t)shunt_write_sequence, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	return begun;
}

static int write_undisturbed(const uint8_t *addr, const void *bytes, size_t len, uint64_t *begun)
{
	int ret = shunt_proc_mem_write_undisturbed(addr, bytes, len, begun);

	__atomic_store_n(begun, 0, __ATOMIC_RELAXED);
	return ret;
}

static int busy(void)
{
	shunt_failed_call = "somebody else has written to the site";
	return -EBUSY;
}

/* A single byte, over @old alone. */
static int write_over(const struct shunt_write *w, uint8_t old)
{
	int ret = SHUNT_WRITE_DISTURBED;

	for (unsigned tries = 0; ret == SHUNT_WRITE_DISTURBED; tries++) {
		uint64_t *begun = begin_look(tries);
		uint8_t is = 0;

		shunt_copy_text(&is, w->addr, 1);
		if (is != old) {
			__atomic_store_n(begun, 0, __ATOMIC_RELAXED);
			return is == w->bytes[0] ? 0 : busy();
		}
		ret = write_undisturbed(w->addr, w->bytes, 1, begun);
	}
	return ret;
}

static int write_one(const struct shunt_write *w)
{
	struct shunt_probe p = shunt_proc_mem_probe(w);
	uint8_t old;
	int ret = shunt_write_is_over(w, &old) ? write_over(w, old)
					       : shunt_proc_mem_write(w->addr, w->bytes, w->len);

	return ret ? ret : shunt_proc_mem_check(p);
}

/* A few sites: not a byte more than changes, for others may own those beside them. */
static int write_each(const struct shunt_write *w, size_t n)
{
	int ret = 0, others = 0;

	for (size_t i = 0; i < n && !ret; i++) {
		ret = write_one(&w[i]);
		if (ret == -EBUSY) {
			others = ret;
			ret = 0;
		}
	}
	return ret ? ret : others;
}

/* What of the run can be written, into its copy. The first write of these; NULL: none. */
static const struct shunt_write *patch_all(uint8_t *buf, const uint8_t *start,
					   const struct shunt_write *w, size_t n, int *others)
{
	const struct shunt_write *first = NULL;

	*others = 0;
	for (size_t i = 0; i < n; i++) {
		uint8_t *at = buf + (w[i].addr - start), old;

		if (shunt_write_is_over(&w[i], &old) && *at != old) {
			if (*at != w[i].bytes[0])
				*others = busy();
			continue;
		}
		if (!first)
			first = &w[i];
		patch(at, &w[i]);
	}
	return first;
}

/* The sites w[0] to w[n - 1], in text from @start on that is one run of plain text. */
static int write_run(const uint8_t *start, const struct shunt_write *w, size_t n, uint8_t *buf)
{
	size_t len = (size_t)(w[n - 1].addr + w[n - 1].len - start);
	int ret = SHUNT_WRITE_DISTURBED, others = 0;
	struct shunt_probe p = {NULL, 0};

	for (unsigned tries = 0; ret == SHUNT_WRITE_DISTURBED; tries++) {
		const struct shunt_write *first;
		uint64_t *begun;

		if (tries == RESTARTS)
			return write_each(w, n);
		begun = begin_look(tries);
		shunt_copy_text(buf, start, len);
		first = patch_all(buf, start, w, n, &others);
		if (first)
			p = shunt_proc_mem_probe(first);
		ret = write_undisturbed(start, buf, first ? len : 0, begun);
	}
	if (!ret)
		ret = shunt_proc_mem_check(p);
	return ret ? ret : others;
}

/* Many sites: whole runs, read just before, with what is between the sites. */
static int write_runs(const struct shunt_write *w, size_t n)
{
	static uint8_t buf[1 << 16]; /* update lock */
	int ret = 0, others = 0;

	for (size_t k; n && !ret; w += k, n -= k) {
		const uint8_t *start = start_of_run(w);

		k = length_of_run(w, n, sizeof(buf));
		if (is_plain_text(start, (size_t)(w[k - 1].addr + w[k - 1].len - start)))
			ret = write_run(start, w, k, buf);
		else
			ret = write_each(w, k);
		if (ret == -EBUSY) {
			others = ret;
			ret = 0;
		}
	}
	return ret ? ret : others;
}

int shunt_mem_writes(const struct shunt_write *w, size_t n, bool in_runs)
{
	return in_runs ? write_runs(w, n) : write_each(w, n);
}
