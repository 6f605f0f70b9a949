/* SPDX-License-Identifier: MIT */
/*
 * A codec with an implementation for each kind of CPU, chosen once at start. Every
 * call of it is a direct call of the right one afterwards: no function pointer, no
 * PLT, no ifunc resolver that runs before main().
 *
 *	cc codec.c $(pkg-config --cflags --libs shunt) && ./a.out
 */
#include <shunt/inspect.h>
#include <shunt/static_call.h>

#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static const char digits[] = "0123456789abcdef";

/* Write @n bytes as 2 * @n hexadecimal digits. */
static void hex_portable(char *out, const uint8_t *in, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		*out++ = digits[in[i] >> 4];
		*out++ = digits[in[i] & 15];
	}
}

__attribute__((target("ssse3"))) static void hex_ssse3(char *out, const uint8_t *in, size_t n)
{
	const __m128i table = _mm_loadu_si128((const __m128i *)digits);
	const __m128i low_bits = _mm_set1_epi8(15);

	for (; n >= 16; n -= 16, in += 16, out += 32) {
		__m128i bytes = _mm_loadu_si128((const __m128i *)in);
		__m128i high = _mm_and_si128(_mm_srli_epi16(bytes, 4), low_bits);
		__m128i low = _mm_and_si128(bytes, low_bits);

		high = _mm_shuffle_epi8(table, high);
		low = _mm_shuffle_epi8(table, low);
		_mm_storeu_si128((__m128i *)out, _mm_unpacklo_epi8(high, low));
		_mm_storeu_si128((__m128i *)(out + 16), _mm_unpackhi_epi8(high, low));
	}
	hex_portable(out, in, n);
}

DEFINE_STATIC_CALL(hex, hex_portable);

static void print(const char *text)
{
	char out[2 * 64 + 1] = "";

	static_call(hex)(out, (const uint8_t *)text, strlen(text));
	puts(out);
}

int main(void)
{
	print("before: any CPU runs this");

	if (__builtin_cpu_supports("ssse3") && static_call_update(hex, hex_ssse3))
		fprintf(stderr, "still portable: %s\n", shunt_last_error());

	print("after: 16 bytes at a time, where the CPU can");
	fprintf(stderr, "hex is %s\n", static_call_query(hex) == hex_ssse3 ? "SSSE3" : "portable");
	return 0;
}
