/* SPDX-License-Identifier: MIT */
/* A plugin with 90 keys, each with a call: more than the smallest array of a module has room for.
 */
#include "host.h"

#define KEY(n)                                     \
	static KEPT int function##n(int x)         \
	{                                          \
		return x + n;                      \
	}                                          \
	DEFINE_STATIC_CALL(key##n, function##n);   \
	PUBLIC int call##n(int x);                 \
	PUBLIC int call##n(int x)                  \
	{                                          \
		return static_call(key##n)(x) + 1; \
	}
#define TEN(t)    \
	KEY(t##0) \
	KEY(t##1) KEY(t##2) KEY(t##3) KEY(t##4) KEY(t##5) KEY(t##6) KEY(t##7) KEY(t##8) KEY(t##9)

TEN(1)
TEN(2)
TEN(3)
TEN(4)
TEN(5)
TEN(6)
TEN(7)
TEN(8)
TEN(9)
