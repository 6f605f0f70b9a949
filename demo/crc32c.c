/* SPDX-License-Identifier: MIT */
/*
 * The four implementations of CRC-32C. Each stands alone; they share nothing but
 * the polynomial and the tables, so that a mistake in one shows against the others.
 */
#include "crc32c.h"

#include <immintrin.h>
#include <string.h>

/* 0x1edc6f41 with its bits reversed: the digest is computed least significant bit first. */
#define POLYNOMIAL 0x82f63b78u

/* tables[k][b]: what byte b does to the digest when k zero bytes follow it. */
static uint32_t tables[8][256];

static uint32_t shift_byte(uint32_t crc)
{
	for (int bit = 0; bit < 8; bit++)
		crc = (crc >> 1) ^ (POLYNOMIAL & (0u - (crc & 1)));
	return crc;
}

void crc32c_init(void)
{
	for (uint32_t b = 0; b < 256; b++)
		tables[0][b] = shift_byte(b);
	for (size_t k = 1; k < 8; k++) {
		for (size_t b = 0; b < 256; b++) {
			uint32_t prev = tables[k - 1][b];
			tables[k][b] = (prev >> 8) ^ tables[0][prev & 0xff];
		}
	}
}

bool crc32c_have_sse42(void)
{
	return __builtin_cpu_supports("sse4.2") != 0;
}

uint32_t crc32c_bitwise(uint32_t crc, const void *buf, size_t len)
{
	const unsigned char *p = buf;

	crc = ~crc;
	for (size_t i = 0; i < len; i++)
		crc = shift_byte(crc ^ p[i]);
	return ~crc;
}

uint32_t crc32c_table(uint32_t crc, const void *buf, size_t len)
{
	const unsigned char *p = buf;

	crc = ~crc;
	for (size_t i = 0; i < len; i++)
		crc = (crc >> 8) ^ tables[0][(crc ^ p[i]) & 0xff];
	return ~crc;
}

/* Eight independent look-ups a step instead of eight that wait for one another. */
uint32_t crc32c_slicing_by_8(uint32_t crc, const void *buf, size_t len)
{
	const unsigned char *p = buf;

	crc = ~crc;
	for (; len >= 8; len -= 8, p += 8) {
		uint64_t word;

		memcpy(&word, p, sizeof(word));
		word ^= crc;
		crc = tables[7][word & 0xff] ^ tables[6][word >> 8 & 0xff] ^
		      tables[5][word >> 16 & 0xff] ^ tables[4][word >> 24 & 0xff] ^
		      tables[3][word >> 32 & 0xff] ^ tables[2][word >> 40 & 0xff] ^
		      tables[1][word >> 48 & 0xff] ^ tables[0][word >> 56];
	}
	for (; len > 0; len--, p++)
		crc = (crc >> 8) ^ tables[0][(crc ^ *p) & 0xff];
	return ~crc;
}

__attribute__((target("sse4.2"))) uint32_t crc32c_sse42(uint32_t crc, const void *buf, size_t len)
{
	const unsigned char *p = buf;
	uint64_t wide = ~crc;

	for (; len >= 8; len -= 8, p += 8) {
		uint64_t word;

		memcpy(&word, p, sizeof(word));
		wide = _mm_crc32_u64(wide, word);
	}
	crc = (uint32_t)wide;
	for (; len > 0; len--, p++)
		crc = _mm_crc32_u8(crc, *p);
	return ~crc;
}
