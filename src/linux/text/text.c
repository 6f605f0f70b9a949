/* SPDX-License-Identifier: MIT */
/*
 * Writing text. Text is a private mapping of a file, so a write makes a copy of
 * the page that is this process's own; it is never remapped as shared, or a child
 * would patch its parent. Two writers:
 *
 *   mem       pwrite() to /proc/self/mem (proc_mem.c), which goes past the page's protection:
 *             no page is ever writable and executable at once
 *   mprotect  the page is opened for writing (open_pages.c), and stays executable meanwhile,
 *             because other threads run in it: only where the user asks for it
 *             (SHUNT_WRITE=mprotect) or where the first is closed
 *
 * The writer is found by using it: a write that fails is made again by the other; where it fails
 * for want of permission, all later ones are, too. Writing bytes twice does no harm.
 *
 * What is not text of a file, private and not writable, is written byte by byte: the program
 * may write beside the sites. Its protection is read before it is opened, and put back.
 * Shared memory is not written at all: another process may run it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <shunt/port.h>

#include "linux/base/base.h"
#include "linux/base/descriptor.h"
#include "linux/base/environment.h"
#include "linux/base/syscall.h"
#include "linux/base/valgrind.h"
#include "linux/text/area.h"
#include "linux/text/mapping.h"
#include "linux/text/open_pages.h"
#include "linux/text/proc_maps.h"
#include "linux/text/proc_mem.h"
#include "linux/text/restart.h"
#include "linux/text/text.h"

enum writer { UNKNOWN, MEM, MPROTECT };

/* Guarded by the update lock. */
static struct {
	enum writer writer;
	bool forced; /* SHUNT_WRITE names the writer: no other is tried */
	/* Of the last write that went well; read without the lock, for display. */
	_Atomic(enum writer) last;
	bool in_batch;  /* between shunt_text_begin() and shunt_text_end() */
	bool may_remap; /* this batch can go by other pages, where the writer is closed */
	bool in_runs;   /* this batch is written in runs of pages */
	bool ask_first; /* the same, if there is no tracer: asked before the first write */
	bool stores;    /* this batch is written by single stores */
} state;

/* Whether a debugger is attached: then bytes between sites may change under us. */
static bool is_traced(void)
{
	char status[4096];
	const char *line;
	int fd = shunt_fd_open("/proc/self/status", O_RDONLY);
	long n;

	if (fd < 0)
		return true; /* not known */
	n = shunt_syscall(SYS_read, fd, (long)status, sizeof(status) - 1, 0);
	shunt_fd_close(fd);
	if (n <= 0)
		return true;
	status[n] = '\0';
	line = strstr(status, "TracerPid:");
	return !line || strtol(line + strlen("TracerPid:"), NULL, 10) != 0;
}

/* From how many sites on runs of pages are cheaper, the look at the tracer included. */
#define MANY_SITES 64

void shunt_text_begin(size_t n, enum shunt_way way, bool may_run)
{
	state.stores = way == SHUNT_WAY_ATOMIC;
	state.may_remap = way == SHUNT_WAY_REMAP || way == SHUNT_WAY_FLIP;
	may_run = may_run && n >= MANY_SITES;
	state.ask_first = may_run && way == SHUNT_WAY_REMAP; /* few have any write */
	state.in_runs =
		may_run && way != SHUNT_WAY_ATOMIC && way != SHUNT_WAY_REMAP && !is_traced();
	state.in_batch = true;
}

static uintptr_t page_of(const uint8_t *addr)
{
	return (uintptr_t)addr / 4096;
}

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
	uintptr_t page = page_of(w[0].addr);
	size_t i = 1;

	for (; i < n && page_of(w[i].addr) - page <= 1 &&
	       (size_t)(w[i].addr + w[i].len - start) <= max;
	     i++)
		page = page_of(w[i].addr);
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

/* -------------------------------------------------- what is mapped at the sites */

/* What is mapped at the last site that was looked at; good until the end of the batch. */
static struct shunt_area area;

static int refuse_area(int error, const char *why)
{
	area.range = (struct shunt_range){0, 0};
	shunt_failed_call = why;
	return error;
}

static int check_mapping(uintptr_t addr)
{
	int ret;

	if (state.in_batch && shunt_in_range(area.range, addr, 1))
		return 0;
	area.range = (struct shunt_range){0, 0};
	ret = shunt_area_find(addr, &area);
	if (ret)
		return ret;
	if (!area.is_private)
		return refuse_area(-EACCES, "the mapping is shared");
	/* The kernel may have put ours where a caller's code was, or behind its end. */
	if (area.prot & PROT_WRITE && shunt_is_own_memory(addr))
		return refuse_area(-EFAULT, "libshunt's own memory is there");
	/* What is beside a page that we have opened may be writable by the program's doing. */
	if (shunt_pages_has_opened(addr))
		area.range = (struct shunt_range){0, 0};
	else if (area.prot & PROT_WRITE)
		shunt_mapping_is_written(addr);
	return 0;
}

