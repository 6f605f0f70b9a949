/* SPDX-License-Identifier: MIT */
/* What a static call may pass through on its way. */
#ifndef SHUNT_TESTS_UNWIND_PASSAGES_H
#define SHUNT_TESTS_UNWIND_PASSAGES_H

/* Bytes and instructions of what is passed through. */
#ifdef __aarch64__
enum {
	TRAMPOLINE_BYTES = 16,
	TRAMPOLINE_STEPS = 4,
	AREA_VENEER_BYTES = 16,
	VENEER_BYTES = 16,
	AREA_VENEER_STEPS = 4,
	POOL_VENEER_STEPS = 3,
	RETURN0_BYTES = 12,
	NOP_BYTES = 8,
};
#else
enum {
	TRAMPOLINE_BYTES = 10,
	TRAMPOLINE_STEPS = 2,
	AREA_VENEER_BYTES = 8,
	VENEER_BYTES = 6,
	AREA_VENEER_STEPS = 1,
	POOL_VENEER_STEPS = 1,
	RETURN0_BYTES = 7,
	NOP_BYTES = 5,
};
#endif

#endif
