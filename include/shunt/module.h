/* SPDX-License-Identifier: MIT */
/*
 * How an ELF module (the program, a shared object, a plugin) makes itself known
 * to libshunt, and the macros that the public headers share. Users include
 * <shunt/static_call.h>; nothing here is called by hand.
 */
#ifndef SHUNT_MODULE_H
#define SHUNT_MODULE_H

#include <stddef.h>

#define SHUNT_API __attribute__((__visibility__("default")))

/*
 * Whether there is a port for what this is compiled for. Elsewhere, and with SHUNT_GENERIC, static
 * calls are indirect calls.
 */
#if defined(SHUNT_GENERIC) || !defined(__LP64__)
#elif defined(__x86_64__)
#define __SHUNT_X86_64
#define __SHUNT_HAS_PORT
#elif defined(__aarch64__) && defined(__linux__) && defined(__AARCH64EL__)
#define __SHUNT_AARCH64
#define __SHUNT_HAS_PORT
#endif

/* With SHUNT_UNCHECKED, for code from the kernel, nobody is warned who ignores an error. */
#ifdef SHUNT_UNCHECKED
#define __SHUNT_CHECKED
#else
#define __SHUNT_CHECKED __attribute__((__warn_unused_result__))
#endif

#define __SHUNT_PASTE2(a, b) a##b
#define __SHUNT_PASTE(a, b)  __SHUNT_PASTE2(a, b)
#define __SHUNT_STR2(...)    #__VA_ARGS__
#define __SHUNT_STR(...)     __SHUNT_STR2(__VA_ARGS__)

/* A declaration that may stand any number of times. */
#define __SHUNT_NEED_SEMICOLON struct __shunt_need_semicolon

/* Of the headers' own functions in a program: no room for tracing, whatever it is compiled with. */
#ifdef __has_attribute
#if __has_attribute(__patchable_function_entry__)
#define __SHUNT_NO_PATCHABLE __attribute__((__patchable_function_entry__(0)))
#endif
#if __has_attribute(__xray_never_instrument__)
#define __SHUNT_NO_XRAY __attribute__((__xray_never_instrument__))
#endif
#if __has_attribute(__no_profile_instrument_function__)
#define __SHUNT_NO_PROFILE __attribute__((__no_profile_instrument_function__))
#endif
#endif
#ifndef __SHUNT_NO_PATCHABLE
#define __SHUNT_NO_PATCHABLE
#endif
#ifndef __SHUNT_NO_XRAY
#define __SHUNT_NO_XRAY
#endif
#ifndef __SHUNT_NO_PROFILE
#define __SHUNT_NO_PROFILE
#endif
#define __SHUNT_UNTRACED                            \
	__attribute__((__no_instrument_function__)) \
	__SHUNT_NO_PATCHABLE __SHUNT_NO_XRAY __SHUNT_NO_PROFILE

/* Casts that a C++ compiler does not warn of. */
#ifdef __cplusplus
#define __SHUNT_CAST(type, value)      reinterpret_cast<type>(value)
#define __SHUNT_FROM_VOID(type, value) static_cast<type>(value)
#define __SHUNT_NULL                   nullptr
#else
#define __SHUNT_CAST(type, value)      ((type)(value))
#define __SHUNT_FROM_VOID(type, value) ((type)(value))
#define __SHUNT_NULL                   NULL
#endif
/* From one type of functions to another. clang's -Wcast-function-type wants a number between. */
#ifdef __clang__
#define __SHUNT_FUNCTION_CAST(type, value) __SHUNT_CAST(type, __SHUNT_CAST(__UINTPTR_TYPE__, value))
#else
#define __SHUNT_FUNCTION_CAST(type, value) __SHUNT_CAST(type, value)
#endif
#define __SHUNT_FUNCTION(value) __SHUNT_FUNCTION_CAST(void (*)(void), value)

/*
 * A trampoline has a C name and any type; clang warns of a C function that returns a
 * class or a reference. And gcc can warn of a second declaration, such as that of a key in a
 * header beside that of its definition.
 */
#if defined(__cplusplus) && defined(__clang__)
#define __SHUNT_C_BEGIN                                                                    \
	_Pragma("clang diagnostic push")                                                   \
		_Pragma("clang diagnostic ignored \"-Wreturn-type-c-linkage\"") extern "C" \
	{
#define __SHUNT_C_END \
	}             \
	_Pragma("clang diagnostic pop")
#elif defined(__cplusplus)
#define __SHUNT_C_BEGIN                                                            \
	_Pragma("GCC diagnostic push")                                             \
		_Pragma("GCC diagnostic ignored \"-Wredundant-decls\"") extern "C" \
	{
#define __SHUNT_C_END \
	}             \
	_Pragma("GCC diagnostic pop")
