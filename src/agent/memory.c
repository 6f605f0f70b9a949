/* SPDX-License-Identifier: MIT */
/*
 * Memory of the agent's thread: mappings, which are gone when they are freed. malloc() would make
 * the thread an arena, which stays, however little is asked for between long sleeps. And what the
 * libraries need not have mapped while the thread sleeps.
 */
#include <fcntl.h>
#include <link.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/trace.h>

#include "agent/agent.h"

/* In front of what is given out. */
struct head {
	size_t size; /* of the mapping */
	size_t unused;
};

static size_t whole_pages(size_t size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (size + sizeof(struct head) + page - 1) & ~(page - 1);
}

void *agent_alloc(size_t size)
{
	size_t whole = whole_pages(size);
	struct head *head;

	if (whole < size)
		return NULL;
	head = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (head == MAP_FAILED)
		return NULL;
	head->size = whole;
	return head + 1;
}

void *agent_resize(void *memory, size_t size)
{
	struct head *head = memory ? (struct head *)memory - 1 : NULL;
	size_t whole = whole_pages(size);

	if (!head)
		return agent_alloc(size);
	if (whole < size)
		return NULL;
	head = mremap(head, head->size, whole, MREMAP_MAYMOVE);
	if (head == MAP_FAILED)
		return NULL;
	head->size = whole;
	return head + 1;
}

void agent_free(void *memory)
{
	struct head *head = memory ? (struct head *)memory - 1 : NULL;

	if (head)
		(void)munmap(head, head->size);
}

/* ------------------------------------------------------------------- while it sleeps */

#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define PAGEMAP_FILE    (UINT64_C(1) << 61)

/* Those of a range that are the file's: not one that somebody has written a breakpoint to. */
static void drop_pages(int pagemap, uintptr_t start, uintptr_t end)
{
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	uint64_t known[64];

	while (start < end) {
		size_t n = (end - start) / page;
		ssize_t got;

		n = n < sizeof(known) / sizeof(known[0]) ? n : sizeof(known) / sizeof(known[0]);
		got = pread(pagemap, known, n * 8, (off_t)(start / page * 8));
		if (got < 8)
			return;
		for (size_t i = 0; i < (size_t)got / 8; i++, start += page)
			if ((known[i] & (PAGEMAP_PRESENT | PAGEMAP_FILE)) ==
			    (PAGEMAP_PRESENT | PAGEMAP_FILE))
				/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
				(void)madvise((void *)start, page, MADV_DONTNEED);
	}
}

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

static int drop_module(struct dl_phdr_info *info, size_t size, void *arg)
{
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	const int *pagemap = arg;

	(void)size;
	for (unsigned i = 0; i < info->dlpi_phnum && is_ours(info); i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		uintptr_t start = info->dlpi_addr + p->p_vaddr, end = start + p->p_memsz;

		if (p->p_type == PT_LOAD && !(p->p_flags & PF_W))
			drop_pages(*pagemap, start & ~(page - 1), (end + page - 1) & ~(page - 1));
	}
	return 0;
}

void agent_drop_text(void)
{
	int pagemap;

	agent_hold_fork();
	pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (pagemap >= 0) {
		(void)dl_iterate_phdr(drop_module, &pagemap);
		(void)close(pagemap);
	}
	agent_allow_fork();
}
