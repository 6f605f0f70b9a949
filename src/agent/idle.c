/* SPDX-License-Identifier: MIT */
/*
 * What the libraries need not have mapped while the agent's thread sleeps: their text and
 * constants, which the kernel reads again from their files.
 *
 * MADV_PAGEOUT unmaps what is the file's, and leaves what somebody has written there, a breakpoint
 * of a debugger's or of a uprobe, whenever that was. (MADV_DONTNEED would forget it; a look at the
 * pages before it cannot help, for who writes may do so behind the look.) The kernel leaves pages
 * that other processes have mapped too, and all of a file that is neither this user's nor may be
 * written by it; Linux before 5.4 does not know it.
 */
#include <link.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/trace.h>

#include "agent/agent.h"
#include "linux/base/dl_list.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif
#ifdef AGENT_FORGETS_TEXT /* the tests' control */
#undef MADV_PAGEOUT
#define MADV_PAGEOUT MADV_DONTNEED
#endif

static bool contains(const struct dl_phdr_info *info, uintptr_t address)
{
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];

		if (p->p_type == PT_LOAD && address - info->dlpi_addr - p->p_vaddr < p->p_memsz)
			return true;
	}
	return false;
}

/* By addresses: a library that came by a descriptor has another name. Never the program itself. */
static bool is_ours(const struct dl_phdr_info *info)
{
	return info->dlpi_name && *info->dlpi_name &&
	       (contains(info, (uintptr_t)shunt_last_error) ||
		contains(info, (uintptr_t)shunt_trace_start) ||
		contains(info, (uintptr_t)agent_drop_text));
}

/* Text and constants. All are known before the first is dropped: the walk's own would come back. */
struct ranges {
	struct {
		uintptr_t start, end;
	} of[16];
	unsigned n;
};

static int find_ranges(struct dl_phdr_info *info, size_t size, void *arg)
{
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	struct ranges *ranges = arg;

	(void)size;
	for (unsigned i = 0; i < info->dlpi_phnum && is_ours(info); i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		uintptr_t end = info->dlpi_addr + p->p_vaddr + p->p_memsz;

		if (p->p_type != PT_LOAD || p->p_flags & PF_W || ranges->n == 16)
			continue;
		ranges->of[ranges->n].start = (info->dlpi_addr + p->p_vaddr) & ~(page - 1);
		ranges->of[ranges->n++].end = (end + page - 1) & ~(page - 1);
	}
	return 0;
}

void agent_drop_text(void)
{
	struct ranges ranges = {.n = 0};

	(void)shunt_dl_iterate(find_ranges, &ranges);
	for (unsigned i = 0; i < ranges.n; i++)
		/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
		(void)madvise((void *)ranges.of[i].start, ranges.of[i].end - ranges.of[i].start,
			      MADV_PAGEOUT);
}
