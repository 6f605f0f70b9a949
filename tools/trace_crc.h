/* SPDX-License-Identifier: MIT */
/* CRC-32C by an instruction of the processor (trace_crc_CPU.c). */
#ifndef SHUNT_TOOLS_TRACE_CRC_H
#define SHUNT_TOOLS_TRACE_CRC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Take @crc on over the @size bytes at @data: *result. False: it has no such instruction. */
bool trace_crc_by_instruction(uint32_t crc, const unsigned char *data, size_t size,
			      uint32_t *result);

#endif
