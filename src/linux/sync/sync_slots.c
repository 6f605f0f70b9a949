/* SPDX-License-Identifier: MIT */
/*
 * Core sync by signals: a slot for each thread, which says what it has acknowledged.
 * Slots are never freed, because a signal that is still pending may name one.
 */
#include <errno.h>
#include <pthread.h>

#include <shunt/port.h>

#include "linux/base/base.h"
#include "linux/base/syscall.h"
#include "linux/sync/sync_slots.h"

struct shunt_sync_slot_chunk *_Atomic shunt_sync_slot_chunks;
struct shunt_sync_slot *shunt_sync_slot_buckets[SHUNT_BUCKETS];

/* Guarded by the update lock. */
static struct shunt_sync_slot *free_slots;
static int32_t pid; /* of the process that the slots are of; 0: none yet */

static void free_slot(struct shunt_sync_slot *slot)
{
	slot->tid = 0;
	slot->next = free_slots;
	free_slots = slot;
}

static bool add_chunk(void)
{
	struct shunt_sync_slot_chunk *c = shunt_port_alloc(sizeof(*c));

	if (!c)
		return false;
	for (size_t i = 0; i < SHUNT_SLOTS; i++)
		free_slot(&c->slots[i]);
	c->next = atomic_load_explicit(&shunt_sync_slot_chunks, memory_order_relaxed);
	/* Pairs with slot_at(). */
	atomic_store_explicit(&shunt_sync_slot_chunks, c, memory_order_release);
	return true;
}

struct shunt_sync_slot *shunt_sync_slot_of(int32_t tid)
{
	struct shunt_sync_slot **head = &shunt_sync_slot_buckets[(uint32_t)tid % SHUNT_BUCKETS];
	struct shunt_sync_slot *slot;

	for (slot = *head; slot; slot = slot->next)
		if (slot->tid == tid)
			return slot;
	if (!free_slots && !add_chunk())
		return NULL;
	slot = free_slots;
	free_slots = slot->next;
	slot->tid = tid;
	slot->seen = 0;
	slot->sent = 0;
	slot->answers = false;
	slot->blocks = false;
	slot->next = *head;
	*head = slot;
	return slot;
}

/* They and their signals are gone. */
void shunt_sync_slots_drop(uint32_t round)
{
	for (size_t i = 0; i < SHUNT_BUCKETS; i++)
		for (struct shunt_sync_slot **p = &shunt_sync_slot_buckets[i]; *p;) {
			struct shunt_sync_slot *slot = *p;

			if (slot->seen == round) {
				p = &slot->next;
				continue;
			}
			*p = slot->next;
			free_slot(slot);
		}
}

void shunt_sync_slots_forget(void)
{
	struct shunt_sync_slot_chunk *c =
		atomic_load_explicit(&shunt_sync_slot_chunks, memory_order_relaxed);

	for (; c; c = c->next)
		for (size_t i = 0; i < SHUNT_SLOTS; i++) {
			c->slots[i].sent = 0;
			c->slots[i].answers = false;
			c->slots[i].blocks = false;
		}
}

/* ------------------------------------------------------- copies of the process */

/*
 * In a copy of the process: no other thread, and no signal that is pending. The lists are
 * made anew, because the copy may have been made while they were being changed.
 */
static void reset_slots(void)
{
	struct shunt_sync_slot_chunk *c =
		atomic_load_explicit(&shunt_sync_slot_chunks, memory_order_relaxed);

	free_slots = NULL;
	for (size_t i = 0; i < SHUNT_BUCKETS; i++)
		shunt_sync_slot_buckets[i] = NULL;
	for (; c; c = c->next)
		for (size_t i = 0; i < SHUNT_SLOTS; i++)
			free_slot(&c->slots[i]);
}

int shunt_sync_slots_of_process(void)
{
	struct shunt_process *process = shunt_process();
	int32_t self = shunt_own_pid(), before = pid;
	int ret = shunt_check_pid(self);

	if (ret)
		return ret;
	if (process->memory_pid && process->memory_pid != self) {
		shunt_failed_call = "the memory is another process's";
		return -EPERM;
	}
	process->memory_pid = self;
	if (before == self)
		return 0;
	reset_slots();
	pid = self;
	return before ? -EINTR : 0;
}

/*
 * Early, so that a child of vfork() is told apart from one of fork() by a number that
 * is set; the second is for kernels that cannot clear the page in a child.
 */
static void claim_process(void)
{
	int32_t self = shunt_own_pid();

	shunt_process()->memory_pid = self > 0 ? self : 0;
}

__attribute__((constructor(101))) static void watch_processes(void)
{
	claim_process();
	(void)pthread_atfork(NULL, NULL, claim_process);
}
