/* SPDX-License-Identifier: MIT */
/* Threads that go through the sites of site.c while a row does what it does. */
#ifndef SHUNT_TESTS_HOSTILE_SITE_THREADS_H
#define SHUNT_TESTS_HOSTILE_SITE_THREADS_H

#include <pthread.h>
#include <sched.h>

#include "hostile.h"

#define SITE_THREADS 2

struct site_threads {
	struct row *row;
	pthread_t threads[SITE_THREADS];
	_Atomic int started;
	_Atomic bool over;
	_Atomic uint64_t calls;
};

static void *site_thread(void *arg)
{
	struct site_threads *c = arg;

	atomic_fetch_add(&c->started, 1);
	while (!atomic_load_explicit(&c->over, memory_order_relaxed)) {
		for (int i = 0; i < 64; i++)
			go_through(c->row);
		atomic_fetch_add_explicit(&c->calls, 128, memory_order_relaxed);
	}
	return NULL;
}

static inline void site_threads_start(struct site_threads *c, struct row *r)
{
	c->row = r;
	for (int i = 0; i < SITE_THREADS; i++)
		if (pthread_create(&c->threads[i], NULL, site_thread, c))
			failed(r, "pthread_create()");
	AWAIT(atomic_load(&c->started) == SITE_THREADS);
}

static inline void site_threads_end(struct site_threads *c)
{
	atomic_store(&c->over, true);
	for (int i = 0; i < SITE_THREADS; i++)
		(void)pthread_join(c->threads[i], NULL);
	MUST(c->row, atomic_load(&c->calls) > 0);
}

#endif
