/* SPDX-License-Identifier: MIT */
/* Writes through /proc/self/mem. */
#include <fcntl.h>

#include "linux/base/base.h"
#include "linux/base/syscall.h"
#include "linux/text/area.h"
#include "linux/text/proc_file.h"
#include "linux/text/proc_mem.h"
#include "linux/text/restart.h"

static struct shunt_proc_file mem = {
	.path = "/proc/self/mem",
	.open_call = "open(/proc/self/mem)",
	.absent = "open(/proc/self/mem) gave ENOENT",
	.denied = "open(/proc/self/mem) gave EACCES",
	.not_proc = "/proc/self/mem is of no procfs",
	.flags = O_RDWR | O_NOFOLLOW,
	.last_fd = -1,
};

int shunt_proc_mem_is_own(void)
{
	const int32_t *slot = &shunt_process()->mem_fd;
	/* In the memory of any other process something else is there. */
	volatile uint64_t here = shunt_cycles();
	uint64_t seen = 0;
	long ret;

	if (!shunt_proc_file_is_open(&mem, slot))
		return -1;
	ret = shunt_syscall(SYS_pread64, *slot - 1, (long)&seen, sizeof(seen), (long)&here);
	if (ret == -EPERM || ret == -EACCES || ret == -ENOSYS)
		return -1;
	return ret == sizeof(seen) && seen == here;
}

void shunt_proc_mem_copied(void)
{
	shunt_proc_file_copied(&mem, &shunt_process()->mem_fd);
}

void shunt_proc_mem_close(void)
{
	shunt_proc_file_close(&mem, &shunt_process()->mem_fd);
}

/* @begun: NULL, or as shunt_write_undisturbed() has it. */
struct text_to_write {
	const void *bytes;
	size_t len;
	const uint8_t *addr;
	const uint64_t *begun;
};

static long pwrite_all(int fd, const struct text_to_write *w)
{
	long done = -EINTR;

	/* Signals are blocked, so it is a filter that says so for ever. */
	for (unsigned tries = 0; done == -EINTR && tries < 100; tries++)
		done = w->begun ? shunt_write_undisturbed(fd, w->bytes, w->len, (uintptr_t)w->addr,
							  w->begun)
				: shunt_syscall(SYS_pwrite64, fd, (long)w->bytes, (long)w->len,
						(long)w->addr);
	return done;
}

static int write_text(const struct text_to_write *w)
{
	int fd = shunt_proc_file_open(&mem, &shunt_process()->mem_fd);
	long done;

	if (fd < 0)
		return fd;
	done = pwrite_all(fd, w);
	if (done == -EIO) { /* perhaps for want of a protection key's rights */
		uint32_t rights = shunt_area_open_keys();

		done = rights ? pwrite_all(fd, w) : done;
		shunt_area_close_keys(rights);
	}
	if (done == (long)w->len)
		return 0;
	if (done != SHUNT_WRITE_DISTURBED)
		shunt_failed_call = "pwrite(/proc/self/mem)";
	return done < 0 ? (int)done : -EIO;
}

int shunt_proc_mem_write(const uint8_t *addr, const void *bytes, size_t len)
{
	return write_text(&(struct text_to_write){bytes, len, addr, NULL});
}

int shunt_proc_mem_write_undisturbed(const uint8_t *addr, const void *bytes, size_t len,
				     const uint64_t *begun)
{
	return write_text(&(struct text_to_write){bytes, len, addr, begun});
}

struct shunt_probe shunt_proc_mem_probe(const struct shunt_write *w)
{
	struct shunt_probe probe = {NULL, 0};

	for (size_t i = 0; i < w->len && !probe.at; i++) {
		shunt_copy_text(&probe.was, w->addr + i, 1);
		if (probe.was != w->bytes[i])
			probe.at = w->addr + i;
	}
	return probe;
}

int shunt_proc_mem_check(struct shunt_probe probe)
{
	uint8_t is = 0;

	if (!probe.at)
		return 0;
	shunt_copy_text(&is, probe.at, 1);
	if (is != probe.was)
		return 0;
	shunt_failed_call = "pwrite(/proc/self/mem): the text is as it was";
	return -EPERM;
}
