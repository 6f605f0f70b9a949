/* SPDX-License-Identifier: MIT */
/*
 * Machine code that a test writes into memory itself, of the CPU that it is built for: sites that
 * are a nop or a jump, and functions that return a number. All of it are initializers of arrays of
 * bytes.
 *
 *	SITE_LEN           bytes of a site
 *	SITE_ALIGN         what its address is a multiple of; 1: it may cross from one page
 *	                   to the next
 *	SITE_NOP           a site that does nothing
 *	SITE_JMP(to)       one that jumps to @to bytes behind its own address, a constant
 *	SITE_OFF(to)       the same, switched off: what differs is what a flip writes
 *	CODE_RETURN(n)     a function that returns @n, 0 to 255, and
 *	CODE_RETURN_LEN    how long it is
 */
#ifndef SHUNT_TESTS_SITE_CODE_H
#define SHUNT_TESTS_SITE_CODE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define BYTE_OF(word, i) (uint8_t)((uint32_t)(word) >> 8 * (i))
#define WORD_BYTES(word) BYTE_OF(word, 0), BYTE_OF(word, 1), BYTE_OF(word, 2), BYTE_OF(word, 3)

#if defined(__x86_64__)

#define SITE_LEN   5
#define SITE_ALIGN 1
#define SITE_NOP                       \
	{                              \
		0x0f, 0x1f, 0x44, 0, 0 \
	}
#define SITE_JMP(to)                            \
	{                                       \
		0xe9, WORD_BYTES((to)-SITE_LEN) \
	}

#define SITE_OFF(to)                            \
	{                                       \
		0xa9, WORD_BYTES((to)-SITE_LEN) \
	}

#define CODE_RETURN_LEN 6
#define CODE_RETURN(n)                    \
	{                                 \
		0xb8, WORD_BYTES(n), 0xc3 \
	}

#elif defined(__aarch64__)

#define SITE_LEN   4
#define SITE_ALIGN 4
#define SITE_NOP                        \
	{                               \
		WORD_BYTES(0xd503201fu) \
	}
#define SITE_JMP(to)                                                          \
	{                                                                     \
		WORD_BYTES(0x14000000u | ((uint32_t)((to) / 4) & 0x3ffffffu)) \
	}

#define SITE_OFF(to) SITE_NOP

#define CODE_RETURN_LEN 8
#define CODE_RETURN(n)                                                                \
	{                                                                             \
		WORD_BYTES(0x52800000u | (uint32_t)(n) << 5), WORD_BYTES(0xd65f03c0u) \
	}

#endif

/* What is written can be executed behind it, once the page may. */
static inline void write_code(uint8_t *at, const void *bytes, size_t len)
{
	memcpy(at, bytes, len);
	__builtin___clear_cache((char *)at, (char *)at + len);
}

#endif
