/* SPDX-License-Identifier: MIT */
/* Functions that are traced, for exceptions to pass through, and deep calls that return. */
#ifndef SHUNT_TESTS_THROWN_H
#define SHUNT_TESTS_THROWN_H

#include "../api/tap.h"

namespace
{

volatile long sink;

struct Thrown {
	long value;
};

/* Its destructor is traced. */
struct Counter {
	long *count;
	KEEP ~Counter()
	{
		++*count;
	}
};

/* Throws at the bottom; each frame has an object, and each @Every-th rethrows. */
template <long Every> KEEP long dive(long depth, long *destroyed)
{
	Counter counter{destroyed};

	if (!depth)
		throw Thrown{42};
	if (depth % Every)
		return dive<Every>(depth - 1, destroyed) + 1;
	try {
		return dive<Every>(depth - 1, destroyed) + 1;
	} catch (const Thrown &thrown) {
		sink = thrown.value;
		throw;
	}
}

/* Whether what is thrown @depth calls below comes here, through a destructor in each. */
template <long Every> KEEP bool catches(long depth)
{
	long destroyed = 0;

	try {
		sink = dive<Every>(depth, &destroyed);
	} catch (const Thrown &thrown) {
		return thrown.value == 42 && destroyed == depth + 1;
	}
	return false;
}

KEEP long recurse(long depth)
{
	long below = depth ? recurse(depth - 1) + 1 : 0;

	sink = below;
	return below;
}

} // namespace

#endif
