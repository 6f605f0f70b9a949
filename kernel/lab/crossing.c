/* SPDX-License-Identifier: MIT */
/*
 * The laboratory's cells with two CPUs: CPU 0 changes a site that straddles a cache line
 * or a page, byte by byte, while CPU 1 goes through it. Behind each byte and each sync CPU
 * 0 waits until CPU 1 has begun and ended a call. With the word `free` it does not, and
 * the emulator's own switching, or a schedule (run.py --schedule), makes the interleaving.
 */
#include "hazards.h"

/* Versions: version v calls target v % LAB_TARGETS. */
static _Atomic uint64_t started, done;
static _Atomic bool stop;
static _Atomic uint64_t begun, ended; /* calls of CPU 1 */

/* Between two parts of a write that is not one store. */
static _Atomic bool torn;

/*
 * A hit is a call that met the int3 of an update; or that began and ended while the bytes of
 * the instruction were neither the old nor the new ones.
 */
static void note(const struct lab_result *result, uint64_t first, uint64_t last, uint64_t traps,
		 bool was_torn)
{
	unsigned a = first % LAB_TARGETS, b = last % LAB_TARGETS;

	/* More than one update behind: any of them. */
	if (last > first + 1 && result->target >= 0)
		a = (unsigned)result->target;
	lab_cell.torn += was_torn;
	lab_cell.hits += traps || was_torn;
	lab_count(result, a, b);
}

static void hammer(void *arg)
{
	(void)arg;
	while (!stop) {
		uint64_t first = done, traps = lab_traps;
		bool was_torn = torn;
		struct lab_result result;

		begun++;
		result = lab_go(lab_cell.site);
		note(&result, first, started, lab_traps - traps, was_torn && torn);
		ended++;
		cpu_relax();
	}
}

/* Until a call that has yet to begin has ended. */
static void let_it_call(unsigned sync)
{
	uint64_t next = begun + 1;

	torn = sync == 0;
	while (ended < next)
		cpu_relax();
	torn = false;
}

/* The same, without waiting: for schedules. */
static void say_torn(unsigned sync)
{
	torn = sync == 0;
}

void lab_run_smp(uint64_t n)
{
	struct lab_change c = {lab_cell.site, lab_targets[0]};

	lab_on_step = NULL;
	lab_scheme->update(&c, 1);
	started = done = 0;
	stop = false;
	lab_stepwise = true;
	begun = ended = 0;
	smp_start(1, hammer, NULL);
	lab_on_step = cmdline_has("free") ? say_torn : let_it_call;
	if (cmdline_has("free"))
		schedule_point();
	for (uint64_t v = 1; v <= n; v++) {
		started = v;
		c.target = lab_targets[v % LAB_TARGETS];
		lab_scheme->update(&c, 1);
		done = v;
		cpu_relax();
	}
	stop = true;
	smp_wait();
	lab_on_step = NULL;
	lab_stepwise = false;
}
