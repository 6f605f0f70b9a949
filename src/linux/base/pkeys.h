/* SPDX-License-Identifier: MIT */
/* Memory protection keys (pkeys.c); a thread's rights to them are in arch/process.h. */
#ifndef SHUNT_LINUX_PKEYS_H
#define SHUNT_LINUX_PKEYS_H

#include <stdbool.h>
#include <stdint.h>

#include "arch/process.h"

/* Whether this CPU has protection keys and the kernel uses them. Update lock held. */
bool shunt_uses_keys(void);

#endif
