/* SPDX-License-Identifier: MIT */
/*
 * Writing text. Text is a private mapping of a file, so a write makes a copy of
 * the page that is this process's own; it is never remapped as shared, or a child
 * would patch its parent.
 *
 *   mem       pwrite() to /proc/self/mem, which goes past the page's protection:
 *             no page is ever writable and executable at once
 *   mprotect  the page is opened for writing, and stays executable meanwhile,
 *             because other threads run in it: only where the user asks for it
 *             (SHUNT_WRITE=mprotect) or where the first way is closed
 *
 * The way is found by using it: a write that fails for want of permission is made
 * again in the other way. Writing bytes twice does no harm.
 *
 * What is not text of a file, private and not writable, is written byte by byte: the program
 * may write beside the sites. Its protection is read before it is opened, and put back.
 * Shared memory is not written at all: another process may run it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <shunt/port.h>

#include "linux/base/base.h"
#include "linux/base/descriptor.h"
#include "linux/base/environment.h"
#include "linux/base/syscall.h"
#include "linux/base/valgrind.h"
#include "linux/text/area.h"
#include "linux/text/mapping.h"
#include "linux/text/maps.h"
#include "linux/text/text.h"

enum way { UNKNOWN, MEM, MPROTECT };

/* Guarded by the update lock; read without it only for display. */
static struct {
	enum way way;
	bool forced;   /* SHUNT_WRITE names the way: no other is tried */
	enum way last; /* of the last write that went well */
	bool in_batch; /* between shunt_text_begin() and shunt_text_end() */
	bool in_runs;  /* this batch is written in runs of pages */
	bool stores;   /* this batch is written by single stores */
} state;

static int failed(const char *call)
{
	shunt_failed_call = call;
	return -errno;
}

/* The last that was opened, for a copy of the process: there process->mem_fd is wiped. */
static int last_mem_fd = -1;
static int64_t mem_mark; /* of it */

static bool is_ours(int fd)
{
	return shunt_fd_is_kept(fd, mem_mark);
}

/* The descriptor, opened anew in a child: the parent's writes to the parent. */
static int open_mem(struct shunt_process *process)
{
	int fd = shunt_fd_open_kept("/proc/self/mem", O_RDWR, &mem_mark);

	if (fd < 0) {
		shunt_failed_call = "open(/proc/self/mem)";
		return shunt_closed(fd);
	}
	process->mem_fd = fd + 1;
	last_mem_fd = fd;
	return fd;
}

static void close_copied(void);

/*
 * In a copy of the process: the parent's descriptor, which leads to the parent's memory
 * whatever privileges the child gives up, is closed, and one of its own opened while it can be.
 */
void shunt_text_copied(void)
{
	int fd = last_mem_fd;

	close_copied();
	if (shunt_process()->mem_fd)
		return;
	shunt_maps_copied();
	last_mem_fd = -1;
	if (fd < 0 || !is_ours(fd))
		return;
	shunt_fd_close(fd);
	(void)open_mem(shunt_process());
}

void shunt_text_leave(void)
{
	int fd = shunt_process()->mem_fd - 1;

	shunt_mappings_forget((struct shunt_range){0, UINTPTR_MAX});
	shunt_maps_leave();
	if (fd >= 0 && is_ours(fd))
		shunt_fd_close(fd);
	shunt_process()->mem_fd = 0;
	last_mem_fd = -1;
}

int shunt_text_is_own(void)
{
	int fd = shunt_process()->mem_fd - 1;
	/* In the memory of any other process something else is there. */
	volatile uint64_t here = __builtin_ia32_rdtsc();
	uint64_t seen = 0;
	long ret;

	if (fd < 0 || !is_ours(fd))
		return -1;
	ret = shunt_syscall(SYS_pread64, fd, (long)&seen, sizeof(seen), (long)&here);
	if (ret == -EPERM || ret == -EACCES || ret == -ENOSYS)
		return -1;
	return ret == sizeof(seen) && seen == here;
}

/* Looked at before each use: the program may close all descriptors in mid-batch. */
static int mem_fd(void)
{
	struct shunt_process *process = shunt_process();

	if (process->mem_fd && is_ours(process->mem_fd - 1))
		return process->mem_fd - 1;
	return open_mem(process);
}

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

void shunt_text_begin(size_t n, enum shunt_way way)
{
	state.stores = way == SHUNT_WAY_ATOMIC;
	state.in_runs = n >= MANY_SITES && (way == SHUNT_WAY_INT3 || way == SHUNT_WAY_ALONE) &&
			!is_traced();
	state.in_batch = true;
}

