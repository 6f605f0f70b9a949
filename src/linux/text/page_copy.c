/* SPDX-License-Identifier: MIT */
/* Copies of the pages that a remap replaces, with what changes in them. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "linux/base/base.h"
#include "linux/base/syscall.h"
#include "linux/text/area.h"
#include "linux/text/page_run.h"
#include "linux/text/text.h"

/*
 * Text [start, start + len) as it stands, into @to, with those of the writes that are
 * in it, as far as they are. *next is the first that may be; it is moved on to the
 * first that is not wholly before the end.
 */
static void compose(uint8_t *to, uintptr_t start, size_t len, struct shunt_writes w, size_t *next)
{
	size_t i = *next;

	shunt_copy_text(to, (const void *)start, len);
	for (; i < w.n; i++) {
		const struct shunt_write *one = shunt_nth_write(w, i);
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

/* Of the file, unless the program has given the number to another one at this very moment. */
static void *map_file(const struct shunt_mapping *m, const struct shunt_page_run *run, int prot,
		      int flags)
{
	long off = (long)(m->offset + (run->start - m->range.start));
	long p = shunt_syscall6(SYS_mmap, 0, (long)run->len, prot, MAP_PRIVATE | flags, m->fd, off);

	if (shunt_is_map_error((void *)p) || shunt_mapping_has_file(m))
		return (void *)p;
	(void)shunt_syscall(SYS_munmap, p, (long)run->len, 0, 0);
	return (void *)-EBADF;
}

static void *map(const struct shunt_mapping *m, const struct shunt_page_run *run, int prot,
		 int flags)
{
	void *p;

	if (run->anonymous || m->fd < 0)
		p = (void *)shunt_syscall6(SYS_mmap, 0, (long)run->len, prot,
					   MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
	else
		p = map_file(m, run, prot, flags);
	if (!p)
		p = (void *)(long)-EIO; /* a filter says that it was done */
	if (shunt_is_map_error(p))
		shunt_failed_call = "mmap(a copy of text)";
	return p;
}

/* Nobody else writes there: what is not as it was written was not written (proc_mem.h). */
static int write_copy(uint8_t *to, const uint8_t *bytes, size_t len)
{
	int ret = shunt_text_write_mem(to, bytes, len);

	if (ret || !shunt_texts_differ(to, bytes, len))
		return ret;
	shunt_failed_call = "pwrite(/proc/self/mem): the copy is as it was";
	return -EPERM;
}

/* Executable from the start, and written past its protection: no mprotect() needed. */
static void *copy_by_write(const struct shunt_mapping *m, const struct shunt_page_run *run)
{
	static uint8_t buf[16 << 12]; /* update lock */
	void *p = map(m, run, m->prot | run->prot_cpu, 0);
	size_t len = run->len;
	size_t next = 0;
	int ret = 0;

	for (size_t off = 0; !shunt_is_map_error(p) && off < len && !ret; off += sizeof(buf)) {
		size_t part = len - off < sizeof(buf) ? len - off : sizeof(buf);

		compose(buf, run->start + off, part, run->w, &next);
		ret = write_copy((uint8_t *)p + off, buf, part);
	}
	if (!ret)
		return p;
	(void)shunt_syscall(SYS_munmap, (long)p, (long)len, 0, 0);
	return (void *)(long)ret;
}

/* Writable first, and executable afterwards: no /proc needed. */
static void *copy_by_store(const struct shunt_mapping *m, const struct shunt_page_run *run)
{
	int flags = run->len >= SHUNT_BIG_RUN ? MAP_POPULATE : 0;
	void *p = map(m, run, PROT_READ | PROT_WRITE, flags);
	size_t next = 0;
	int writable;
	long ret;

	if (shunt_is_map_error(p))
		return p;
	compose(p, run->start, run->len, run->w, &next);
	ret = shunt_syscall(SYS_mprotect, (long)p, (long)run->len, m->prot | run->prot_cpu, 0);
	writable = ret ? 1 : shunt_area_is_writable((uintptr_t)p);
	if (!writable)
		return p;
	if (writable < 0) {
		ret = writable;
	} else {
		shunt_failed_call = ret == -EACCES ? "mprotect(a copy of text) gave EACCES"
						   : "mprotect(a copy of text)";
		ret = ret ? ret : -EPERM; /* a filter says that it was done */
	}
	(void)shunt_syscall(SYS_munmap, (long)p, (long)run->len, 0, 0);
	return (void *)(long)shunt_error_of_closed(ret);
}

/* The cheaper first; the other where that is forbidden (PR_SET_MDWE, no /proc). */
void *shunt_copy_pages(const struct shunt_mapping *m, const struct shunt_page_run *run)
{
	bool big = run->len >= SHUNT_BIG_RUN;
	void *p = big ? copy_by_store(m, run) : copy_by_write(m, run);

	if (shunt_is_map_error(p))
		p = big ? copy_by_write(m, run) : copy_by_store(m, run);
	return p;
}
