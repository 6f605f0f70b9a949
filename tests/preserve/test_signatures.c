/* SPDX-License-Identifier: MIT */
/*
 * Any signature. For each kind of argument and result that the ABI treats in its
 * own way there is a key, called from a call and from a tail position, in each
 * phase of each update; what the function was given and what its caller got are
 * compared bit by bit with a plain call of the same function.
 *
 * SIGNATURE(name, ...) makes, of one list of parameters and one body:
 *
 *	name_a(), name_b()   two functions, which differ in `who`
 *	name_tail()          return static_call(name)(...);
 *	name_run(how, out)   calls one of these, or the static call, and keeps the result
 *	name_update(state)
 */
#include <complex.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <shunt/inspect.h>

#include "phase.h"
#include "tap.h"

#if defined(__clang__)
#define ALONE __attribute__((noinline))
#else
#define ALONE __attribute__((noipa))
#endif

enum state { A, B, NONE, ZERO, STATES };
enum how { CALL = STATES, TAIL }; /* or a state: a plain call of that function */

/* What became of a call. */
struct outcome {
	uint64_t seen;             /* a digest of all that the function was given */
	unsigned calls;            /* of a function */
	unsigned char result[128]; /* its first bytes, as many as count */
};

static struct outcome *current;

static void note_bytes(const void *p, size_t size)
{
	const unsigned char *byte = p;

	for (size_t i = 0; i < size; i++)
		current->seen = (current->seen ^ byte[i]) * 0x100000001b3;
}

/* The first line of each function, and then a line for each argument. */
#define ENTER()                                 \
	do {                                    \
		current->calls++;               \
		current->seen ^= (unsigned)who; \
	} while (0)
#define NOTE(x) note_bytes(&(x), sizeof(x))

#define NO_ABI

#define FUNCTIONS(name, abi, ret, params, ...) \
	ALONE static abi ret name##_a params   \
	{                                      \
		const int who = 1;             \
		ENTER();                       \
		__VA_ARGS__                    \
	}                                      \
	ALONE static abi ret name##_b params   \
	{                                      \
		const int who = 2;             \
		ENTER();                       \
		__VA_ARGS__                    \
	}

#define TAIL_CALL(name, abi, ret, params, forward) \
	ALONE static abi ret name##_tail params    \
	{                                          \
		return static_call(name) forward;  \
	}

/* @size: how many bytes of the result count. */
#define RUN(name, ret, size, args, tail_args, plain_none)          \
	ALONE static void name##_run(int how, struct outcome *out) \
	{                                                          \
		ret r;                                             \
                                                                   \
		current = out;                                     \
		if (how == A)                                      \
			r = name##_a args;                         \
		else if (how == B)                                 \
			r = name##_b args;                         \
		else if (how == CALL)                              \
			r = static_call(name) args;                \
		else if (how == TAIL)                              \
			r = name##_tail tail_args;                 \
		else                                               \
			plain_none;                                \
		memcpy(out->result, &r, size);                     \
	}

