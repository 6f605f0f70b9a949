/* SPDX-License-Identifier: MIT */
/* Memory protection keys. valgrind does not have them. */
#include "linux/base/pkeys.h"
#include "linux/base/valgrind.h"

bool shunt_uses_keys(void)
{
	static enum { NOT_ASKED, NONE, KEYS } keys; /* update lock */

	if (keys == NOT_ASKED)
		keys = !shunt_is_translated() && shunt_has_keys() ? KEYS : NONE;
	return keys == KEYS;
}
