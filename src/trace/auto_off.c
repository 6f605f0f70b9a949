/* SPDX-License-Identifier: MIT */
/*
 * Functions that are short and called very often are switched off while the session runs: their
 * calls cost most and say least. Counted are calls in which nothing else was traced, an entry with
 * its return right behind it, as they come by on their way to the file (or, of the flight recorder,
 * a sample of them). What is switched off stands in the file, with the calls until then.
 */
#include <string.h>

#include "trace/auto_off.h"
#include "trace/catalogue.h"
#include "trace/clock.h"
#include "trace/ring.h"
#include "trace/state.h"

enum {
	FUNCTIONS = 4096,       /* that are counted at the same time; a power of 2 */
	PROBES = 8,             /* places that one may be in */
	SWITCHED_OFF_MAX = 512, /* in a session */
	OFTEN = 100000,         /* calls a second */
	WINDOW_NS = 100000000,
};

static struct counted {
	uint64_t ip;
	uint64_t calls, ticks; /* in this window */
	uint64_t all_calls, all_ticks;
	bool is_off;
} functions[FUNCTIONS];

static uint64_t below; /* ticks; 0: nothing is switched off */
static uint64_t window_start;

static uint64_t in_ticks(uint64_t ns)
{
	trace_wide ticks = ((trace_wide)ns * trace_session.rate) / 1000000000u;

	return ticks > UINT64_MAX ? UINT64_MAX : (uint64_t)ticks;
}

void trace_auto_off_begin(uint64_t below_ns)
{
	memset(functions, 0, sizeof(functions));
	below = below_ns == UINT64_MAX ? 0 : in_ticks(below_ns);
	window_start = trace_now();
}

/*
 * Its place, or one that becomes its: empty, or of a function that was not called in this window.
 * NULL: there is none.
 */
static struct counted *find(uint64_t ip)
{
	uint64_t at = (ip * 0x9e3779b97f4a7c15ull) >> 52;
	struct counted *idle = NULL;

	for (unsigned i = 0; i < PROBES; i++) {
		struct counted *f = &functions[(at + i) % FUNCTIONS];

		if (!f->ip)
			f->ip = ip;
		if (f->ip == ip)
			return f;
		if (!idle && !f->calls && !f->is_off)
			idle = f;
	}
	if (idle)
		*idle = (struct counted){.ip = ip};
	return idle;
}

static uint64_t kind_of(uint64_t word1)
{
	return word1 >> 62;
}

/* The two events are of the same call: kind aside, and the address, which a return need not have.
 */
static bool is_same_stack(const uint64_t *entry, const uint64_t *ret)
{
	const uint64_t high = ((1ull << 62) - 1) & ~((1ull << TRACE_ADDR_BITS) - 1);

	return (entry[0] & 0x7fff) == (ret[0] & 0x7fff) && (entry[1] & high) == (ret[1] & high);
}

static void see_call(const uint64_t *entry, const uint64_t *ret, uint64_t scale)
{
	uint64_t ticks = (ret[0] >> 15) - (entry[0] >> 15);
	struct counted *f;

	if (kind_of(entry[1]) != TRACE_ENTRY || kind_of(ret[1]) != TRACE_RETURN ||
	    !is_same_stack(entry, ret) || ticks >> 40)
		return;
	f = find(entry[1] & ((1ull << TRACE_ADDR_BITS) - 1));
	if (!f)
		return;
	f->calls += scale;
	f->ticks += scale * ticks;
}

void trace_auto_off_see(const struct trace_slot *slots, uint64_t n, uint64_t scale)
{
	uint64_t last[2] = {0}, event[2];

	if (!below)
		return;
	for (uint64_t i = 0; i < n; i++) {
		event[0] = atomic_load_explicit(&slots[i].word[0], memory_order_relaxed);
		event[1] = atomic_load_explicit(&slots[i].word[1], memory_order_relaxed);
		if (i)
			see_call(last, event, scale);
		last[0] = event[0];
		last[1] = event[1];
	}
}

static void switch_off(struct counted *f, uint64_t now)
{
	struct trace_off off = {f->ip, f->all_calls, now, f->all_ticks};

	f->is_off = true; /* whether or not it can be: it is not tried again */
	if (ftrace_set_filter_ip(&trace_session.raw.ops, f->ip, 1, 0))
		return;
	trace_session.totals.switched_off++;
	(void)trace_catalogue_add(TRACE_CHUNK_OFF, &off, sizeof(off));
}

void trace_auto_off_look(void)
{
	uint64_t now = trace_now(), window = now - window_start;
	uint64_t often = (uint64_t)(((trace_wide)window * OFTEN) /
				    (trace_session.rate ? trace_session.rate : 1));

	if (!below || window < in_ticks(WINDOW_NS))
		return;
	for (unsigned i = 0; i < FUNCTIONS; i++) {
		struct counted *f = &functions[i];

		f->all_calls += f->calls;
		f->all_ticks += f->ticks;
		if (f->calls > often && f->ticks / f->calls < below && !f->is_off &&
		    trace_session.totals.switched_off < SWITCHED_OFF_MAX)
			switch_off(f, now);
		f->calls = f->ticks = 0;
	}
	window_start = now;
}
