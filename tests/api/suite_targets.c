/* SPDX-License-Identifier: MIT */
/* What the suite's keys point to: little functions that are told apart by their results. */
#include <stdarg.h>

#include "suite.h"

int add1(int x)
{
	return x + 1;
}

int add2(int x)
{
	return x + 2;
}

int add3(int x)
{
	return x + 3;
}

int add4(int x)
{
	return x + 4;
}

void bump_by_1(int *counter)
{
	*counter += 1;
}

void bump_by_10(int *counter)
{
	*counter += 10;
}

void *pointer_self(void *p)
{
	return p;
}

_Bool is_positive(long x)
{
	return x > 0;
}

double scale2(double a, float b)
{
	return a * 2 + (double)b;
}

double scale3(double a, float b)
{
	return a * 3 + (double)b;
}

struct big big_forward(struct big b, int i)
{
	b.l += i;
	return b;
}

struct big big_reverse(struct big b, int i)
{
	return (struct big){{b.d[2], b.d[1], b.d[0]}, -b.l - i};
}

long ten_args(long a, long b, long c, long d, long e, long f, long g, long h, long i, long j)
{
	return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i + 10 * j;
}

long ten_args_signed(long a, long b, long c, long d, long e, long f, long g, long h, long i, long j)
{
	return a - 2 * b + 3 * c - 4 * d + 5 * e - 6 * f + 7 * g - 8 * h + 9 * i - 10 * j;
}

int sum_of(int n, ...)
{
	va_list args;
	int sum = 0;

	va_start(args, n);
	while (n-- > 0)
		sum += va_arg(args, int);
	va_end(args);
	return sum;
}

int product_of(int n, ...)
{
	va_list args;
	int product = 1;

	va_start(args, n);
	while (n-- > 0)
		product *= va_arg(args, int);
	va_end(args);
	return product;
}
