/* SPDX-License-Identifier: MIT */
/*
 * The engine of function tracing, faked: what the recorder calls of libshunt, and calls of
 * functions that are none, made by the test.
 */
#ifndef SHUNT_TESTS_FAKE_ENGINE_H
#define SHUNT_TESTS_FAKE_ENGINE_H

#include <stdint.h>

#include "core/ftrace_raw.h"

enum { FAKE_FUNCTIONS = 8 };
#define FAKE_ENTRY(i) (0x400000u + 16u * (i))

struct fake_engine {
	struct shunt_raw_ops *_Atomic raw; /* that is registered */
	_Atomic uint64_t off;              /* bit i: function i was switched off */
	int register_error;
	void (*in_middle)(void); /* of each call of the engine; NULL: nothing */
	int extra_modules;       /* loaded besides */
	char message[512];       /* the last one */
};
extern struct fake_engine fake;

/* An entry, or a return, of function @i with its return address at @sp. */
static inline void fake_enter(unsigned i, uintptr_t sp)
{
	struct shunt_raw_ops *raw = fake.raw;

	if (raw && !(fake.off >> i & 1))
		raw->entry(FAKE_ENTRY(i), sp, raw->ret ? SHUNT_RAW_ENTRY : SHUNT_RAW_NO_RETURN);
}

static inline void fake_tail(unsigned i, uintptr_t sp)
{
	struct shunt_raw_ops *raw = fake.raw;

	if (raw)
		raw->entry(FAKE_ENTRY(i), sp, SHUNT_RAW_TAIL);
}

static inline void fake_return(uintptr_t sp)
{
	struct shunt_raw_ops *raw = fake.raw;

	if (raw && raw->ret)
		raw->ret(0, sp);
}

/* A call that does nothing. */
static inline void fake_call(unsigned i, uintptr_t sp)
{
	fake_enter(i, sp);
	fake_return(sp);
}

#endif