#define UPDATE(name)                                                               \
	static int name##_update(int state)                                        \
	{                                                                          \
		return static_call_update(name, state == A ? name##_a : name##_b); \
	}

#define SIGNATURE(name, abi, ret, size, params, forward, args, ...) \
	FUNCTIONS(name, abi, ret, params, __VA_ARGS__)              \
	DEFINE_STATIC_CALL(name, name##_a);                         \
	TAIL_CALL(name, abi, ret, params, forward)                  \
	RUN(name, ret, size, args, args, abort())                   \
	UPDATE(name)

/* Nobody can hand on "...": the tail call has its arguments from nowhere. */
#define VARIADIC(name, ret, params, args, ...)            \
	FUNCTIONS(name, NO_ABI, ret, params, __VA_ARGS__) \
	DEFINE_STATIC_CALL(name, name##_a);               \
	TAIL_CALL(name, NO_ABI, ret, (void), args)        \
	RUN(name, ret, sizeof(ret), args, (), abort())    \
	UPDATE(name)

/* Starts out as RET0. */
#define RETURNS0(name, ret, params, forward, args, ...)                                            \
	FUNCTIONS(name, NO_ABI, ret, params, __VA_ARGS__)                                          \
	DEFINE_STATIC_CALL_RET0(name, name##_a);                                                   \
	TAIL_CALL(name, NO_ABI, ret, params, forward)                                              \
	RUN(name, ret, sizeof(ret), args, args, r = 0)                                             \
	static int name##_update(int state)                                                        \
	{                                                                                          \
		return state == ZERO ? static_call_update(name, STATIC_CALL_RET0)                  \
				     : static_call_update(name, state == A ? name##_a : name##_b); \
	}

/* Returns nothing, starts out as NULL. */
#define NULLABLE(name, abi, params, forward, args, ...)                                            \
	FUNCTIONS(name, abi, void, params, __VA_ARGS__)                                            \
	DEFINE_STATIC_CALL_NULL(name, name##_a);                                                   \
	ALONE static abi void name##_tail params                                                   \
	{                                                                                          \
		static_call_cond(name) forward;                                                    \
	}                                                                                          \
	ALONE static void name##_run(int how, struct outcome *out)                                 \
	{                                                                                          \
		current = out;                                                                     \
		if (how == A)                                                                      \
			name##_a args;                                                             \
		else if (how == B)                                                                 \
			name##_b args;                                                             \
		else if (how == CALL)                                                              \
			static_call_cond(name) args;                                               \
		else if (how == TAIL)                                                              \
			name##_tail args;                                                          \
	}                                                                                          \
	static int name##_update(int state)                                                        \
	{                                                                                          \
		return state == NONE ? static_call_update(name, NULL)                              \
				     : static_call_update(name, state == A ? name##_a : name##_b); \
	}

/* ------------------------------------------------------------------ integers */

/* Bits that no function computes by accident. */
#define BITS 0x8123456789abcdefu

SIGNATURE(ints6, NO_ABI, uint64_t, 8,
	  (uint64_t a, uint32_t b, uint16_t c, uint8_t d, int64_t e, const void *f),
	  (a, b, c, d, e, f), (BITS, 0xdeadbeef, 0xffee, 0xdd, INT64_MIN, "f"), NOTE(a);
	  NOTE(b); NOTE(c); NOTE(d); NOTE(e); NOTE(f);
	  return a * (unsigned)who + b + c + d + (uint64_t)e;)

SIGNATURE(ints10, NO_ABI, uint64_t, 8,
	  (uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f, uint64_t g,
	   uint32_t h, uint64_t i, uint8_t j),
	  (a, b, c, d, e, f, g, h, i, j), (1, 2, 3, 4, 5, 6, BITS, 0x80000007, ~BITS, 0x99),
	  NOTE(a);
	  NOTE(b); NOTE(c); NOTE(d); NOTE(e); NOTE(f); NOTE(g); NOTE(h); NOTE(i); NOTE(j);
	  return g * (unsigned)who + h + i + j;)

SIGNATURE(returns_bool, NO_ABI, _Bool, 1, (_Bool a, int b), (a, b), (1, 2), NOTE(a); NOTE(b);
	  return b == who;)
SIGNATURE(returns_char, NO_ABI, char, 1, (char a), (a), ('\x81'), NOTE(a); return (char)(a + who);)
SIGNATURE(returns_short, NO_ABI, short, 2, (short a, signed char b), (a, b), (-32768, -128),
	  NOTE(a);
	  NOTE(b); return (short)(a + who);)
SIGNATURE(no_args, NO_ABI, int, 4, (void), (), (), return -who;)

__extension__ typedef unsigned __int128 wide;
SIGNATURE(int128, NO_ABI, wide, 16, (wide a, uint64_t b, wide c, uint64_t d, wide e),
	  (a, b, c, d, e), ((wide)BITS << 64 | 5, 1, -(wide)BITS, 2, (wide)7 << 100), NOTE(a);
	  NOTE(b); NOTE(c); NOTE(d); NOTE(e); return a * (unsigned)who + c - e;)

/* ------------------------------------------------------------ floating point */

SIGNATURE(doubles, NO_ABI, double, 8,
	  (double a, float b, double c, float d, double e, float f, double g, float h, double i,
	   float j),
	  (a, b, c, d, e, f, g, h, i, j),
	  (1.25, -0.0f, __builtin_nan("0x1234"), 1e-40f, -1e-310, 3.5f, 1e300, -2.25f,
	   __builtin_inf(), 0x1.fffffep127f),
	  NOTE(a);
	  NOTE(b); NOTE(c); NOTE(d); NOTE(e); NOTE(f); NOTE(g); NOTE(h); NOTE(i); NOTE(j);
	  return a * who + (double)b - (double)h;)

SIGNATURE(mixed, NO_ABI, float, 4,
	  (int a, double b, long c, float d, const char *e, double f, uint64_t g, double h,
	   uint64_t i, double j, uint64_t k, double l, uint64_t m, double n, double o, double p,
	   long double q),
	  (a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q),
	  (-1, 0.5, -2, 0.25f, "e", 1e9, BITS, -1e9, ~BITS, 3, 4, 5, 6, 7, 8, 9, 10.5L), NOTE(a);
	  NOTE(b); NOTE(c); NOTE(d); NOTE(e); NOTE(f); NOTE(g); NOTE(h); NOTE(i); NOTE(j); NOTE(k);
	  NOTE(l); NOTE(m); NOTE(n); NOTE(o); NOTE(p); note_bytes(&q, 10); return d * (float)who;)

/* Returned in st(0), and in st(0) and st(1). Ten bytes of each count. */
SIGNATURE(long_double, NO_ABI, long double, 10, (long double a, int b, long double c), (a, b, c),
	  (0x1.8765432112345678p1000L, 3, -0.1L), note_bytes(&a, 10);
	  NOTE(b); note_bytes(&c, 10); return a * who + c;)
SIGNATURE(complex_double, NO_ABI, double _Complex, 16, (double _Complex a, float _Complex b),
	  (a, b), (__builtin_complex(1.5, -2.5), __builtin_complex(0.125f, 8.0f)), NOTE(a);
	  NOTE(b); return __builtin_complex(creal(a) * who, cimag(a) + (double)crealf(b));)
SIGNATURE(complex_float, NO_ABI, float _Complex, 8, (float _Complex a), (a),
	  (__builtin_complex(0.5f, -0.0f)), NOTE(a);
	  return __builtin_complex(crealf(a) * (float)who, cimagf(a));)
SIGNATURE(complex_long, NO_ABI, long double _Complex, 10, (long double _Complex a), (a),
	  (__builtin_complex(0.1L, -0.2L)), note_bytes(&a, 10);
	  return __builtin_complex(cimagl(a) * who, creall(a));)
SIGNATURE(float128, NO_ABI, __float128, 16, (__float128 a, double b), (a, b),
	  ((__float128)1 / 3, 1.5), NOTE(a);
	  NOTE(b); return -a;)

/* ---------------------------------------------------------- structs by value */

struct small {
	int32_t a;
	int16_t b, c;
};

struct two {
	uint64_t a, b;
};

struct mixed_classes {
	double a;
	uint64_t b;
};

struct mixed_words {
	float a;
	int32_t b;
	float c, d;
};

struct floats {
	float a, b, c, d;
};

struct odd {
	unsigned char bytes[13];
};

struct large {
	uint64_t words[8];
};

struct huge {
	uint64_t words[40];
};

static const struct large large = {{BITS, 1, ~BITS, 2, BITS + 1, 3, BITS + 2, 4}};
static const struct huge huge = {{[0] = BITS, [13] = 13, [39] = ~BITS}};

#define LIT(type, ...) ((struct type){__VA_ARGS__})

SIGNATURE(struct_small, NO_ABI, struct small, 8, (struct small a, int b), (a, b),
	  (LIT(small, -1, 2, -3), 4), NOTE(a);
	  NOTE(b); a.b = (int16_t)who; return a;)
SIGNATURE(struct_two, NO_ABI, struct two, 16,
	  (struct two a, struct two b, struct two c, struct two d), (a, b, c, d),
	  (LIT(two, 1, BITS), LIT(two, 2, 3), LIT(two, 4, 5), LIT(two, 6, 7)), NOTE(a);
	  NOTE(b); NOTE(c); NOTE(d); d.a += a.b; d.b = (unsigned)who; return d;)
SIGNATURE(struct_mixed, NO_ABI, struct mixed_classes, 16,
	  (struct mixed_classes a, double b, struct mixed_classes c), (a, b, c),
	  (LIT(mixed_classes, -0.5, BITS), 2.5, LIT(mixed_classes, 1e-310, 9)), NOTE(a);
	  NOTE(b); NOTE(c); a.b += (unsigned)who; a.a = c.a; return a;)
SIGNATURE(struct_words, NO_ABI, struct mixed_words, 16, (struct mixed_words a, float b), (a, b),
	  (LIT(mixed_words, 0.5f, -7, -0.0f, 3.25f), 1), NOTE(a);
	  NOTE(b); a.b = who; return a;)
SIGNATURE(struct_floats, NO_ABI, struct floats, 16, (struct floats a), (a),
	  (LIT(floats, 1, -2, 3.5f, -0.0f)), NOTE(a);
	  a.a = (float)who; return a;)
SIGNATURE(struct_odd, NO_ABI, struct odd, 13, (int a, struct odd b), (a, b),
	  (1, LIT(odd, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13})), NOTE(a);
	  NOTE(b); b.bytes[12] = (unsigned char)who; return b;)
SIGNATURE(struct_large, NO_ABI, uint64_t, 8, (int a, struct large b, double c, struct large d),
	  (a, b, c, d), (1, large, 0.5, large), NOTE(a);
	  NOTE(b); NOTE(c); NOTE(d); return d.words[7] * (unsigned)who;)
SIGNATURE(returns_large, NO_ABI, struct large, 64, (uint64_t a, double b), (a, b), (BITS, -0.5),
	  NOTE(a);
	  NOTE(b); struct large r = large; r.words[6] = a + (unsigned)who; return r;)
SIGNATURE(struct_huge, NO_ABI, struct huge, 128, (struct huge a, struct huge *b), (a, b),
	  (huge, (struct huge *)&huge), NOTE(a);
	  NOTE(b); a.words[3] = b->words[13] + (unsigned)who; return a;)

/* ----------------------------------------------------------------- functions */

typedef int callback_fn(int a);

static int twice(int a)
{
	return 2 * a;
}

SIGNATURE(pointers, NO_ABI, callback_fn *, 8, (callback_fn * f, void (*g)(void), int a), (f, g, a),
	  (twice, abort, 21), NOTE(f);
	  NOTE(g); NOTE(a); return f(a) == 42 && who == 1 ? f : NULL;)

/* The number of vector registers is in al, which the trap handler has in its hands. */
VARIADIC(variadic_ints, uint64_t, (int n, ...), (9, BITS, 2ul, 3ul, 4ul, 5ul, 6ul, 7ul, 8ul, ~BITS),
	 va_list args;
	 uint64_t total = 0; va_start(args, n);
	 for (int i = 0; i < n; i++) total = total * 3 + va_arg(args, uint64_t); va_end(args);
	 NOTE(total); return total * (unsigned)who;)
VARIADIC(
	variadic_doubles, double, (const char *format, ...),
	("dididididdddddl", 1.5, 1, -2.5, 2, 3e300, 3, -0.0, 4, 5.5, 6.5, 7.5, 8.5, 9.5, 10.5,
	 -11.5L),
	va_list args;
	double total = 0; va_start(args, format); for (const char *f = format; *f; f++) {
		double d = *f == 'd'   ? va_arg(args, double)
			   : *f == 'i' ? (double)va_arg(args, int)
				       : (double)va_arg(args, long double);

		NOTE(d);
		total += d;
	} va_end(args);
	return total * who;)

/* ----------------------------------------------------------- other conventions */

#define MS __attribute__((ms_abi))
SIGNATURE(ms, MS, uint64_t, 8,
	  (uint64_t a, double b, uint64_t c, double d, uint64_t e, double f, struct large g),
	  (a, b, c, d, e, f, g), (BITS, 0.5, ~BITS, -0.0, 3, 1e300, large), NOTE(a);
	  NOTE(b); NOTE(c); NOTE(d); NOTE(e); NOTE(f); NOTE(g); return c * (unsigned)who;)
SIGNATURE(ms_struct, MS, struct large, 64, (float a, struct small b), (a, b),
	  (0.5f, LIT(small, 1, 2, 3)), NOTE(a);
	  NOTE(b); struct large r = large; r.words[0] = (unsigned)who; return r;)

#if defined(__clang__)
#define PRESERVE_MOST __attribute__((preserve_most))
#define REGCALL       __attribute__((regcall))
/* A result would be lost: such functions restore rax, until clang 17. */
NULLABLE(preserve_most, PRESERVE_MOST, (uint64_t a, double b, uint64_t c), (a, b, c),
	 (BITS, 0.5, 2), NOTE(a);
	 NOTE(b); NOTE(c);)
/*
 * clang would mangle the trampoline's name, too ("__regcall3__..."). What it adds
 * behind that of a vectorcall function ("...@@32") no label takes away: such a
 * function cannot be the target of a static call.
 */
#define TRAMP_LABEL(name) __asm__(__SHUNT_STR(STATIC_CALL_TRAMP(name)))
REGCALL double STATIC_CALL_TRAMP(regcall)(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
					  uint64_t, uint64_t, uint64_t, double, struct two)
	TRAMP_LABEL(regcall);
SIGNATURE(regcall, REGCALL, double, 8,
	  (uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f, uint64_t g,
	   uint64_t h, double i, struct two j),
	  (a, b, c, d, e, f, g, h, i, j), (BITS, 2, 3, 4, 5, 6, 7, ~BITS, 0.5, LIT(two, 1, BITS)),
	  NOTE(a);
	  NOTE(b); NOTE(c); NOTE(d); NOTE(e); NOTE(f); NOTE(g); NOTE(h); NOTE(i); NOTE(j);
	  return i * who;)

/*
 * Twelve values live across a call that promises to leave all registers but r11
 * alone: the compiler keeps them in registers which any other call may change.
 */
ALONE static void live_across_run(int how, struct outcome *out)
{
	uint64_t v[12], r = 0;

	for (unsigned i = 0; i < 12; i++) {
		v[i] = BITS * (i + 1);
		__asm__ volatile("" : "+r"(v[i]));
	}
	current = out;
	if (how == A)
		preserve_most_a(v[0], 0.5, v[1]);
	else if (how == B)
		preserve_most_b(v[0], 0.5, v[1]);
	else if (how == CALL || how == TAIL)
		static_call_cond(preserve_most)(v[0], 0.5, v[1]);
	for (unsigned i = 0; i < 12; i++) {
		__asm__ volatile("" : "+r"(v[i]));
		r = r * 31 + v[i];
	}
	memcpy(out->result, &r, sizeof(r));
}
#endif

/* ------------------------------------------------------------------- vectors */

typedef float v4sf __attribute__((vector_size(16)));
SIGNATURE(m128, NO_ABI, v4sf, 16, (v4sf a, int b, v4sf c, double d), (a, b, c, d),
	  (((v4sf){1, -0.0f, 3, 4}), 1, ((v4sf){5, 6, 7, 8}), 9.5), NOTE(a);
	  NOTE(b); NOTE(c); NOTE(d); c[1] = (float)who; return c;)

/*
 * A declaration by __typeof__ does not carry the target attribute over, which
 * clang wants at the trampoline as much as at the function: hence the pragmas.
 */
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2")
#endif
typedef double v4df __attribute__((vector_size(32)));
SIGNATURE(m256, NO_ABI, v4df, 32,
	  (v4df a, v4df b, v4df c, v4df d, v4df e, v4df f, v4df g, v4df h, v4df i, double j),
	  (a, b, c, d, e, f, g, h, i, j),
	  (((v4df){1, -0.0, 3, 4}), ((v4df){5, 6, 7, 8}), ((v4df){9, 10, 11, 12}),
	   ((v4df){13, 14, 15, 16}), ((v4df){17, 18, 19, 20}), ((v4df){21, 22, 23, 24}),
	   ((v4df){25, 26, 27, 28}), ((v4df){29, 30, 31, 32}), ((v4df){33, 34, 35, 36}), 37.5),
	  NOTE(a);
	  NOTE(b); NOTE(c); NOTE(d); NOTE(e); NOTE(f); NOTE(g); NOTE(h); NOTE(i); NOTE(j);
	  a[3] = who; return a;)
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f")
#endif
typedef uint64_t v8di __attribute__((vector_size(64)));
SIGNATURE(m512, NO_ABI, v8di, 64, (v8di a, int b, v8di c), (a, b, c),
	  (((v8di){1, 2, 3, 4, 5, 6, BITS, 8}), 1, ((v8di){9, 10, 11, 12, 13, 14, 15, ~BITS})),
	  NOTE(a);
	  NOTE(b); NOTE(c); c[7] += (unsigned)who; return c;)
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

/* ------------------------------------------------------------- RET0 and NULL */

RETURNS0(zero_int, int, (int a, double b), (a, b), (-1, 0.5), NOTE(a); NOTE(b); return -who;)
RETURNS0(zero_long, long, (long a, long b, long c, long d, long e, long f, long g),
	 (a, b, c, d, e, f, g), (1, 2, 3, 4, 5, 6, 7), NOTE(a);
	 NOTE(b); NOTE(c); NOTE(d); NOTE(e); NOTE(f); NOTE(g); return -who;)
RETURNS0(zero_pointer, void *, (void *a), (a), ((void *)(uintptr_t)BITS), NOTE(a);
	 return (char *)a + who;)
RETURNS0(zero_bool, _Bool, (int a), (a), (2), NOTE(a); return who == 1 ? 1 : a == 2;)
RETURNS0(zero_char, char, (char a), (a), ('c'), NOTE(a); return (char)(a + who);)
RETURNS0(zero_ull, unsigned long long, (struct large a), (a), (large), NOTE(a);
	 return BITS * (unsigned)who;)

NULLABLE(cond_none, NO_ABI, (void), (), (), (void)who;)
NULLABLE(cond_args, NO_ABI, (int a, double b, const char *c), (a, b, c), (1, -0.5, "c"), NOTE(a);
	 NOTE(b); NOTE(c);)
NULLABLE(cond_many, NO_ABI,
	 (uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f, uint64_t g,
	  double h),
	 (a, b, c, d, e, f, g, h), (1, 2, 3, 4, 5, 6, BITS, 0.5), NOTE(a);
	 NOTE(b); NOTE(c); NOTE(d); NOTE(e); NOTE(f); NOTE(g); NOTE(h);)
NULLABLE(cond_struct, NO_ABI, (struct large a, struct two b), (a, b), (large, LIT(two, 1, BITS)),
	 NOTE(a);
	 NOTE(b);)

/* -------------------------------------------------------------------- the test */

static const struct signature {
	const char *name;
	void (*run)(int how, struct outcome *out);
	int (*update)(int state);
	enum state third;  /* which state it has besides a and b; STATES: none */
	const char *needs; /* of the CPU or the compiler */
} signatures[] = {
/* clang-format off */
#define S(name)             {#name, name##_run, name##_update, STATES, NULL}
#define S_NEEDS(name, what) {#name, name##_run, name##_update, STATES, what}
#define S_ZERO(name)        {#name, name##_run, name##_update, ZERO, NULL}
#define S_NULL(name)        {#name, name##_run, name##_update, NONE, NULL}
	/* clang-format on */
	S(ints6),
	S(ints10),
	S(returns_bool),
	S(returns_char),
	S(returns_short),
	S(no_args),
	S(int128),
	S(doubles),
	S(mixed),
	S(long_double),
	S(complex_double),
	S(complex_float),
	S(complex_long),
	S(float128),
	S(struct_small),
	S(struct_two),
	S(struct_mixed),
	S(struct_words),
	S(struct_floats),
	S(struct_odd),
	S(struct_large),
	S(returns_large),
	S(struct_huge),
	S(pointers),
	S(variadic_ints),
	S(variadic_doubles),
	S(ms),
	S(ms_struct),
#if defined(__clang__)
	S_NULL(preserve_most),
	{"live across preserve_most", live_across_run, preserve_most_update, NONE, NULL},
	/* Unoptimised, clang calls it through a register: there is no site. */
	S_NEEDS(regcall, "a site"),
#endif
	S(m128),
	S_NEEDS(m256, "avx2"),
	S_NEEDS(m512, "avx512f"),
	S_ZERO(zero_int),
	S_ZERO(zero_long),
	S_ZERO(zero_pointer),
	S_ZERO(zero_bool),
	S_ZERO(zero_char),
	S_ZERO(zero_ull),
	S_NULL(cond_none),
	S_NULL(cond_args),
	S_NULL(cond_many),
	S_NULL(cond_struct),
};

static struct {
	const struct signature *signature;
	enum state from, to;
	unsigned long executed, traps;
} now;

static int count_site(const struct shunt_site_info *info, void *arg)
{
	((unsigned *)arg)[info->state]++;
	return 0;
}

static bool has_what_it_needs(const struct signature *s)
{
	unsigned count[SHUNT_SITE_TRAMPOLINE + 1] = {0};

	if (!s->needs)
		return true;
	if (!strcmp(s->needs, "avx2"))
		return __builtin_cpu_supports("avx2");
	if (!strcmp(s->needs, "avx512f"))
		return __builtin_cpu_supports("avx512f");
	tap_check(!shunt_for_each_site(s->name, count_site, count), "shunt_for_each_site");
	return count[SHUNT_SITE_INLINE];
}

static void run(int how, struct outcome *out)
{
	memset(out, 0, sizeof(*out));
	now.signature->run(how, out);
}

static void execute_in(enum phase phase, enum how how)
{
	struct outcome expected, got;
	uint64_t traps;

	run((int)(phase_is_new(phase) ? now.to : now.from), &expected);
	traps = phase_count_traps();
	run((int)how, &got);
	traps = phase_count_traps() - traps;
	phase_check_traps(phase, traps, 1, now.signature->name);
	tap_check(!memcmp(&expected, &got, sizeof(got)), "%s %s, %s: %s differs",
		  now.signature->name, how == CALL ? "call" : "tail call", phase_name(phase),
		  expected.calls != got.calls ? "the number of calls"
		  : expected.seen != got.seen ? "what the function was given"
					      : "the result");
	now.executed++;
	now.traps += traps;
}

static void on_phase(enum phase phase)
{
	execute_in(phase, CALL);
	execute_in(phase, TAIL);
}

static void go(enum state to)
{
	now.to = to;
	phase_update(now.signature->update, (int)to);
	now.from = to;
}

/* What the key was defined with, and what it is again after a try. */
static enum state first_state(const struct signature *s)
{
	return s->third == STATES ? A : s->third;
}

/* From each of its states to each other one. */
static void try_signature(const struct signature *s, enum phase_thread thread)
{
	now.signature = s;
	now.from = first_state(s);
	phase_begin(thread, on_phase);
	if (s->third != STATES)
		go(A);
	go(B);
	go(A);
	if (s->third != STATES) {
		go(s->third);
		go(B);
		go(s->third);
	}
	phase_end();
}

/*
 * Before the first update a key has what it was defined with. And the comparison
 * can tell its functions apart, or it would show nothing.
 */
static void check_initial(const struct signature *s)
{
	struct outcome expected, got;

	now.signature = s;
	run(A, &expected);
	run(B, &got);
	tap_check(memcmp(&expected, &got, sizeof(got)), "%s: a and b do the same", s->name);
	run((int)first_state(s), &expected);
	run(CALL, &got);
	tap_check(!memcmp(&expected, &got, sizeof(got)), "%s at first", s->name);
	run(TAIL, &got);
	tap_check(!memcmp(&expected, &got, sizeof(got)), "%s, tail call, at first", s->name);
}

/* Which of the tail positions are tail calls is up to the compiler. */
static void check_sites(void)
{
	unsigned count[SHUNT_SITE_TRAMPOLINE + 1] = {0};

	tap_check(!shunt_for_each_site(NULL, count_site, count), "shunt_for_each_site");
	tap_check(!count[SHUNT_SITE_TRAMPOLINE], "sites are on the trampoline");
	tap_case("sites: %u calls, %u tail calls, %u conditional ones", count[SHUNT_SITE_INLINE],
		 count[SHUNT_SITE_TAIL], count[SHUNT_SITE_CONDITIONAL]);
}

int main(void)
{
	for (size_t i = 0; i < sizeof(signatures) / sizeof(signatures[0]); i++) {
		const struct signature *s = &signatures[i];

		if (!has_what_it_needs(s)) {
			char why[32];

			(void)snprintf(why, sizeof(why), "needs %s", s->needs);
			tap_skip(s->name, why);
			continue;
		}
		now.executed = now.traps = 0;
		check_initial(s);
		for (int thread = 0; thread < PHASE_THREADS; thread++)
			try_signature(s, (enum phase_thread)thread);
		tap_case("%s: %lu executions, %lu traps", s->name, now.executed, now.traps);
	}
	check_sites();
	return tap_done();
}