static long pwrite_all(int fd, const void *bytes, size_t len, const uint8_t *addr)
{
	long done = -EINTR;

	/* Signals are blocked, so it is a filter that says so for ever. */
	for (unsigned tries = 0; done == -EINTR && tries < 100; tries++)
		done = shunt_syscall(SYS_pwrite64, fd, (long)bytes, (long)len, (long)addr);
	return done;
}

static int write_at(const void *bytes, size_t len, const uint8_t *addr)
{
	int fd = mem_fd();
	long done;

	if (fd < 0)
		return fd;
	done = pwrite_all(fd, bytes, len, addr);
	if (done == -EIO) { /* perhaps for want of a protection key's rights */
		uint32_t rights = shunt_area_open_keys();

		done = rights ? pwrite_all(fd, bytes, len, addr) : done;
		shunt_area_close_keys(rights);
	}
	if (done == (long)len) {
		state.last = MEM;
		return 0;
	}
	shunt_failed_call = "pwrite(/proc/self/mem)";
	return done < 0 ? (int)done : -EIO;
}

static uintptr_t page_of(const uint8_t *addr)
{
	return (uintptr_t)addr / 4096;
}

/*
 * Of writes[0] and its successors, as many as go into one run: each on the page
 * of the one before or on the next, so that all bytes between them are text of
 * the same module, and all of it in a buffer of @max bytes.
 */
static size_t run_of(const struct shunt_write *w, size_t n, size_t max)
{
	size_t i = 1;

	while (i < n && page_of(w[i].addr) - page_of(w[i - 1].addr) <= 1 &&
	       (size_t)(w[i].addr + w[i].len - w[0].addr) <= max)
		i++;
	return i;
}

/* Put a write into the buffer; most are an int3 or a displacement. */
static void patch(uint8_t *at, const struct shunt_write *w)
{
	if (w->len == 4)
		memcpy(at, w->bytes, 4);
	else
		for (size_t i = 0; i < w->len; i++)
			at[i] = w->bytes[i];
}

/* ---------------------------------------------------------------- what is there */

/* What is mapped at the last site that was looked at; good until the end of the batch. */
static struct shunt_area area;

static int look_at(uintptr_t addr)
{
	int ret;

	if (state.in_batch && shunt_in_range(area.range, addr, 1))
		return 0;
	area.range = (struct shunt_range){0, 0};
	ret = shunt_area_find(addr, &area);
	if (!ret && area.prot & PROT_WRITE)
		shunt_mapping_is_written(addr);
	if (ret || area.is_private)
		return ret;
	area.range = (struct shunt_range){0, 0};
	shunt_failed_call = "the mapping is shared";
	return -EACCES;
}