#elif defined(__clang__)
#define __SHUNT_C_BEGIN
#define __SHUNT_C_END
#else
#define __SHUNT_C_BEGIN \
	_Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wredundant-decls\"")
#define __SHUNT_C_END _Pragma("GCC diagnostic pop")
#endif

/*
 * The last word of each record of a static branch (struct static_jump_entry), which says how the
 * test is switched off: by a nop, or by the jmp's other form.
 */
#define __SHUNT_JUMP_MAGIC      "0xd1f5a7c3"
#define __SHUNT_JUMP_MAGIC_TEST "0xd1f5a7c4"

/*
 * A record that libshunt finds through its section. "used" and "retain": it is
 * named from assembly, which link-time optimisation does not see. "aligned": the
 * compiler must not pad the records apart.
 */
#if defined(__has_attribute)
#if __has_attribute(__retain__)
#define __SHUNT_RETAIN __attribute__((__retain__))
#define __SHUNT_HAS_RETAIN
#endif
#endif
#ifndef __SHUNT_RETAIN
#define __SHUNT_RETAIN
#endif
#define __SHUNT_SECTION(name)                                                                   \
	__attribute__((__used__, __section__(name), __aligned__(8), __visibility__("default"))) \
	__SHUNT_RETAIN

#ifdef __cplusplus
extern "C" {
#endif

/* What a module tells about itself. */
struct shunt_module {
	size_t size;     /* sizeof(struct shunt_module) as the module was compiled */
	void *call_keys; /* array of struct static_call_key */
	void *call_keys_end;
	void *static_keys; /* array of struct shunt_static_key */
	void *static_keys_end;
	const void *jumps;    /* one of the array of struct static_jump_entry: static_key.h */
	const void *reserved; /* NULL */
	const unsigned char *veneers; /* jumps through a word each; word 0: not in use */
	const unsigned char *veneers_end;
};

/*
 * Called by each module's constructor and destructor, once for every source file
 * that includes this header; the second and later calls do nothing. Thread-safe.
 * Registration finds the module's sites and turns them into direct calls; where
 * it cannot, calls go through the trampolines, and shunt_for_each_site() says why.
 */
SHUNT_API void shunt_module_register(const struct shunt_module *module);
SHUNT_API void shunt_module_unregister(const struct shunt_module *module);

/*
 * Make the module that has @func known, so that later updates to functions in it can be made
 * in signal handlers: a key lets go of them before they are unloaded, and seeing to that
 * takes locks of the C library's. An update that is not made in a handler does it by itself;
 * one in a handler returns -EAGAIN where it has not been done.
 *
 * Returns 0, also where @func is in no module; -ENOMEM; or -EAGAIN: the module can neither
 * be watched nor kept, or goes away. Any thread; not in a signal handler.
 */
SHUNT_API int shunt_watch_target(const void *func) __SHUNT_CHECKED;

#if __STDC_HOSTED__ && defined(__SHUNT_HAS_PORT) && !defined(SHUNT_NO_MODULE)

#define __SHUNT_REGISTERS

#define __SHUNT_PER_MODULE __attribute__((__weak__, __visibility__("hidden")))

/* The bounds of the sections, from the linker; NULL where the module has none. */
extern char __start_static_call_keys[] __SHUNT_PER_MODULE;
extern char __stop_static_call_keys[] __SHUNT_PER_MODULE;
extern char __start_static_keys[] __SHUNT_PER_MODULE;
extern char __stop_static_keys[] __SHUNT_PER_MODULE;
extern const unsigned char __start_shunt_veneers[] __SHUNT_PER_MODULE;
extern const unsigned char __stop_shunt_veneers[] __SHUNT_PER_MODULE;

/*
 * Each module has the sections, if empty ones: ld.bfd exports the bounds of a library's by
 * mistake, and mold takes them for those of a program that has none.
 */
#ifdef __SHUNT_HAS_RETAIN
#define __SHUNT_KEYS_FLAGS "awR"
#else
#define __SHUNT_KEYS_FLAGS "aw"
#endif
__asm__(".pushsection static_call_keys, \"" __SHUNT_KEYS_FLAGS "\", @progbits\n"
	".popsection\n"
	".pushsection static_keys, \"aw\", @progbits\n"
	".popsection\n");

/*
 * The veneers of the module: stubs for targets that its sites do not reach, which lie more
 * than 2 GiB (aarch64: 128 MiB) away. 32 times a jump through a word (x86-64: `jmp *word(%rip)`),
 * and 32 words on cache lines of their own. Static code with static call frame information: nothing
 * is written here but words, and an unwinder that stops in it finds its way.
 *
 * A comdat group, so that the linker keeps that of one source file; .ifndef, because
 * link-time optimisation may make one of several. Found by the bounds of the section
 * and not by a symbol, because the linker would take the definition of a symbol from one
 * file and the group from another, where some are link-time optimised.
 */
#ifdef __SHUNT_HAS_RETAIN
#define __SHUNT_VENEER_FLAGS "axGR"
#else
#define __SHUNT_VENEER_FLAGS "axG"
#endif
/* clang-format off */
#ifdef __SHUNT_X86_64
#define __SHUNT_VENEERS                                                               \
	"	.rept 32\n"                                                           \
	"	.byte 0xff, 0x25\n"                                                   \
	"	.long 771b - __shunt_veneers - 6\n" /* the same distance for all */   \
	"	.byte 0xcc, 0xcc\n"                                                   \
	"	.endr\n"
#else
/* bti c; adrp; ldr; br. By x16, as linkers' own: a target's landing pad is one for that too. */
#define __SHUNT_VENEERS                                                               \
	"	.irp word, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, " \
	"17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31\n"                \
	"	hint	#34\n"                                                        \
	"	adrp	x16, 771b + 8 * \\word\n"                                   \
	"	ldr	x16, [x16, :lo12:(771b + 8 * \\word)]\n"                    \
	"	br	x16\n"                                                        \
	"	.endr\n"
#endif
__asm__(".ifndef __shunt_veneers\n"
	".weak __shunt_veneer_group\n" /* its name, nowhere defined */
	".hidden __shunt_veneer_group\n"
	".pushsection .bss.shunt_veneers, \"awG\", @nobits, __shunt_veneer_group, comdat\n"
	"	.balign 64\n"
	"771:	.zero 32 * 8\n"
	".popsection\n"
	".pushsection shunt_veneers, \"" __SHUNT_VENEER_FLAGS "\", @progbits, __shunt_veneer_group, comdat\n"
	"	.balign 16\n"
	"	.type __shunt_veneers, @function\n"
	"	.cfi_startproc\n"
	"__shunt_veneers:\n"
	__SHUNT_VENEERS
	"	.cfi_endproc\n"
	"	.size __shunt_veneers, . - __shunt_veneers\n"
	".popsection\n"
	".endif\n");
/* clang-format on */

/*
 * A record among those of the module's static branches (static_key.h) that is for none of
 * them: from here libshunt finds the others. One of each source file; the linker takes the
 * name from any. (Its size is no difference to itself: with clang's link-time optimisation the
 * label is gone where the linker takes another's.)
 */
extern const char __shunt_jumps[] __SHUNT_PER_MODULE;
/* clang-format off */
__asm__(".ifndef __shunt_jumps\n"
	".pushsection .static_jumps, \"a\", @progbits\n"
	"	.balign 4\n"
	"	.weak __shunt_jumps\n"
	"	.hidden __shunt_jumps\n"
	"	.type __shunt_jumps, @object\n"
	"__shunt_jumps:\n"
	"	.long 0, 0, 0, " __SHUNT_JUMP_MAGIC "\n"
	"	.size __shunt_jumps, 16\n"
	".popsection\n"
	".endif\n");
/* clang-format on */

extern const struct shunt_module __shunt_module __SHUNT_PER_MODULE;
const struct shunt_module __shunt_module = {
	sizeof(struct shunt_module),
	__start_static_call_keys,
	__stop_static_call_keys,
	__start_static_keys,
	__stop_static_keys,
	__shunt_jumps,
	__SHUNT_NULL,
	__start_shunt_veneers,
	__stop_shunt_veneers,
};

/*
 * Before all other constructors of the module, which may test its keys or change them, and
 * behind all its other destructors: priority 0, of those that are the implementation's. (The
 * priority on the declaration: gcc forgets it on the definition of one declared.)
 */
#pragma GCC diagnostic push
#ifdef __clang__
#pragma GCC diagnostic ignored "-Wunknown-warning-option"
#pragma GCC diagnostic ignored "-Wglobal-constructors"
#endif
#pragma GCC diagnostic ignored "-Wprio-ctor-dtor"
void __shunt_module_init(void) __SHUNT_PER_MODULE __SHUNT_UNTRACED
	__attribute__((__constructor__(0)));
void __shunt_module_init(void)
{
	shunt_module_register(&__shunt_module);
}

void __shunt_module_exit(void) __SHUNT_PER_MODULE __SHUNT_UNTRACED
	__attribute__((__destructor__(0)));
void __shunt_module_exit(void)
{
	shunt_module_unregister(&__shunt_module);
}
#pragma GCC diagnostic pop

#endif

#ifdef __cplusplus
}
#endif

#endif
