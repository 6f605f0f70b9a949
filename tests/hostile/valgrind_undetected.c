/* SPDX-License-Identifier: MIT */
/*
 * The control of the row of valgrind by int3: the trap path as it is, but for asking
 * valgrind something that it does not know. So it takes itself for native.
 */
#include "linux/base/valgrind.h"

#define shunt_is_translated() false

#include "linux/trap/sigtrap.c" /* NOLINT(bugprone-suspicious-include) */
