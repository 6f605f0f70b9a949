/* SPDX-License-Identifier: MIT */
/*
 * The threads that make the calls: each digests all files over and over through
 * one static call, and compares every digest with the reference.
 */
#ifndef DEMO_WORKER_H
#define DEMO_WORKER_H

#include "corpus.h"
#include "crc32c.h"

#include <pthread.h>
#include <shunt/static_call.h>
#include <stdatomic.h>

DECLARE_STATIC_CALL(crc32c, crc32c_bitwise);

struct crew;

/*
 * The counters are written by their own thread alone and only ever read by others,
 * on cache lines that no two workers share.
 */
struct worker {
	_Alignas(64) _Atomic uint64_t calls;
	_Atomic uint64_t bytes;
	_Atomic uint64_t wrong; /* digests unlike the reference */
	struct crew *crew;
	size_t first_file; /* where its passes begin */
	uint32_t *digests; /* the latest for each file; to be read after crew_join() */
	pthread_t thread;
};

struct crew {
	const struct corpus *corpus;
	const uint32_t *reference; /* the right digest for each file */
	struct worker *workers;
	size_t count;
	atomic_bool last_pass;
	atomic_size_t finished;
};

struct work_done {
	uint64_t calls;
	uint64_t bytes;
	uint64_t wrong;
};

/*
 * Starts @count threads. Returns 0 or -errno. After an error nothing is left behind
 * but threads that already ran, which end with the process.
 */
int crew_start(struct crew *crew, size_t count, const struct corpus *corpus,
	       const uint32_t *reference);

/* The sum over the workers so far; they go on meanwhile. */
struct work_done crew_work_done(struct crew *crew);

/* Asks each worker to digest every file once more and then to end. */
void crew_ask_last_pass(struct crew *crew);

bool crew_has_finished(struct crew *crew);

/* Waits for the threads to end. Returns 0 or -errno. */
int crew_join(struct crew *crew);

void crew_free(struct crew *crew);

#endif
