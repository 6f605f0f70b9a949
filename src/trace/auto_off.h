/* SPDX-License-Identifier: MIT */
/* Functions that are short and called very often are switched off. */
#ifndef SHUNT_TRACE_AUTO_OFF_H
#define SHUNT_TRACE_AUTO_OFF_H

#include <stdint.h>

#include "trace/ring.h"

void trace_auto_off_begin(uint64_t below_ns);
/* Lock held. Events of one thread, in order: @scale calls stand for each. */
void trace_auto_off_see(const struct trace_slot *slots, uint64_t n, uint64_t scale);
void trace_auto_off_look(void); /* lock held; now and then */

#endif
