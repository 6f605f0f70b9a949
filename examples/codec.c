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

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

static const char digits[] = "0123456789abcdef";

/* Write @n bytes as 2 * @n hexadecimal digits. */
static void hex_portable(char *out, const uint8_t *in, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		*out++ = digits[in[i] >> 4];
		*out++ = digits[in[i] & 15];
	}
}

#if defined(__x86_64__)
#define VECTOR "SSSE3"

static bool cpu_has_vectors(void)
{
	return __builtin_cpu_supports("ssse3");
}

__attribute__((target("ssse3"))) static void hex_vector(char *out, const uint8_t *in, size_t n)
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
#elif defined(__aarch64__)
#define VECTOR "NEON"

/* Each such CPU has them. */
static bool cpu_has_vectors(void)
{
	return true;
}

static void hex_vector(char *out, const uint8_t *in, size_t n)
{
	const uint8x16_t table = vld1q_u8((const uint8_t *)digits);

	for (; n >= 16; n -= 16, in += 16, out += 32) {
		uint8x16_t bytes = vld1q_u8(in);
		uint8x16x2_t both = {{vqtbl1q_u8(table, vshrq_n_u8(bytes, 4)),
				      vqtbl1q_u8(table, vandq_u8(bytes, vdupq_n_u8(15)))}};

		vst2q_u8((uint8_t *)out, both);
	}
	hex_portable(out, in, n);
}
#else
#define VECTOR "by vectors"

static bool cpu_has_vectors(void)
{
	return false;
}

static void hex_vector(char *out, const uint8_t *in, size_t n)
{
	hex_portable(out, in, n);
}
#endif

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

	if (cpu_has_vectors() && static_call_update(hex, hex_vector))
		fprintf(stderr, "still portable: %s\n", shunt_last_error());

	print("after: 16 bytes at a time, where the CPU can");
	fprintf(stderr, "hex is %s\n", static_call_query(hex) == hex_vector ? VECTOR : "portable");
	return 0;
}
