/* SPDX-License-Identifier: MIT */
/*
 * Nothing is made of several instructions here that were one, or the other way round: no thread is
 * moved from between them.
 */
#include "linux/sync/move.h"

void shunt_move_from_nops(void *context)
{
	(void)context;
}
