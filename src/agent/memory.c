/* SPDX-License-Identifier: MIT */
/*
 * Memory of the agent's thread: mappings, which are gone when they are freed. malloc() would make
 * the thread an arena, which stays, however little is asked for between long sleeps.
 */
#include <sys/mman.h>
#include <unistd.h>

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
