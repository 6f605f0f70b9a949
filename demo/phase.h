/* SPDX-License-Identifier: MIT */
/*
 * A stretch of the run: the workers work, the main thread switches the
 * implementation at a fixed rate or leaves it alone, and what happened is counted.
 */
#ifndef DEMO_PHASE_H
#define DEMO_PHASE_H

#include "worker.h"

struct impl {
	const char *name;
	crc32c_fn *digest;
};

struct phase {
	const char *name;
	/* Switched to in turn; the first of them before the phase begins. */
	const struct impl *impls;
	size_t nr_impls;
	unsigned rate;  /* updates a second; 0: none */
	double seconds; /* 0: until the workers have finished */
};

struct phase_result {
	double seconds;
	uint64_t calls;
	uint64_t bytes;
	uint64_t wrong;          /* digests */
	uint64_t updates;        /* that returned 0; the one before the phase is not counted */
	uint64_t failed_updates; /* each with a message on stderr */
	uint64_t traps;
	uint64_t late_traps;
};

double phase_mb_per_s(const struct phase_result *result);

/* Runs @phase. Returns 0, or -errno where the clock or the first update failed. */
int phase_run(const struct phase *phase, struct crew *crew, struct phase_result *result);

#endif
