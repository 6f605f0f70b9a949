/* SPDX-License-Identifier: MIT */
/*
 * How an update names its key to the linker. Users include <shunt/static_key.h>; nothing here is
 * called by hand.
 */
#ifndef SHUNT_STATIC_KEY_NAMES_H
#define SHUNT_STATIC_KEY_NAMES_H

#include <shunt/module.h>

/*
 * What is compiled with -fPIC may become a shared object, and what that refers to is missed when a
 * program is linked with it, also where nothing uses it. So there a declaration does not name its
 * key
 * (__SHUNT_WANT): a test does, and an update does whose handle is a constant, thus a symbol, in a
 * section that no linker keeps. (gcc writes an element as number+symbol, of which assembly does
 * not get the symbol: none for those.) Not with clang: the names in its link-time optimisation
 * are those that declarations name, and it does not say whether there will be any.
 */
#if defined(__SHUNT_HAS_PORT) && defined(__PIC__) && !defined(__PIE__) && !defined(__clang__)
#define __SHUNT_MAY_BE_SHARED
/* clang-format off */
#ifdef __SHUNT_AARCH64
#define __SHUNT_NAMED_RAW       "%1"
#define __SHUNT_NAMED_ANY       "Sr"
#define __SHUNT_NAMED_REGISTERS "x0,x1,x2,x3,x4,x5,x6,x7,x8,x9,x10,x11,x12,x13,x14,x15,x16,x17,x18,x19," \
			  "x20,x21,x22,x23,x24,x25,x26,x27,x28,x29,x30"
#define __SHUNT_NAMED_ADDRESS   "	adrp %0, " __SHUNT_NAMED_RAW "\n	add %0, %0, :lo12:" __SHUNT_NAMED_RAW "\n"
#define __SHUNT_NAMED_MOVE      "	mov %0, %1\n"
#else
#define __SHUNT_NAMED_RAW       "%p1"
#define __SHUNT_NAMED_ANY       "ia"
#define __SHUNT_NAMED_REGISTERS "{%%|}rax"
#define __SHUNT_NAMED_ADDRESS   "	lea {" __SHUNT_NAMED_RAW "(%%rip), %0|%0, " __SHUNT_NAMED_RAW "[rip]}\n"
#define __SHUNT_NAMED_MOVE      "	mov {%1, %0|%0, %1}\n"
#endif
#define __SHUNT_NAMED(handle)                                                          \
	__extension__({                                                                \
		const struct static_key *__shunt_named;                                \
		__asm__("	.set .Lshunt_is, 1\n"                                  \
			"	.irp register, " __SHUNT_NAMED_REGISTERS "\n"                \
			"	.ifc " __SHUNT_NAMED_RAW ",\\register\n"                     \
			"	.set .Lshunt_is, 0\n"                                  \
			"	.endif\n"                                              \
			"	.endr\n"                                               \
			"	.if .Lshunt_is\n"                                      \
			__SHUNT_NAMED_ADDRESS                                                \
			"	.irpc c, " __SHUNT_NAMED_RAW "\n"                            \
			"	.ifc \\c,+\n"                                          \
			"	.set .Lshunt_is, 0\n"                                  \
			"	.endif\n"                                              \
			"	.endr\n"                                               \
			"	.if .Lshunt_is\n"                                      \
			"	.pushsection .shunt.wanted, \"e\", %%progbits\n"       \
			"	.quad _" __SHUNT_NAMED_RAW "\n"                              \
			"	.popsection\n"                                         \
			"	.endif\n"                                              \
			"	.else\n"                                               \
			__SHUNT_NAMED_MOVE                                                   \
			"	.endif"                                                \
			: "=r"(__shunt_named)                                          \
			: __SHUNT_NAMED_ANY(1 ? (handle)                                     \
					: __SHUNT_FROM_VOID(const struct static_key *, __SHUNT_NULL))); \
		__shunt_named;                                                         \
	})
/* clang-format on */
#define static_key_enable(key)   static_key_enable(__SHUNT_NAMED(key))
#define static_key_disable(key)  static_key_disable(__SHUNT_NAMED(key))
#define static_key_slow_inc(key) static_key_slow_inc(__SHUNT_NAMED(key))
#define static_key_slow_dec(key) static_key_slow_dec(__SHUNT_NAMED(key))
#else
#define __SHUNT_NAMED(handle) (handle)
#endif

/* What a declaration of any other code refers to (__SHUNT_HANDLE). */
#ifdef __SHUNT_MAY_BE_SHARED
#define __SHUNT_WANT(any)
#else
#define __SHUNT_WANT(any)                                \
	".pushsection .shunt.wanted, \"e\", %progbits\n" \
	"	.quad " any "\n"                         \
	".popsection\n"
#endif

#endif
