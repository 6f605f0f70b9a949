/* SPDX-License-Identifier: MIT */
/* CRC-32C (Castagnoli), by the processor's own instruction where it has one. */
#include "trace_file.h"

#include "trace_crc.h"

#define POLYNOMIAL 0x82f63b78u /* reflected */

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
	uint32_t result;

	return trace_crc_by_instruction(~crc, data, size, &result) ? ~result
								   : ~by_table(~crc, data, size);
}