/* Whether nothing is to be written there. */
static int check_mappings(const struct shunt_write *w, size_t n)
{
	struct shunt_range known = {0, 0};
	int ret = 0;

	for (size_t i = 0; i < n && !ret; i++) {
		if (shunt_in_range(known, (uintptr_t)w[i].addr, w[i].len))
			continue;
		ret = check_mapping((uintptr_t)w[i].addr);
		if (!ret)
			ret = check_mapping((uintptr_t)w[i].addr + w[i].len - 1);
		if (state.in_batch)
			known = area.range;
	}
	return ret;
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

static int check_pages(struct shunt_range pages)
{
	if (pages.start == pages.end ||
	    shunt_area_are_readable(pages.start * 4096, (pages.end - pages.start) * 4096))
		return 0;
	shunt_failed_call = "its text is not mapped, or cannot be read";
	return -EFAULT;
}

/*
 * Whether the pages of sites can be read: code that has gone is not looked at. The C library's
 * functions would fault.
 */
int shunt_port_text_check(const struct shunt_write *writes, size_t n, size_t stride)
{
	const char *at = (const char *)writes;
	struct shunt_range run = {0, 0}; /* page numbers */
	int ret = 0;

	for (size_t i = 0; i < n && !ret; i++, at += stride) {
		const struct shunt_write *w = (const void *)at;
		uintptr_t first = page_of(w->addr), end = page_of(w->addr + w->len - 1) + 1;

		if (first - run.start > run.end - run.start) {
			ret = check_pages(run);
			run = (struct shunt_range){first, first};
		}
		if (end > run.end)
			run.end = end;
	}
	return ret ? ret : check_pages(run);
}

/* ------------------------------------------------ writes through /proc/self/mem */

int shunt_text_write_mem(const uint8_t *addr, const void *bytes, size_t len)
{
	int ret = shunt_proc_mem_write(addr, bytes, len);

	if (!ret)
		atomic_store_explicit(&state.last, MEM, memory_order_relaxed);
	return ret;
}

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
	if (!ret)
		atomic_store_explicit(&state.last, MEM, memory_order_relaxed);
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
		uint8_t is;

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
					       : shunt_text_write_mem(w->addr, w->bytes, w->len);

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

static int write_mem(const struct shunt_write *w, size_t n)
{
	if (state.ask_first)
		state.in_runs = !is_traced();
	state.ask_first = false;
	return state.in_runs ? write_runs(w, n) : write_each(w, n);
}

/* ------------------------------------------------------------------ the choice */

/* By stores to pages that are opened, and closed at the end of the batch, or here outside of one.
 */
static int write_mprotect(const struct shunt_write *w, size_t n)
{
	int ret = shunt_pages_write(w, n, state.stores);

	if (!state.in_batch && shunt_pages_close() && !ret)
		ret = -EPERM;
	if (!ret)
		atomic_store_explicit(&state.last, MPROTECT, memory_order_relaxed);
	return ret;
}

static void choose(void)
{
	int value = shunt_environment_value(SHUNT_ENV_WRITE);

	state.writer = value == SHUNT_ENV_MPROTECT ? MPROTECT : MEM;
	state.forced = value >= 0;
}

/* Not now alone, as where there is no descriptor or no memory. */
static bool is_closed(int error)
{
	return error == -EPERM || error == -EACCES || error == -EIO || error == -ENOENT ||
	       error == -ENOSYS;
}

/* Have valgrind translate what was written anew. (It sees by itself what mremap() moves.) */
static void tell_valgrind(const struct shunt_write *w, size_t n)
{
	if (!shunt_is_translated())
		return;
	for (size_t i = 0; i < n; i++)
		(void)shunt_ask_valgrind(SHUNT_VALGRIND_DISCARD, (long)w[i].addr, w[i].len);
}

/*
 * The first writer has failed, with @error: by the other, if that is open. Also where the failure
 * will pass: bytes that are to be put back must not wait for that.
 */
static int write_otherwise(const struct shunt_write *writes, size_t n, int error)
{
	const char *first_call = shunt_failed_call;

	if (write_mprotect(writes, n)) {
		shunt_failed_call = first_call;
		return error;
	}
	if (is_closed(error))
		state.writer = MPROTECT;
	return 0;
}

static int write_any(const struct shunt_write *writes, size_t n)
{
	const char *earlier;
	int ret = check_mappings(writes, n);

	if (ret)
		return ret;
	if (state.writer == UNKNOWN)
		choose();
	if (state.stores && state.forced && state.writer == MEM) {
		shunt_failed_call = "SHUNT_WRITE=mem: no store";
		return -EPERM; /* and it goes by int3 */
	}
	if (state.stores)
		return write_mprotect(writes, n);
	earlier = shunt_failed_call;
	ret = state.writer == MEM ? write_mem(writes, n) : write_mprotect(writes, n);
	if (ret && ret != -EBUSY && state.writer == MEM && !state.forced && !state.may_remap) {
		ret = write_otherwise(writes, n, ret);
		if (!ret)
			shunt_failed_call = earlier; /* not to be blamed for what follows */
	}
	return ret;
}

int shunt_port_text_write(const struct shunt_write *writes, size_t n)
{
	int ret = write_any(writes, n);

	shunt_clean_text(writes, n, sizeof(*writes));
	tell_valgrind(writes, n);
	return ret;
}

const char *shunt_text_writer(void)
{
	enum writer last = atomic_load_explicit(&state.last, memory_order_relaxed);

	if (last == UNKNOWN)
		return "none";
	return last == MEM ? "/proc/self/mem" : "mprotect";
}

static void end_batch(void)
{
	state.in_batch = false;
	area.range = (struct shunt_range){0, 0};
	(void)shunt_pages_close();
}

/* A page that cannot be closed stays writable: nothing can be done, and it works. */
void shunt_text_end(void)
{
	end_batch();
}

/* ---------------------------------------------------------- copies of the process, and the end */

void shunt_text_copied(void)
{
	end_batch();
	if (shunt_process()->mem_fd)
		return;
	shunt_maps_copied();
	shunt_proc_mem_copied();
}

void shunt_text_close(void)
{
	shunt_mappings_forget((struct shunt_range){0, UINTPTR_MAX});
	shunt_maps_close();
	shunt_proc_mem_close();
}
