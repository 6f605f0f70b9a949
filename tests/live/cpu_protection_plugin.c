/* SPDX-License-Identifier: MIT */
/*
 * A plugin whose text is to have landing pads alone, or not, by what it is compiled and linked
 * with; with a static call of its own (KEYS) or without. For test_cpu_protection.c: a landing pad,
 * a site, and functions that return 1 and 2 behind it.
 */
__asm__(".text\n"
	".balign 16\n"
	".globl	plugin_text\n"
	".type	plugin_text, %function\n"
	"plugin_text:\n"
	"	hint	#34\n" /* bti c */
	"	nop\n"
	"	mov	w0, #1\n"
	"	ret\n"
	"	mov	w0, #2\n"
	"	ret\n"
	".size	plugin_text, . - plugin_text\n");

#ifdef KEYS
#include <shunt/static_call.h>

/* crtbegin.o, which has no landing pads, is not linked. */
__attribute__((visibility("hidden"))) void *__dso_handle = &__dso_handle;

static int none(void)
{
	return 0;
}

DEFINE_STATIC_CALL(plugin, none);

__attribute__((visibility("default"))) int plugin_call(void);
int plugin_call(void)
{
	return static_call(plugin)() + 100;
}
#endif
