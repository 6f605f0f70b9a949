/* SPDX-License-Identifier: MIT */
/* CRC-32C (Castagnoli), by the processor's own instruction where it has one. */
#include "trace_file.h"

#define POLYNOMIAL 0x82f63b78u /* reflected */

__attribute__((target("sse4.2"))) static uint32_t
by_instruction(uint32_t crc, const unsigned char *data, size_t size)
{
	uint64_t wide = crc, word;

	for (; size >= sizeof(word); size -= sizeof(word), data += sizeof(word)) {
		memcpy(&word, data, sizeof(word));
		wide = __builtin_ia32_crc32di(wide, word);
	}
	crc = (uint32_t)wide;
	for (; size; size--)
		crc = __builtin_ia32_crc32qi(crc, *data++);
	return crc;
}

static uint32_t by_table(uint32_t crc, const unsigned char *data, size_t size)
{
	static uint32_t table[256];

	if (!table[1])
		for (uint32_t i = 0; i < 256; i++) {
			uint32_t entry = i;

			for (int bit = 0; bit < 8; bit++)
				entry = entry >> 1 ^ (entry & 1 ? POLYNOMIAL : 0);
			table[i] = entry;
		}
	for (; size; size--)
		crc = crc >> 8 ^ table[(crc ^ *data++) & 0xff];
	return crc;
}

uint32_t trace_crc(uint32_t crc, const void *data, size_t size)
{
	if (__builtin_cpu_supports("sse4.2"))
		return ~by_instruction(~crc, data, size);
	return ~by_table(~crc, data, size);
}
