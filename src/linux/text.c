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
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "linux/linux.h"
#include "linux/mapping.h"
#include "linux/syscall.h"
#include "linux/valgrind.h"

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

static long open_file(const char *path, int flags)
{
	return shunt_syscall(SYS_openat, AT_FDCWD, (long)path, flags | O_CLOEXEC, 0);
}

static void close_file(long fd)
{
	(void)shunt_syscall(SYS_close, fd, 0, 0, 0);
}

/* A file offset that no other file is at. (We read and write at offsets of our own.) */
#define OUR_OFFSET 0x2f5e97a1d0c3b5e9

/*
 * Whether descriptor @fd still is the one that was opened: a program that closes
 * all descriptors, as daemons do, gives the number to a file of its own.
 */
static bool is_ours(int fd)
{
	return shunt_syscall(SYS_lseek, fd, 0, SEEK_CUR, 0) == OUR_OFFSET;
}

/* The last that was opened, for a copy of the process: there process->mem_fd is wiped. */
static int last_mem_fd = -1;

/* The descriptor, opened anew in a child: the parent's writes to the parent. */
static int open_mem(struct shunt_process *process)
{
	long fd = open_file("/proc/self/mem", O_RDWR);
	long ret;

	if (fd < 0) {
		shunt_failed_call = "open(/proc/self/mem)";
		return shunt_closed(fd);
	}
	ret = shunt_syscall(SYS_lseek, fd, OUR_OFFSET, SEEK_SET, 0);
	if (ret < 0) {
		shunt_failed_call = "lseek(/proc/self/mem)";
		close_file(fd);
		return (int)ret;
	}
	process->mem_fd = (int)fd + 1;
	last_mem_fd = (int)fd;
	return (int)fd;
}

/*
 * In a copy of the process: the parent's descriptor, which leads to the parent's memory
 * whatever privileges the child gives up, is closed, and one of its own opened while it can be.
 */
