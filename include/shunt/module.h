/* SPDX-License-Identifier: MIT */
/*
 * How an ELF module (the program, a shared object, a plugin) makes itself known
 * to libshunt, and the macros that the public headers share. Users include
 * <shunt/static_call.h>; nothing here is called by hand.
 */
#ifndef SHUNT_MODULE_H
#define SHUNT_MODULE_H

#include <stddef.h>

#define SHUNT_API       __attribute__((visibility("default")))
#define __SHUNT_CHECKED __attribute__((warn_unused_result))

#define __SHUNT_PASTE2(a, b) a##b
#define __SHUNT_PASTE(a, b)  __SHUNT_PASTE2(a, b)
#define __SHUNT_STR2(...)    #__VA_ARGS__
#define __SHUNT_STR(...)     __SHUNT_STR2(__VA_ARGS__)

/*
 * A trampoline has a C name and any type; clang warns of a C function that returns a
 * class or a reference.
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
#define __SHUNT_C_BEGIN extern "C" {
#define __SHUNT_C_END   }
#else
#define __SHUNT_C_BEGIN
#define __SHUNT_C_END
#endif

/*
 * A record that libshunt finds through its section. "used" and "retain": it is
 * named from assembly, which link-time optimisation does not see. "aligned": the
 * compiler must not pad the records apart.
 */
#if defined(__has_attribute)
#if __has_attribute(retain)
#define __SHUNT_RETAIN __attribute__((retain))
#endif
#endif
#ifndef __SHUNT_RETAIN
#define __SHUNT_RETAIN
#endif
#define __SHUNT_SECTION(name) \
	__attribute__((used, section(name), aligned(8), visibility("default"))) __SHUNT_RETAIN

#ifdef __cplusplus
extern "C" {
#endif

/* What a module tells about itself. */
struct shunt_module {
	size_t size;     /* sizeof(struct shunt_module) as the module was compiled */
	void *call_keys; /* array of struct static_call_key */
	void *call_keys_end;
	void *static_keys; /* array of struct static_key */
	void *static_keys_end;
	const void *jumps; /* array of struct static_jump_entry */
	const void *jumps_end;
};

/*
 * Called by each module's constructor and destructor, once for every source file
 * that includes this header; the second and later calls do nothing. Thread-safe.
 * Registration finds the module's sites and turns them into direct calls; where
 * it cannot, calls go through the trampolines, and shunt_for_each_site() says why.
 */
SHUNT_API void shunt_module_register(const struct shunt_module *module);
SHUNT_API void shunt_module_unregister(const struct shunt_module *module);

#if __STDC_HOSTED__ && defined(__x86_64__) && !defined(SHUNT_GENERIC) && !defined(SHUNT_NO_MODULE)

#define __SHUNT_PER_MODULE __attribute__((weak, visibility("hidden")))

/* The bounds of the sections, from the linker; NULL where the module has none. */
extern char __start_static_call_keys[] __SHUNT_PER_MODULE;
extern char __stop_static_call_keys[] __SHUNT_PER_MODULE;
extern char __start_static_keys[] __SHUNT_PER_MODULE;
extern char __stop_static_keys[] __SHUNT_PER_MODULE;
extern const char __start_static_jumps[] __SHUNT_PER_MODULE;
extern const char __stop_static_jumps[] __SHUNT_PER_MODULE;

extern const struct shunt_module __shunt_module __SHUNT_PER_MODULE;
const struct shunt_module __shunt_module = {
	sizeof(struct shunt_module), __start_static_call_keys, __stop_static_call_keys,
	__start_static_keys,         __stop_static_keys,       __start_static_jumps,
	__stop_static_jumps,
};

/* (The priority on the declaration: gcc forgets it on the definition of one declared.) */
void __shunt_module_init(void) __SHUNT_PER_MODULE __attribute__((constructor(101)));
void __shunt_module_init(void)
{
	shunt_module_register(&__shunt_module);
}

void __shunt_module_exit(void) __SHUNT_PER_MODULE __attribute__((destructor(101)));
void __shunt_module_exit(void)
{
	shunt_module_unregister(&__shunt_module);
}

#endif

#ifdef __cplusplus
}
#endif

#endif
