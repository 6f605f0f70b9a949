/* SPDX-License-Identifier: MIT */
/*
 * The one static call of the demo is made here, in digest_file().
 */
#include "worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

DEFINE_STATIC_CALL(crc32c, crc32c_bitwise);

/*
 * Adds to a counter that no other thread writes: no locked instruction needed.
 * Relaxed, partner: the loads in crew_work_done(); a sum that is some calls old will do.
 */
static void count(_Atomic uint64_t *counter, uint64_t n)
{
	uint64_t old = atomic_load_explicit(counter, memory_order_relaxed);

	atomic_store_explicit(counter, old + n, memory_order_relaxed);
}

static void digest_file(struct worker *worker, size_t i)
{
	const struct corpus_file *file = &worker->crew->corpus->files[i];
	uint32_t digest = static_call(crc32c)(0, file->data, file->size);

	worker->digests[i] = digest;
	if (digest != worker->crew->reference[i])
		count(&worker->wrong, 1);
	count(&worker->bytes, file->size);
	count(&worker->calls, 1);
}

static void *work(void *arg)
{
	struct worker *worker = arg;
	struct crew *crew = worker->crew;
	size_t files = crew->corpus->count;
	size_t next = worker->first_file;

	/* Relaxed, partner: crew_ask_last_pass(); the flag carries no data with it. */
	while (!atomic_load_explicit(&crew->last_pass, memory_order_relaxed)) {
		digest_file(worker, next);
		next = (next + 1) % files;
	}
	for (size_t i = 0; i < files; i++)
		digest_file(worker, (next + i) % files);

	/* Relaxed, partner: crew_has_finished(); the digests are handed over by the join. */
	atomic_fetch_add_explicit(&crew->finished, 1, memory_order_relaxed);
	return NULL;
}

static int start_worker(struct worker *worker, struct crew *crew, size_t first_file)
{
	worker->crew = crew;
	worker->first_file = first_file;
	worker->digests = calloc(crew->corpus->count, sizeof(*worker->digests));
	if (!worker->digests)
		return -ENOMEM;
	return -pthread_create(&worker->thread, NULL, work, worker);
}

int crew_start(struct crew *crew, size_t count, const struct corpus *corpus,
	       const uint32_t *reference)
{
	*crew = (struct crew){.corpus = corpus, .reference = reference, .count = count};
	crew->workers = aligned_alloc(_Alignof(struct worker), count * sizeof(*crew->workers));
	if (!crew->workers)
		return -ENOMEM;
	memset(crew->workers, 0, count * sizeof(*crew->workers));
	for (size_t i = 0; i < count; i++) {
		/* Spread over the files, so that they are seldom in the same one. */
		int err = start_worker(&crew->workers[i], crew, i * corpus->count / count);

		if (err)
			return err;
	}
	return 0;
}

struct work_done crew_work_done(struct crew *crew)
{
	struct work_done sum = {0};

	for (size_t i = 0; i < crew->count; i++) {
		struct worker *worker = &crew->workers[i];

		/* Relaxed, partner: count(). */
		sum.calls += atomic_load_explicit(&worker->calls, memory_order_relaxed);
		sum.bytes += atomic_load_explicit(&worker->bytes, memory_order_relaxed);
		sum.wrong += atomic_load_explicit(&worker->wrong, memory_order_relaxed);
	}
	return sum;
}

void crew_ask_last_pass(struct crew *crew)
{
	/* Relaxed, partner: the loop in work(). */
	atomic_store_explicit(&crew->last_pass, true, memory_order_relaxed);
}

bool crew_has_finished(struct crew *crew)
{
	/* Relaxed, partner: the end of work(). */
	return atomic_load_explicit(&crew->finished, memory_order_relaxed) == crew->count;
}

int crew_join(struct crew *crew)
{
	for (size_t i = 0; i < crew->count; i++) {
		int err = pthread_join(crew->workers[i].thread, NULL);

		if (err)
			return -err;
	}
	return 0;
}

void crew_free(struct crew *crew)
{
	for (size_t i = 0; i < crew->count; i++)
		free(crew->workers[i].digests);
	free(crew->workers);
}
