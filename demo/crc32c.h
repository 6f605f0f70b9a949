/* SPDX-License-Identifier: MIT */
/*
 * CRC-32C (Castagnoli) four times over: the same digest at four very different
 * speeds, which is what makes it worth switching between them at run time.
 */
#ifndef DEMO_CRC32C_H
#define DEMO_CRC32C_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * All implementations keep the same convention: @crc is 0 for a new digest, or
 * what a call for the bytes before @buf returned; the inversions at both ends
 * are done inside. Any @buf alignment, any @len, 0 included. Thread-safe once
 * crc32c_init() has returned.
 */
typedef uint32_t crc32c_fn(uint32_t crc, const void *buf, size_t len);

crc32c_fn crc32c_bitwise;
crc32c_fn crc32c_table;
crc32c_fn crc32c_slicing_by_8;
/* Only where crc32c_have_sse42() says yes: an illegal instruction elsewhere. */
crc32c_fn crc32c_sse42;

/* Fills the tables. Once, before any digest and before any other thread. */
void crc32c_init(void);

bool crc32c_have_sse42(void);

#endif
