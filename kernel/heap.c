/* SPDX-License-Identifier: MIT */
/*
 * Memory from behind the kernel's image, in powers of two. What is freed goes to a
 * list of its size.
 */
#include "ftrace.h"
#include "kernel.h"
#include "spinlock.h"

#define MIN_ORDER 6 /* 64 bytes */
#define MAX_ORDER 26

struct free_block {
	struct free_block *next;
};

static struct spinlock lock;
static struct free_block *free_blocks[MAX_ORDER + 1];
static uintptr_t top = (uintptr_t)__end; /* not handed out yet */

static unsigned order_of(size_t size)
{
	unsigned order = MIN_ORDER;

	while ((size_t)1 << order < size)
		order++;
	return order;
}

static void *take(unsigned order)
{
	struct free_block *block = free_blocks[order];
	uintptr_t start = (top + 63) & ~(uintptr_t)63;

	if (block) {
		free_blocks[order] = block->next;
		return block;
	}
	if (((uintptr_t)1 << order) > MEM_END - start)
		return NULL;
	top = start + ((uintptr_t)1 << order);
	return (void *)start;
}

FTRACE_FUNCTION(kalloc);
FTRACE_FUNCTION(kfree);

void *kalloc(size_t size)
{
	bool irqs;
	void *p;

	if (size > (size_t)1 << MAX_ORDER)
		return NULL;
	irqs = spin_lock(&lock);
	p = take(order_of(size));
	spin_unlock(&lock, irqs);
	return p ? memset(p, 0, size) : NULL;
}

void kfree(void *p, size_t size)
{
	struct free_block *block = p;
	unsigned order = order_of(size);
	bool irqs;

	if (!p)
		return;
	irqs = spin_lock(&lock);
	block->next = free_blocks[order];
	free_blocks[order] = block;
	spin_unlock(&lock, irqs);
}
