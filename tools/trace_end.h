/* SPDX-License-Identifier: MIT */
/* What a recording ends with, by its last bytes alone. */
#ifndef SHUNT_TOOLS_TRACE_END_H
#define SHUNT_TOOLS_TRACE_END_H

#include <stdbool.h>

/* Whether a file of a session, open for reading, ends as the recorder ends it. */
bool trace_words_has_end(int fd);

/*
 * What writing such a file, or the last save to it, has failed with, as the file says: errno. 0: it
 * does not say so. (A save that was killed in the middle has no end, and no failure.)
 */
int trace_words_failure(int fd);

/*
 * Of a file without an end, what its process may have done, or did: one that ends, or executes
 * another program, by functions of the C library says so in the file, as far as it can be written.
 */
#define TRACE_NO_END \
	"was killed, ended or executed another program without saying so, or could not write it"
#define TRACE_PAST_EXEC "called exec() while other threads were recorded"

#endif
