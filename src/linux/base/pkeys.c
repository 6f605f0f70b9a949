/* SPDX-License-Identifier: MIT */
/* Memory protection keys. valgrind does not have them. */
#include <cpuid.h>

#include "linux/base/pkeys.h"
#include "linux/base/valgrind.h"

bool shunt_uses_keys(void)
{
	static enum { NOT_ASKED, NONE, KEYS } keys; /* update lock */
	unsigned eax, ebx, ecx = 0, edx;

	if (keys == NOT_ASKED)
		keys = !shunt_is_translated() && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) &&
				       ecx >> 4 & 1
			       ? KEYS
			       : NONE;
	return keys == KEYS;
}
