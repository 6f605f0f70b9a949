/* SPDX-License-Identifier: MIT */
/*
 * The suite in one file, but for the targets, which stay functions of another: half the price
 * of one file each (../matrix/matrix.py --quick).
 */
#include "suite.c"
#include "suite_calls.c"
#include "suite_early.c"
#include "suite_inspect.c"
#include "suite_modules.c"
#include "suite_threads.c"
