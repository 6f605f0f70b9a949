/* SPDX-License-Identifier: MIT */
/*
 * The key whose sites regs.S has, and the four things that it can be.
 */
#ifndef TESTS_PRESERVE_REGS_KEY_H
#define TESTS_PRESERVE_REGS_KEY_H

#include <shunt/static_call.h>

#include "regs.h"

DECLARE_STATIC_CALL(regs, regs_target_a);

enum regs_state { REGS_A, REGS_B, REGS_NULL, REGS_RET0, REGS_STATES };

static inline const char *regs_state_name(enum regs_state state)
{
	static const char *const names[] = {"a", "b", "NULL", "RET0"};

	return names[state];
}

/* For phase_update(). */
static inline int regs_update(int state)
{
	switch (state) {
	case REGS_A:
		return static_call_update(regs, regs_target_a);
	case REGS_B:
		return static_call_update(regs, regs_target_b);
	case REGS_NULL:
		return static_call_update(regs, NULL);
	default:
		return static_call_update(regs, STATIC_CALL_RET0);
	}
}

#endif
