/* SPDX-License-Identifier: MIT */
/* How many file descriptors this process may have. */
#ifndef SHUNT_TESTS_DESCRIPTOR_LIMIT_H
#define SHUNT_TESTS_DESCRIPTOR_LIMIT_H

#include <stdbool.h>
#include <sys/resource.h>

/* No number from @to on is given out; no more than the hard limit. */
static inline bool limit_descriptors(rlim_t to)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l))
		return false;
	l.rlim_cur = to < l.rlim_max ? to : l.rlim_max;
	return !setrlimit(RLIMIT_NOFILE, &l);
}

#endif
