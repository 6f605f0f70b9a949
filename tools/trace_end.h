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

#endif