/* Whether nothing is to be written there. */
static int look_at_all(const struct shunt_write *w, size_t n)
{
	int ret = 0;

	for (size_t i = 0; i < n && !ret; i++) {
		ret = look_at((uintptr_t)w[i].addr);
		if (!ret)
			ret = look_at((uintptr_t)w[i].addr + w[i].len - 1);
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

/*
 * Whether @addr can be read: code that has gone is not looked at. The C library's functions
 * would fault.
 */
int shunt_port_text_check(const struct shunt_write *writes, size_t n, size_t stride)
{
	const char *at = (const char *)writes;
	uintptr_t seen = UINTPTR_MAX;

	for (size_t i = 0; i < n; i++, at += stride) {
		const struct shunt_write *w = (const void *)at;
		uintptr_t first = (uintptr_t)w->addr, last = first + w->len - 1;

		if ((page_of(w->addr) != seen && !shunt_area_is_readable(first)) ||
		    (last / 4096 != first / 4096 && !shunt_area_is_readable(last))) {
			shunt_failed_call = "its text is not mapped, or cannot be read";
			return -EFAULT;
		}
		seen = last / 4096;
	}
	return 0;
}

/* -------------------------------------------------------------------- by writes */

/* A few sites: not a byte more than changes, for others may own those beside them. */
static int write_each(const struct shunt_write *w, size_t n)
{
	int ret = 0;

	for (size_t i = 0; i < n && !ret; i++)
		ret = write_at(w[i].bytes, w[i].len, w[i].addr);
	return ret;
}

/* Many sites: whole runs, read just before, with what is between the sites. */
static int write_runs(const struct shunt_write *w, size_t n)
{
	static uint8_t buf[1 << 16]; /* update lock */
	int ret = 0;

	for (size_t k; n && !ret; w += k, n -= k) {
		size_t len;

		k = run_of(w, n, sizeof(buf));
		len = (size_t)(w[k - 1].addr + w[k - 1].len - w[0].addr);
		if (!is_plain_text(w[0].addr, len)) {
			ret = write_each(w, k);
			continue;
		}
		shunt_copy_text(buf, w[0].addr, len);
		for (size_t i = 0; i < k; i++)
			patch(buf + (w[i].addr - w[0].addr), &w[i]);
		ret = write_at(buf, len, w[0].addr);
	}
	return ret;
}

static int write_mem(const struct shunt_write *w, size_t n)
{
	return state.in_runs ? write_runs(w, n) : write_each(w, n);
}

int shunt_text_write_mem(const uint8_t *addr, const void *bytes, size_t len)
{
	return write_at(bytes, len, addr);
}

/* -------------------------------------------------------------------- by stores */

/* An aligned word of text. */
typedef uint64_t __attribute__((may_alias)) text_word_t;

/*
 * In the atomic way in one store, where the write lies in an aligned word: the word as it is,
 * with the bytes in it. Else only the bytes of the site. ThreadSanitizer keeps the shadow of text
 * read-only: a store that it sees faults.
 */
__attribute__((noinline, no_sanitize("thread"))) static void store(const struct shunt_write *w)
{
	unsigned at = (unsigned)(uintptr_t)w->addr % 8;
	text_word_t *word = (text_word_t *)(w->addr - at);

	if (state.stores && at + w->len <= 8) {
		text_word_t value = *word;

		for (size_t i = 0; i < w->len; i++)
			((volatile uint8_t *)&value)[at + i] = w->bytes[i];
		__atomic_store_n(word, value, __ATOMIC_RELAXED);
		return;
	}
	for (size_t i = 0; i < w->len; i++)
		((volatile uint8_t *)w->addr)[i] = w->bytes[i];
}

/*
 * Ranges of pages that are open for writing: for the length of a batch, so that its
 * three steps and all their writes open each page once.
 */
static struct {
	struct {
		struct shunt_range range;
		int prot; /* before */
	} at[32];
	size_t n;
	unsigned closings; /* how often all were closed */
} opened;

static int close_all(void)
{
	int ret = 0;

	for (size_t i = 0; i < opened.n; i++) {
		struct shunt_range r = opened.at[i].range;

		if (mprotect((void *)r.start, r.end - r.start, opened.at[i].prot))
			ret = failed("mprotect");
	}
	opened.n = 0;
	opened.closings++;
	return ret;
}

/*
 * In a copy of the process, made while its pages were being opened or closed: the record
 * may say either of a page that is the other. Closed, so that its writes open it.
 */
static void close_copied(void)
{
	int saved = errno;

	state.in_batch = false;
	area.range = (struct shunt_range){0, 0};
	(void)close_all();
	errno = saved;
}

static bool is_open(struct shunt_range pages)
{
	/* The last one first: writes come sorted. */
	for (size_t i = opened.n; i-- > 0;)
		if (pages.start >= opened.at[i].range.start && pages.end <= opened.at[i].range.end)
			return true;
	return false;
}

static int open_now(struct shunt_range pages, int prot)
{
	int ret;

	if (mprotect((void *)pages.start, pages.end - pages.start, prot | PROT_WRITE))
		return failed("mprotect");
	ret = shunt_area_is_writable(pages.start);
	if (ret > 0)
		return 0;
	shunt_failed_call = "mprotect: the text is as it was";
	return ret ? ret : -EPERM; /* a filter says that it was done */
}

/* Open @pages of protection @prot, as part of the range before them if they follow it. */
static int open_alike(struct shunt_range pages, int prot)
{
	size_t n = opened.n;
	int ret = 0;

	if (n == sizeof(opened.at) / sizeof(opened.at[0]))
		ret = close_all();
	n = opened.n;
	if (ret)
		return ret;
	/* Recorded before it is opened: a copy of the process that is made in between closes it. */
	opened.at[n].range = pages;
	opened.at[n].prot = prot;
	atomic_signal_fence(memory_order_seq_cst);
	opened.n = n + 1;
	atomic_signal_fence(memory_order_seq_cst);
	ret = open_now(pages, prot);
	if (ret) {
		opened.n = n;
		return ret;
	}
	if (n && opened.at[n - 1].prot == prot && pages.start >= opened.at[n - 1].range.start &&
	    pages.start <= opened.at[n - 1].range.end) {
		opened.at[n - 1].range.end = pages.end;
		opened.n = n;
	}
	return 0;
}

/* Not an error: more pieces of different protection than can be open at a time. */
#define TOO_MANY 1

/* Each part of @pages as it is; what is writable already stays so. */
static int open_parts(struct shunt_range pages)
{
	struct shunt_area a;
	int ret = 0;

	for (uintptr_t at = pages.start; at < pages.end && !ret; at = a.range.end) {
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
		if (!(a.prot & PROT_WRITE) && !is_open(part))
			ret = open_alike(part, a.prot);
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
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
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

static int write_mprotect(const struct shunt_write *w, size_t n)
{
	struct shunt_range r = {0, 0};
	int saved = errno, ret = 0;
	uint32_t rights;

	for (size_t i = 0; i < n && !ret; i++) {
		if (!shunt_in_range(r, (uintptr_t)w[i].addr, w[i].len))
			ret = open_for(w + i, n - i, &r);
		if (ret)
			break;
		rights = shunt_area_open_keys();
		store(&w[i]);
		shunt_area_close_keys(rights);
	}
	if (!state.in_batch && close_all() && !ret)
		ret = -EPERM;
	errno = saved;
	if (!ret)
		state.last = MPROTECT;
	return ret;
}

static void choose(void)
{
	int value = shunt_environment_value(SHUNT_ENV_WRITE);

	state.way = value == SHUNT_ENV_MPROTECT ? MPROTECT : MEM;
	state.forced = value >= 0;
}

/* There is no descriptor now; the next time there may be. */
static bool is_short(int error)
{
	return error == -EMFILE || error == -ENFILE;
}

static bool is_closed(int error)
{
	return error == -EPERM || error == -EACCES || error == -EIO || error == -ENOENT ||
	       error == -ENOSYS || is_short(error);
}

/* Have valgrind translate what was written anew. (It sees by itself what mremap() moves.) */
static void tell_valgrind(const struct shunt_write *w, size_t n)
{
	static enum { NOT_ASKED, NATIVE, TRANSLATED } runs; /* update lock */

	if (runs == NOT_ASKED)
		runs = shunt_ask_valgrind(SHUNT_VALGRIND_RUNNING, 0, 0) ? TRANSLATED : NATIVE;
	for (size_t i = 0; i < n && runs == TRANSLATED; i++)
		(void)shunt_ask_valgrind(SHUNT_VALGRIND_DISCARD, (long)w[i].addr, w[i].len);
}

/* The first way is closed, with @error: by the other from now on, if that is open. */
static int write_otherwise(const struct shunt_write *writes, size_t n, int error)
{
	const char *first_call = shunt_failed_call;

	if (write_mprotect(writes, n)) {
		shunt_failed_call = first_call;
		return error;
	}
	if (!is_short(error))
		state.way = MPROTECT;
	return 0;
}

static int write_any(const struct shunt_write *writes, size_t n)
{
	const char *earlier;
	int ret = look_at_all(writes, n);

	if (ret)
		return ret;
	if (state.way == UNKNOWN)
		choose();
	if (state.stores && state.forced && state.way == MEM) {
		shunt_failed_call = "SHUNT_WRITE=mem: no store";
		return -EPERM; /* and it goes by int3 */
	}
	if (state.stores)
		return write_mprotect(writes, n);
	earlier = shunt_failed_call;
	ret = state.way == MEM ? write_mem(writes, n) : write_mprotect(writes, n);
	if (state.way == MEM && !state.forced && is_closed(ret)) {
		ret = write_otherwise(writes, n, ret);
		if (!ret)
			shunt_failed_call = earlier; /* not to be blamed for what follows */
	}
	return ret;
}

int shunt_port_text_write(const struct shunt_write *writes, size_t n)
{
	int ret = write_any(writes, n);

	tell_valgrind(writes, n);
	return ret;
}

const char *shunt_text_way(void)
{
	if (state.last == UNKNOWN)
		return "none";
	return state.last == MEM ? "/proc/self/mem" : "mprotect";
}

/* A page that cannot be closed stays writable: nothing can be done, and it works. */
void shunt_text_end(void)
{
	int saved;

	state.in_batch = false;
	area.range = (struct shunt_range){0, 0};
	if (!opened.n)
		return;
	saved = errno;
	(void)close_all();
	errno = saved;
}
