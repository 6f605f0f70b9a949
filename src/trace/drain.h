/* SPDX-License-Identifier: MIT */
/* SHUNT_TRACE_ALL: the events of all rings to the session's file. */
#ifndef SHUNT_TRACE_DRAIN_H
#define SHUNT_TRACE_DRAIN_H

#include <stdbool.h>

/* Lock held. @is_last: no hook begins any more, and those that run are waited for. */
void trace_drain(bool is_last);

#endif
