/* SPDX-License-Identifier: MIT */
/*
 * A trap preserves everything. Each instruction that a site can hold is executed
 * with known contents in every register of the CPU, first without a trap, then in
 * each phase of each update; whatever the second differs in from the first, at the
 * target or behind the site, is a failure.
 *
 * The red zone is live at all sites but the calls: they are leaves, be it that
 * they end in a (conditional) tail call or that the key is NULL.
 */
#include <stdlib.h>

#include "phase.h"
#include "regs_key.h"
#include "tap.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif

/* Thread sanitizer takes ten times as long, for its shadow of each copy. */
#ifdef __SANITIZE_THREAD__
#define PATTERNS 8
#else
#define PATTERNS REGS_PATTERNS
#endif

DEFINE_STATIC_CALL_NULL(regs, regs_target_a);

/* Without traps; by state of the key, site and pattern. */
static struct regs_result (*references)[REGS_FRAGS][PATTERNS];

static struct {
	enum regs_state from, to;
	bool pending;
	unsigned long executed, trapped, reached;
} now;

/* ----------------------------------------------------------- without a trap */

static bool condition_holds(const struct regs_result *result)
{
	return result->at_target.times || result->target;
}

/*
 * What the CPU does by itself is what was loaded, or the test shows nothing: a
 * call of a or b reaches it with everything in place, NULL leaves all alone but, where it is a
 * test, the flags that a call leaves undefined.
 */
static void check_reference(enum regs_state state, const struct regs_frag *frag,
			    const struct regs_result *result)
{
	uint64_t target = (uint64_t)(state == REGS_A ? regs_target_a : regs_target_b);
	unsigned diff = regs_compare_loaded(&result->at_end);
	bool reached = condition_holds(result);

	if (state == REGS_RET0)
		diff &= ~(unsigned)(DIFF_GPR | DIFF_FLAGS);
	if (state == REGS_NULL && frag->is_call)
		diff &= ~(unsigned)DIFF_FLAGS;
	tap_check(!diff && result->at_end.times == 1, "%s %s without a trap: changes %s",
		  frag->name, regs_state_name(state), regs_diff_text(diff));
	if (state == REGS_NULL || state == REGS_RET0) {
		tap_check(!reached, "%s %s reaches a target", frag->name, regs_state_name(state));
		return;
	}
	tap_check(reached || frag->conditional, "%s does not reach its target", frag->name);
	if (!reached)
		return;
	diff = regs_compare_loaded(&result->at_target);
	tap_check(!diff && result->at_target.times == 1 && result->target == target,
		  "%s %s without a trap: changes %s", frag->name, regs_state_name(state),
		  regs_diff_text(diff));
}

static void take_references(enum regs_state state)
{
	uint64_t traps = phase_count_traps();
	unsigned reached = 0;

	for (unsigned f = 0; f < REGS_FRAGS; f++) {
		for (unsigned p = 0; p < PATTERNS; p++) {
			struct regs_result *r = &references[state][f][p];

			regs_execute(&regs_frags[f], p, now.pending, r);
			check_reference(state, &regs_frags[f], r);
			if (regs_frags[f].conditional)
				reached += condition_holds(r);
		}
	}
	tap_check(phase_count_traps() == traps, "traps where there should be none");
	/* The 16 conditions are 8 and their opposites: each pattern satisfies half. */
	if (state == REGS_A || state == REGS_B)
		tap_check(reached == 8 * PATTERNS, "%u conditional calls were taken", reached);
}

/* --------------------------------------------------------------- with traps */

/*
 * Intel leaves AF undefined behind xor and test, and what the CPU makes of it is not
 * emulated. What a test makes of the others hangs on what was called last, which differs from one
 * NULL to the next; unit/emulate holds them against the CPU.
 */
static void drop_undefined(const struct regs_frag *frag, enum regs_state state,
			   struct regs_result *result)
{
	if (state == REGS_RET0 && frag->is_call)
		result->at_end.flags &= ~(uint64_t)0x10;
	if (state == REGS_NULL && frag->is_call)
		result->at_end.flags &= ~(uint64_t)0x8d5;
}

static void execute_in(enum phase phase, unsigned f, unsigned p)
{
	enum regs_state state = phase_is_new(phase) ? now.to : now.from;
	const struct regs_frag *frag = &regs_frags[f];
	struct regs_result reference = references[state][f][p], result;
	uint64_t before = phase_count_traps(), traps;
	unsigned diff;

	regs_execute(frag, p, now.pending, &result);
	traps = phase_count_traps() - before;
	phase_check_traps(phase, traps, 1, frag->name);
	drop_undefined(frag, state, &reference);
	drop_undefined(frag, state, &result);
	diff = regs_compare(&reference, &result);
	tap_check(!diff, "%s %s, pattern %u, %s: a trap changes %s", frag->name,
		  regs_state_name(state), p, phase_name(phase), regs_diff_text(diff));
	now.executed++;
	now.trapped += traps;
	now.reached += condition_holds(&result);
}

static void on_phase(enum phase phase)
{
	for (unsigned f = 0; f < REGS_FRAGS; f++)
		for (unsigned p = 0; p < PATTERNS; p++)
			execute_in(phase, f, p);
}

static void go(enum regs_state to)
{
	now.to = to;
	phase_update(regs_update, (int)to);
	now.from = to;
}

/* From each state to each other one: twelve changes in one round. */
static void run(enum phase_thread thread, bool pending)
{
	static const enum regs_state round[] = {REGS_B,    REGS_A,    REGS_NULL, REGS_A,
						REGS_RET0, REGS_B,    REGS_NULL, REGS_B,
						REGS_RET0, REGS_NULL, REGS_RET0, REGS_A};

	now.pending = pending;
	now.executed = now.trapped = now.reached = 0;
	for (int state = REGS_STATES - 1; state >= 0; state--) {
		tap_check(!regs_update(state), "static_call_update");
		take_references((enum regs_state)state);
	}
	now.from = REGS_A;
	phase_begin(thread, on_phase);
	for (unsigned i = 0; i < sizeof(round) / sizeof(round[0]); i++)
		go(round[i]);
	phase_end();
	tap_check(now.trapped >= 12ul * 3 * REGS_FRAGS * PATTERNS, "too few traps");
	tap_case("%s%s: %lu executions, %lu traps, %lu at a target", phase_thread_name(thread),
		 pending ? ", floating-point exceptions pending" : "", now.executed, now.trapped,
		 now.reached);
}

int main(void)
{
	references = calloc(REGS_STATES, sizeof(*references));
	if (!references)
		return 1;
	if (!regs_init()) {
		tap_skip("registers", "no xsave on this machine");
		return tap_done();
	}
	for (int thread = 0; thread < PHASE_THREADS; thread++)
		run((enum phase_thread)thread, thread & 1);
	free(references);
	return tap_done();
}
