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
#include <sys/stat.h>
#include <unistd.h>

#include "linux/linux.h"

enum way { UNKNOWN, MEM, MPROTECT };

/* Guarded by the update lock; read without it only for display. */
static struct {
	enum way way;
	bool forced; /* SHUNT_WRITE names the way: no other is tried */
	bool used;
} state;

static int failed(const char *call)
{
	shunt_failed_call = call;
	return -errno;
}

/*
 * Whether descriptor @fd still is the one that was opened: a program that closes
 * all descriptors, as daemons do, gives the number to a file of its own.
 */
static bool is_ours(const struct shunt_process *process, int fd)
{
	struct stat st;

	return !fstat(fd, &st) && st.st_dev == process->mem_dev && st.st_ino == process->mem_ino;
}

/* The descriptor, opened anew in a child: the parent's writes to the parent. */
static int open_mem(struct shunt_process *process)
{
	struct stat st;
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return failed("open(/proc/self/mem)");
	if (fstat(fd, &st)) {
		int ret = failed("fstat(/proc/self/mem)");

		(void)close(fd);
		return ret;
	}
	process->mem_fd = fd + 1;
	process->mem_dev = st.st_dev;
	process->mem_ino = st.st_ino;
	return fd;
}

static int mem_fd(void)
{
	struct shunt_process *process = shunt_process();

	return process->mem_fd ? process->mem_fd - 1 : open_mem(process);
}

void shunt_text_begin(void)
{
	struct shunt_process *process = shunt_process();
	int saved = errno;

	if (process->mem_fd && !is_ours(process, process->mem_fd - 1))
		process->mem_fd = 0;
	errno = saved;
}

static int write_mem(const struct shunt_write *w, size_t n)
{
	int fd = mem_fd();

	if (fd < 0)
		return fd;
	for (size_t i = 0; i < n; i++) {
		ssize_t done;

		do
			done = pwrite(fd, w[i].bytes, w[i].len, (off_t)(uintptr_t)w[i].addr);
		while (done < 0 && errno == EINTR);
		if (done < 0)
			return failed("pwrite(/proc/self/mem)");
		if (done != w[i].len) {
			errno = EIO;
			return failed("pwrite(/proc/self/mem)");
		}
	}
	return 0;
}

/* The pages that writes[i] and its successors on them touch: [*start, *end). */
static size_t page_run(const struct shunt_write *w, size_t n, size_t page, uintptr_t *start,
		       uintptr_t *end)
{
	size_t i = 0;

	*start = (uintptr_t)w[0].addr & -page;
	*end = *start;
	do
		*end = (((uintptr_t)w[i].addr + w[i].len - 1) & -page) + page;
	while (++i < n && ((uintptr_t)w[i].addr & -page) <= *end);
	return i;
}

/* ThreadSanitizer keeps the shadow of text read-only: a store that it sees faults. */
__attribute__((noinline, no_sanitize("thread"))) static void store(const struct shunt_write *w)
{
	for (size_t i = 0; i < w->len; i++)
		((volatile uint8_t *)w->addr)[i] = w->bytes[i];
}

static int write_mprotect(const struct shunt_write *w, size_t n)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	while (n) {
		uintptr_t start, end;
		size_t run = page_run(w, n, page, &start, &end);

		if (mprotect((void *)start, end - start, PROT_READ | PROT_WRITE | PROT_EXEC))
			return failed("mprotect");
		for (size_t i = 0; i < run; i++)
			store(&w[i]);
		if (mprotect((void *)start, end - start, PROT_READ | PROT_EXEC))
			return failed("mprotect");
		w += run;
		n -= run;
	}
	return 0;
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

static bool is_closed(int error)
{
	return error == -EPERM || error == -EACCES || error == -EIO || error == -ENOENT ||
	       error == -ENOSYS || error == -EMFILE || error == -ENFILE;
}

int shunt_port_text_write(const struct shunt_write *writes, size_t n)
{
	const char *earlier = shunt_failed_call, *first_call;
	int saved = errno, ret;

	if (state.way == UNKNOWN)
		choose();
	ret = state.way == MEM ? write_mem(writes, n) : write_mprotect(writes, n);
	if (state.way == MEM && !state.forced && is_closed(ret)) {
		first_call = shunt_failed_call;
		if (!write_mprotect(writes, n)) {
			state.way = MPROTECT;
			ret = 0;
			shunt_failed_call = earlier; /* not to be blamed for what follows */
		} else {
			shunt_failed_call = first_call;
		}
	}
	if (!ret)
		state.used = true;
	errno = saved;
	return ret;
}

const char *shunt_text_way(void)
{
	if (!state.used)
		return "none";
	return state.way == MEM ? "/proc/self/mem" : "mprotect";
}
