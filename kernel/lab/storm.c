/* SPDX-License-Identifier: MIT */
/*
 * The laboratory's storm: CPU 0 changes two sites; the other CPUs go through them without
 * end, and so do the handlers of timer interrupts, IPIs and NMIs on all CPUs, at any
 * instruction that these come in at. It is what production.c does, for any scheme.
 *
 * Where a scheme is "flat", an NMI that comes in in an NMI's handler does nothing.
 *
 * Nothing here is aimed. A hit is a handler that found a call of its CPU on its way.
 */
#include <stdatomic.h>

#include "hazards.h"

enum context { THREAD, TIMER, IPI, NMI, CONTEXTS };

/* Versions: version v calls target v % LAB_TARGETS, at both sites. */
static _Atomic uint64_t started, done;
static _Atomic bool stop;

/* By CPU: calls on their way; its timer is set. */
static _Atomic uint32_t depth[MAX_CPUS];
static _Atomic bool timer_is_set[MAX_CPUS];

static struct {
	_Atomic uint64_t nested; /* NMIs in the handler of an NMI */
	_Atomic uint64_t calls, wrong, first_wrong, hits[CONTEXTS];
	struct lab_result how; /* of the first */
} seen;

/* What is wrong, by the best of the versions. */
static uint32_t wrong_in_all(const struct lab_result *result, uint64_t first, uint64_t last)
{
	uint32_t wrong = lab_wrong(result, first % LAB_TARGETS, first % LAB_TARGETS);

	for (uint64_t v = first + 1; v <= last && wrong & LAB_WRONG_TARGET; v++)
		wrong = lab_wrong(result, v % LAB_TARGETS, v % LAB_TARGETS);
	return wrong;
}

static void call(enum context context, unsigned i)
{
	_Atomic uint32_t *on_the_way = &depth[this_cpu()->id];
	uint64_t first = done, number = ++seen.calls;
	struct lab_result result;
	uint32_t wrong;

	seen.hits[context] += (*on_the_way)++ != 0;
	result = lab_go(i % 2 ? lab_cell.other : lab_cell.site);
	--*on_the_way;
	wrong = wrong_in_all(&result, first, started);
	if (!wrong || seen.wrong++)
		return;
	seen.how = result;
	seen.how.wrong = wrong;
	seen.first_wrong = number;
}

/* ----------------------------------------------------------------------- handlers */

/* Each CPU its own; an NMI may come in between. */
static uint32_t draw(void)
{
	static uint32_t states[MAX_CPUS] = {2463534242u, 88675123, 521288629, 362436069};

	return xorshift(&states[this_cpu()->id]);
}

/* Every second time, an NMI to another CPU: it lands anywhere there. */
static void send_nmi(uint32_t random)
{
	if (random & 1)
		apic_nmi((this_cpu()->id + 1) % nr_cpus);
}

/* From threads alone, so that handlers do not pile up: soon a timer interrupt or NMI. */
static void set_timer(void)
{
	uint32_t r = draw();

	if (!atomic_exchange(&timer_is_set[this_cpu()->id], true))
		apic_timer_once(1 + (r >> 8 & 127), r & 1);
}

/* From timers and NMIs: perhaps an NMI to another, or an IPI right behind this one. */
static void go_on(enum context context)
{
	uint32_t r = draw();

	if (apic_timer_is_over())
		timer_is_set[this_cpu()->id] = false;
	call(context, r);
	send_nmi(r >> 18);
	if (r >> 16 & 1)
		apic_ipi(this_cpu()->id, VEC_TEST);
}

static void on_timer(struct trapframe *frame)
{
	(void)frame;
	go_on(TIMER);
}

static void on_ipi(struct trapframe *frame)
{
	(void)frame;
	call(IPI, draw());
}

static void on_nmi(struct trapframe *frame)
{
	if (lab_scheme->nmi)
		lab_scheme->nmi(frame);
	seen.nested += lab_nmis[this_cpu()->id] != 0;
	if (lab_scheme->flat && lab_nmis[this_cpu()->id])
		return;
	lab_nmis[this_cpu()->id]++;
	go_on(NMI);
	lab_nmis[this_cpu()->id]--;
}

/* -------------------------------------------------------------------------- CPUs */

/* In the midst of a poke, behind each byte. */
static void disturb_step(unsigned sync)
{
	(void)sync;
	set_timer();
	send_nmi(draw() >> 3);
}

static void caller(void *arg)
{
	(void)arg;
	while (!stop) {
		set_timer();
		call(THREAD, draw());
		cpu_relax();
	}
	apic_timer(0, false);
}

static void update(uint64_t version)
{
	uintptr_t target = lab_targets[version % LAB_TARGETS];
	struct lab_change both[] = {{lab_cell.site, target}, {lab_cell.other, target}};

	started = version;
	lab_scheme->update(both, 2);
	done = version;
}

static uint64_t all_hits(void)
{
	return seen.hits[TIMER] + seen.hits[IPI] + seen.hits[NMI];
}

/* Until there were @hits. */
static void update_all(uint64_t hits)
{
	lab_on_step = disturb_step;
	for (uint64_t v = 1; all_hits() < hits; v++) {
		update(v);
		cpu_relax();
	}
	lab_on_step = NULL;
	stop = true;
	smp_wait();
	apic_timer(0, false);
}

/* -------------------------------------------------------------------------- cell */

static void report(void)
{
	lab_cell.calls = seen.calls;
	lab_cell.bad = seen.wrong;
	lab_cell.how = seen.how;
	lab_cell.first_bad = seen.first_wrong;
	/* A storm without one of them was none. */
	if (seen.hits[TIMER] && seen.hits[IPI] && seen.hits[NMI])
		lab_cell.hits = all_hits();
	print("# %lu updates; in a call: %lu timer interrupts, %lu IPIs, %lu NMIs; "
	      "%lu NMIs in another's handler\n",
	      done, seen.hits[TIMER], seen.hits[IPI], seen.hits[NMI], seen.nested);
}

/* @n: ten hits for each. */
void lab_run_storm(uint64_t n)
{
	trap_handler_t timer = trap_set(VEC_TIMER, on_timer);
	trap_handler_t ipi = trap_set(VEC_TEST, on_ipi);
	trap_handler_t nmi = trap_set(VEC_NMI, on_nmi);

	memset(&seen, 0, sizeof(seen));
	memset(timer_is_set, 0, sizeof(timer_is_set));
	started = done = 0;
	stop = false;
	lab_on_step = NULL;
	update(0);
	for (unsigned i = 1; i < nr_cpus; i++)
		smp_start(i, caller, NULL);
	lab_stepwise = true;
	update_all(10 * n);
	lab_stepwise = false;
	report();
	trap_set(VEC_TIMER, timer);
	trap_set(VEC_TEST, ipi);
	trap_set(VEC_NMI, nmi);
}
