/* SPDX-License-Identifier: MIT */
/* The kinds of entries that this program was built with. */
#include "trace.h"

#define LOOPS(kind) TRACE_HIDDEN trace_loop_fn trace_loop_f_##kind, trace_loop_fresh_##kind
#define KIND(kind, text, is_sled)                                                             \
	{                                                                                     \
		text, "trace_f_" #kind, trace_loop_f_##kind, trace_loop_fresh_##kind, is_sled \
	}

LOOPS(patchable);
LOOPS(fentry);
LOOPS(instrument);
#ifdef TRACE_HAVE_XRAY
LOOPS(xray);
#endif

const struct trace_kind trace_kinds[] = {
	KIND(patchable, "patchable", false),
	KIND(fentry, "fentry", false),
#ifdef TRACE_HAVE_XRAY
	KIND(xray, "xray", true),
#endif
	KIND(instrument, "instrument", true),
	{0},
};
