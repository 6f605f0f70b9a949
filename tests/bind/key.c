/* SPDX-License-Identifier: MIT */
/*
 * A library with a key, event, whose function returns NUMBER, and calls of it. Also what
 * stands where the trampoline is expected and is none: with INTERPOSER a function of that
 * name, with IFUNC one that is chosen when it is bound.
 */
#include "bind.h"

#if defined(INTERPOSER) || defined(IFUNC)

KEPT static int function(void)
{
	return NUMBER;
}

#ifdef IFUNC
static int (*resolve(void))(void)
{
	return function;
}

PUBLIC int __SCT__event(void) __attribute__((ifunc("resolve")));
#else
PUBLIC int __SCT__event(void);
int __SCT__event(void)
{
	return function();
}
#endif
PUBLIC long __SCK__event[6];
long __SCK__event[6];

#else

static int first(void)
{
	return NUMBER;
}

static int updated(void)
{
	return NUMBER + 7;
}

#ifdef PREEMPTIBLE
/* As DEFINE_STATIC_CALL and EXPORT_STATIC_CALL, but of default visibility. */
DECLARE_STATIC_CALL(event, first);
__SHUNT_SECTION("static_call_keys")
struct static_call_key __SCK__event = {
	(void (*)(void))first, "event", (void (*)(void))first, NULL, 0, 0};
__asm__(".pushsection .text\n"
	"	.balign 16\n"
	"	.globl __SCT__event\n"
	"	.type __SCT__event, @function\n"
	"__SCT__event:\n"
	"	.byte 0xf3, 0x0f, 0x1e, 0xfa, 0xff, 0x25\n"
	"	.long __SCK__own - . - 4\n"
	"	.size __SCT__event, . - __SCT__event\n"
	"	.set __SCK__own, __SCK__event\n"
	".popsection\n");
#else
DEFINE_STATIC_CALL(event, first);
EXPORT_STATIC_CALL(event);
#endif

PUBLIC int NAME(run)(void);
KEPT int NAME(run)(void)
{
	return CALL(static_call(event));
}

PUBLIC int NAME(update)(int on);
int NAME(update)(int on)
{
	return on ? static_call_update(event, updated) : static_call_update(event, first);
}

#endif
