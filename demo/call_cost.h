/* SPDX-License-Identifier: MIT */
/*
 * What a call costs, by how the callee is reached.
 */
#ifndef DEMO_CALL_COST_H
#define DEMO_CALL_COST_H

enum {
	CALL_DIRECT,
	CALL_STATIC,
	CALL_POINTER,
	CALL_RETPOLINE,
	CALL_KINDS,
};

struct call_cost {
	const char *name;
	/* nanoseconds a call, loop included, over the rounds */
	double median, min, max;
};

/*
 * Measures all kinds in interleaved rounds; about a quarter of a second. Meant for
 * an otherwise idle process. Returns 0, -errno of the static call's update, or -EIO
 * where a call did not reach the callee.
 */
int call_cost_measure(struct call_cost costs[CALL_KINDS]);

#endif
