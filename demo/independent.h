/* SPDX-License-Identifier: MIT */
/*
 * The second opinion: CRC-32C as librhash computes it, which shares no code with
 * crc32c.c.
 */
#ifndef DEMO_INDEPENDENT_H
#define DEMO_INDEPENDENT_H

#include "corpus.h"
#include "crc32c.h"

/* Once, before the others. Returns 0, or -EIO where librhash gets a known digest wrong. */
int independent_init(void);

/* Whether @digest gives the published check value of CRC-32C (for "123456789"). */
bool independent_known_answer(crc32c_fn *digest);

/*
 * Compares digests[i] with librhash's digest of file i, for every file of the
 * corpus; names the first few that differ on stderr, as @whose. Returns how many
 * differ, or -EIO where librhash fails.
 */
long independent_compare(const struct corpus *corpus, const uint32_t *digests, const char *whose);

#endif
