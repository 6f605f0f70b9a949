/* SPDX-License-Identifier: MIT */
/* CRC-32C by SSE4.2 (trace_crc.h). */
#include "trace_crc.h"

#include <string.h>

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

bool trace_crc_by_instruction(uint32_t crc, const unsigned char *data, size_t size,
			      uint32_t *result)
{
	if (!__builtin_cpu_supports("sse4.2"))
		return false;
	*result = by_instruction(crc, data, size);
	return true;
}
