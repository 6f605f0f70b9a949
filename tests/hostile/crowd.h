/* SPDX-License-Identifier: MIT */
/* Threads that go through the sites of site.c while a row does what it does. */
#ifndef SHUNT_TESTS_HOSTILE_CROWD_H
#define SHUNT_TESTS_HOSTILE_CROWD_H

#include <pthread.h>
#include <sched.h>

#include "hostile.h"

#define CROWD 2

struct crowd {
	struct row *row;
	pthread_t threads[CROWD];
	_Atomic int started;
	_Atomic bool over;
	_Atomic uint64_t calls;
};

static void *crowd_member(void *arg)
{
	struct crowd *c = arg;

	atomic_fetch_add(&c->started, 1);
	while (!atomic_load_explicit(&c->over, memory_order_relaxed)) {
		for (int i = 0; i < 64; i++)
			go_through(c->row);
		atomic_fetch_add_explicit(&c->calls, 128, memory_order_relaxed);
	}
	return NULL;
}

static inline void crowd_start(struct crowd *c, struct row *r)
{
	c->row = r;
	for (int i = 0; i < CROWD; i++)
		if (pthread_create(&c->threads[i], NULL, crowd_member, c))
			failed(r, "pthread_create()");
	AWAIT(atomic_load(&c->started) == CROWD);
}

static inline void crowd_end(struct crowd *c)
{
	atomic_store(&c->over, true);
	for (int i = 0; i < CROWD; i++)
		(void)pthread_join(c->threads[i], NULL);
	MUST(c->row, atomic_load(&c->calls) > 0);
}

#endif
