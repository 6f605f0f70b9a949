/* SPDX-License-Identifier: MIT */
/*
 * Controls of the rows in which another program looks on: the same target, poked by remap,
 * with something taken out, by ld --wrap. TARGET_CONTROL names it:
 *
 *	torn        the pages: a site is written in two parts, the first again and again
 *	nofile      that the new pages are of the file: they are of no file
 *	unverified  that the bytes at the sites are looked at: whatever stands there is right
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/poke.h"

int __real_shunt_port_text_remap(const struct shunt_write *writes, size_t n, size_t stride);
int __wrap_shunt_port_text_remap(const struct shunt_write *writes, size_t n, size_t stride);
int __real_shunt_poke_batch(struct shunt_poke *pokes, size_t n, struct shunt_change *change,
			    struct shunt_report *report);
int __wrap_shunt_poke_batch(struct shunt_poke *pokes, size_t n, struct shunt_change *change,
			    struct shunt_report *report);

static bool is_taken_out(const char *what)
{
	const char *wish = getenv("TARGET_CONTROL");

	return wish && !strcmp(wish, what);
}

#define PARTS 20

static int write_torn(const struct shunt_write *w)
{
	struct shunt_write part = *w;
	int ret = 0;

	part.len = 2;
	for (int i = 0; i < PARTS && !ret; i++)
		ret = shunt_port_text_write(&part, 1);
	return ret ? ret : shunt_port_text_write(w, 1);
}

static int remap_for_no_file(const struct shunt_write *w)
{
	uintptr_t start = (uintptr_t)w->addr & -4096ul;
	size_t len = ((uintptr_t)w->addr + w->len - start + 4095) & -4096ul;
	uint8_t *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return -errno;
	memcpy(p, (void *)start, len);
	memcpy(p + ((uintptr_t)w->addr - start), w->bytes, w->len);
	if (mprotect(p, len, PROT_READ | PROT_EXEC) ||
	    mremap(p, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)start) == MAP_FAILED)
		return -errno;
	return 0;
}

int __wrap_shunt_port_text_remap(const struct shunt_write *writes, size_t n, size_t stride)
{
	bool torn = is_taken_out("torn");
	int ret = 0;

	if (!torn && !is_taken_out("nofile"))
		return __real_shunt_port_text_remap(writes, n, stride);
	for (size_t i = 0; i < n && !ret; i++) {
		const struct shunt_write *w = (const void *)((const char *)writes + i * stride);

		ret = torn ? write_torn(w) : remap_for_no_file(w);
	}
	return ret;
}

int __wrap_shunt_poke_batch(struct shunt_poke *pokes, size_t n, struct shunt_change *change,
			    struct shunt_report *report)
{
	for (size_t i = 0; i < n && is_taken_out("unverified"); i++)
		memcpy(pokes[i].old, pokes[i].addr, pokes[i].len);
	return __real_shunt_poke_batch(pokes, n, change, report);
}