void shunt_text_copied(void)
{
	int fd = last_mem_fd;

	if (fd < 0 || shunt_process()->mem_fd)
		return;
	last_mem_fd = -1;
	if (!is_ours(fd))
		return;
	close_file(fd);
	(void)open_mem(shunt_process());
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

static int mem_fd(void)
{
	struct shunt_process *process = shunt_process();

	return process->mem_fd ? process->mem_fd - 1 : open_mem(process);
}

/* Whether a debugger is attached: then bytes between sites may change under us. */
static bool is_traced(void)
{
	char status[4096];
	const char *line;
	long n, fd = open_file("/proc/self/status", O_RDONLY);

	if (fd < 0)
		return true; /* not known */
	n = shunt_syscall(SYS_read, fd, (long)status, sizeof(status) - 1, 0);
	close_file(fd);
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
	struct shunt_process *process = shunt_process();

	if (process->mem_fd && !is_ours(process->mem_fd - 1))
		process->mem_fd = 0;
	state.stores = way == SHUNT_WAY_STORE;
	state.in_runs = n >= MANY_SITES && (way == SHUNT_WAY_INT3 || way == SHUNT_WAY_ALONE) &&
			!is_traced();
	state.in_batch = true;
}

static int write_at(int fd, const void *bytes, size_t len, const uint8_t *addr)
{
	long done;

	do
		done = shunt_syscall(SYS_pwrite64, fd, (long)bytes, (long)len, (long)addr);
	while (done == -EINTR);
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

/* Many sites: whole runs, read just before, with what is between the sites. */
static int write_runs(int fd, const struct shunt_write *w, size_t n)
{
	static uint8_t buf[1 << 16]; /* update lock */

	while (n) {
		size_t k = run_of(w, n, sizeof(buf));
		size_t len = (size_t)(w[k - 1].addr + w[k - 1].len - w[0].addr);
		int ret;

		shunt_copy_text(buf, w[0].addr, len);
		for (size_t i = 0; i < k; i++)
			patch(buf + (w[i].addr - w[0].addr), &w[i]);
		ret = write_at(fd, buf, len, w[0].addr);
		if (ret)
			return ret;
		w += k;
		n -= k;
	}
	return 0;
}

/* A few sites: not a byte more than changes, for others may own those beside them. */
static int write_mem(const struct shunt_write *w, size_t n)
{
	int fd = mem_fd(), ret = 0;

	if (fd < 0)
		return fd;
	if (state.in_runs)
		return write_runs(fd, w, n);
	for (size_t i = 0; i < n && !ret; i++)
		ret = write_at(fd, w[i].bytes, w[i].len, w[i].addr);
	return ret;
}

int shunt_text_write_mem(const uint8_t *addr, const void *bytes, size_t len)
{
	int fd = mem_fd();

	return fd < 0 ? fd : write_at(fd, bytes, len, addr);
}

/* An aligned word of text. */
typedef uint64_t __attribute__((may_alias)) text_word_t;

/*
 * In one store where the write lies in an aligned word: the word as it is, with the
 * bytes in it. ThreadSanitizer keeps the shadow of text read-only: a store that it sees
 * faults.
 */
__attribute__((noinline, no_sanitize("thread"))) static void store(const struct shunt_write *w)
{
	unsigned at = (unsigned)(uintptr_t)w->addr % 8;
	text_word_t *word = (text_word_t *)(w->addr - at);

	if (at + w->len <= 8) {
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
	struct shunt_range range[32];
	size_t n;
} opened;

static int close_all(void)
{
	int ret = 0;

	for (size_t i = 0; i < opened.n; i++) {
		struct shunt_range r = opened.range[i];

		if (mprotect((void *)r.start, r.end - r.start, PROT_READ | PROT_EXEC))
			ret = failed("mprotect");
	}
	opened.n = 0;
	return ret;
}

static bool is_open(struct shunt_range pages)
{
	/* The last one first: writes come sorted. */
	for (size_t i = opened.n; i-- > 0;)
		if (pages.start >= opened.range[i].start && pages.end <= opened.range[i].end)
			return true;
	return false;
}

/* Open @pages, as part of the range before them if they follow it. */
static int open_pages(struct shunt_range pages)
{
	struct shunt_range *last;

	if (is_open(pages))
		return 0;
	if (mprotect((void *)pages.start, pages.end - pages.start,
		     PROT_READ | PROT_WRITE | PROT_EXEC))
		return failed("mprotect");
	last = opened.n ? &opened.range[opened.n - 1] : NULL;
	if (last && pages.start >= last->start && pages.start <= last->end) {
		last->end = pages.end;
		return 0;
	}
	if (opened.n == sizeof(opened.range) / sizeof(opened.range[0])) {
		int ret = close_all();

		if (ret)
			return ret;
		return open_pages(pages);
	}
	opened.range[opened.n++] = pages;
	return 0;
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

static int write_mprotect(const struct shunt_write *w, size_t n)
{
	struct shunt_range r = {0, 0};
	int saved = errno, ret = 0;

	for (size_t i = 0; i < n && !ret; i++) {
		if (!shunt_in_range(r, (uintptr_t)w[i].addr, w[i].len)) {
			r = pages_of(w + i, n - i);
			ret = open_pages(r);
		}
		if (!ret)
			store(&w[i]);
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
	const char *wish = secure_getenv("SHUNT_WRITE");

	state.way = MEM;
	if (!wish)
		return;
	state.forced = !strcmp(wish, "mprotect") || !strcmp(wish, "mem");
	if (!strcmp(wish, "mprotect"))
		state.way = MPROTECT;
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

	if (shunt_mapping_is_shared((uintptr_t)writes->addr)) {
		shunt_failed_call = "the mapping is shared";
		return -EACCES;
	}
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
	int ret;

	if (state.way == UNKNOWN)
		choose();
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
	if (!opened.n)
		return;
	saved = errno;
	(void)close_all();
	errno = saved;
}
