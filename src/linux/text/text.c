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
 * The writer is found by using it: a write by the first that fails is made again by the other,
 * where neither SHUNT_WRITE names one nor the batch has another way, and what is there is what was
 * expected (not -EBUSY); where it fails for want of permission, all later ones are, too. Writing
 * bytes twice does no harm.
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
#include "linux/text/mem_writes.h"
#include "linux/text/open_pages.h"
#include "linux/text/proc_maps.h"
#include "linux/text/proc_mem.h"
#include "linux/text/text.h"

enum writer { UNKNOWN, MEM, MPROTECT };

/* Guarded by the update lock. */
static struct {
	enum writer writer;
	bool forced; /* SHUNT_WRITE names the writer: no other is tried */
	/* Of the last write that went well; read without the lock, for display. */
	_Atomic(enum writer) last;
	bool in_batch;      /* between shunt_text_begin() and shunt_text_end() */
	bool has_other_way; /* this batch can go by other pages, where the writer is closed */
	bool in_runs;       /* this batch is written in runs of pages */
	bool ask_first;     /* the same, if there is no tracer: asked before the first write */
	bool stores;        /* this batch is written by single stores */
	bool tries_out;     /* this batch is the self-test's: its writer is not kept */
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
	state.has_other_way = way == SHUNT_WAY_REMAP || way == SHUNT_WAY_FLIP;
	may_run = may_run && n >= MANY_SITES;
	state.ask_first = may_run && way == SHUNT_WAY_REMAP; /* few have any write */
	state.in_runs =
		may_run && way != SHUNT_WAY_ATOMIC && way != SHUNT_WAY_REMAP && !is_traced();
	state.tries_out = false;
	state.in_batch = true;
}

void shunt_text_try_out(void)
{
	state.has_other_way = false;
	state.tries_out = true;
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
	if (area.prot & PROT_WRITE && shunt_is_memory_of_libshunt(addr))
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
		uintptr_t first = shunt_text_page(w->addr),
			  end = shunt_text_page(w->addr + w->len - 1) + 1;

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

static int write_mem(const struct shunt_write *w, size_t n)
{
	int ret;

	if (state.ask_first)
		state.in_runs = !is_traced();
	state.ask_first = false;
	ret = shunt_mem_writes(w, n, state.in_runs);
	if (!ret)
		atomic_store_explicit(&state.last, MEM, memory_order_relaxed);
	return ret;
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
	if (is_closed(error) && !state.tries_out)
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
	if (ret && ret != -EBUSY && state.writer == MEM && !state.forced && !state.has_other_way) {
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
	state.tries_out = false;
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
