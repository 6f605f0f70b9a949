/* SPDX-License-Identifier: MIT */
/* CRC-32C by the instructions of Armv8.1, optional before (trace_crc.h). */
#include "trace_crc.h"

#include <string.h>
#include <sys/auxv.h>

#define HAS_CRC32 (1u << 7) /* HWCAP_CRC32 */

__attribute__((target("+crc"))) static uint32_t
by_instruction(uint32_t crc, const unsigned char *data, size_t size)
{
	uint64_t word;

	for (; size >= sizeof(word); size -= sizeof(word), data += sizeof(word)) {
		memcpy(&word, data, sizeof(word));
		crc = __builtin_aarch64_crc32cx(crc, word);
	}
	for (; size; size--)
		crc = __builtin_aarch64_crc32cb(crc, *data++);
	return crc;
}

bool trace_crc_by_instruction(uint32_t crc, const unsigned char *data, size_t size,
			      uint32_t *result)
{
	if (!(getauxval(AT_HWCAP) & HAS_CRC32))
		return false;
	*result = by_instruction(crc, data, size);
	return true;
}
