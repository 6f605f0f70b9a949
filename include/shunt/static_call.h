/* SPDX-License-Identifier: MIT */
/*
 * Static calls: calls through a name whose target changes rarely, at the cost of
 * a direct call. After the Linux kernel's <linux/static_call.h> (Josh Poimboeuf,
 * Peter Zijlstra), for ordinary processes.
 *
 *	DEFINE_STATIC_CALL(checksum, checksum_generic);
 *
 *	sum = static_call(checksum)(buf, len);            one direct call
 *	err = static_call_update(checksum, checksum_avx2);
 *
 * static_call(name) names a trampoline, __SCT__name, that jumps through the key,
 * __SCK__name. The compiler emits an ordinary call to it; libshunt finds these
 * calls in the relocations that the linker keeps (-Wl,--emit-relocs) and rewrites
 * each to a direct call of the current target. Without the relocations all of
 * this works the same, through the trampoline.
 *
 * The guarantee: when static_call_update() returns 0, every call that starts
 * afterwards, on any thread, reaches the new function; while it runs, each call
 * reaches the old or the new function and nothing else; when it returns an
 * error, nothing has changed.
 *
 * A static call may be used from the first instruction of the program on, before
 * any constructor has run.
 */
#ifndef SHUNT_STATIC_CALL_H
#define SHUNT_STATIC_CALL_H

#include <stddef.h>
#include <stdint.h>

#include <shunt/module.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * One key. Its fields belong to libshunt, except that the trampoline reads @func.
 */
struct static_call_key {
	void (*func)(void);     /* the current target; never NULL */
	const char *name;       /* as given to DEFINE_STATIC_CALL */
	void (*init)(void);     /* the target that it was defined with */
	struct shunt_mod *mods; /* its sites, a list element for each module */
	uint32_t flags;         /* STATIC_CALL_NULLABLE ... */
	uint32_t reserved;
};

#define STATIC_CALL_NULLABLE 1u  /* may be updated to NULL */
#define STATIC_CALL_BAKED    2u  /* `shunt bake` wrote direct calls of @init into the file */
#define STATIC_CALL_GONE     4u  /* its module is being unloaded */
#define STATIC_CALL_KNOWN    8u  /* of a module's first key: it has registered */
#define STATIC_CALL_NO_RET0  16u /* its function does not return an integer or a pointer */
#define STATIC_CALL_STALE    32u /* a site does not do what it says: updates look at each */

/* What a NULL key and a RET0 key point to. Not for calling. */
SHUNT_API void __static_call_nop(void);
SHUNT_API long __static_call_return0(void);

/*
 * The functions behind static_call_update() and static_call_query(). @func is
 * NULL, STATIC_CALL_RET0 or a function of the key's type; the macros check that.
 */
SHUNT_API int __static_call_update(struct static_call_key *key, void (*func)(void)) __SHUNT_CHECKED;
SHUNT_API void *__static_call_query(const struct static_call_key *key);

/*
 * Many keys that change together: static calls, and static keys (static_key.h).
 *
 *	struct static_call_batch batch = STATIC_CALL_BATCH_INIT;
 *
 *	err = static_call_batch_add(&batch, checksum, checksum_avx2);
 *	err = static_branch_batch_enable(&batch, &tracing);
 *	err = static_call_batch_commit(&batch);
 *	static_call_batch_destroy(&batch);
 *
 * A batch belongs to one thread at a time. Its fields belong to libshunt.
 */
struct static_call_batch {
	struct shunt_key_change *changes;
	size_t n, max;
};
#define STATIC_CALL_BATCH_INIT \
	{                      \
		NULL, 0, 0     \
	}

SHUNT_API int __static_call_batch_add(struct static_call_batch *batch, struct static_call_key *key,
				      void (*func)(void)) __SHUNT_CHECKED;

/*
 * Change all keys of @batch, with one set of core syncs for all their sites: all of
 * them change, or none does. Calls are old or new key by key while it runs. @batch
 * stays as it is and can be committed again.
 *
 * Returns 0 or a negative errno as static_call_update() does; -EINVAL also where a
 * key is in it twice.
 */
SHUNT_API int static_call_batch_commit(struct static_call_batch *batch) __SHUNT_CHECKED;

/* Free what @batch holds, and empty it. NULL is fine. */
SHUNT_API void static_call_batch_destroy(struct static_call_batch *batch);

#ifdef __cplusplus
}
#endif

#define STATIC_CALL_KEY(name)   __SHUNT_PASTE(__SCK__, name)
#define STATIC_CALL_TRAMP(name) __SHUNT_PASTE(__SCT__, name)

/* ------------------------------------------------- with direct calls: the CPU's own */
#if defined(__SHUNT_X86_64)

/*
 * The trampoline: endbr64; jmp *__SCK__name(%rip). As bytes, so that it
 * assembles under -masm=intel too; libshunt knows a trampoline by them and finds
 * the key through the displacement.
 */
/* clang-format off */
#define __SHUNT_TRAMP_CODE(key)                                                        \
		"	.byte 0xf3, 0x0f, 0x1e, 0xfa\n"                                \
		"	.byte 0xff, 0x25\n"                                            \
		"	.long " key " - . - 4\n"
/* What does not return. */
#define __SHUNT_TRAP_CODE "ud2"
/* Of an address that another module may have, into %0. */
#define __SHUNT_GOT_CODE(symbol)                                                       \
			"{movq " symbol "@GOTPCREL(%%rip), %0|"                        \
			"mov %0, qword ptr " symbol "@GOTPCREL[rip]}"
/* clang-format on */

#elif defined(__SHUNT_AARCH64)

/*
 * The same: bti c; adrp x16, __SCK__name; ldr x16, [x16, #:lo12:__SCK__name]; br x16. x16 is for
 * what stands between a call and its function, as linkers' stubs do; and a function's landing pad
 * is one for a branch by it. (At multiples of 16 no adrp is one of those that a linker changes for
 * Cortex-A53's erratum 843419.)
 */
/* clang-format off */
#define __SHUNT_TRAMP_CODE(key)                                                        \
		"	hint	#34\n"                                                 \
		"	adrp	x16, " key "\n"                                        \
		"	ldr	x16, [x16, :lo12:" key "]\n"                           \
		"	br	x16\n"
#define __SHUNT_TRAP_CODE "brk #0"
#define __SHUNT_GOT_CODE(symbol)                                                       \
			"adrp	%0, :got:" symbol "\n"                                 \
			"	ldr	%0, [%0, :got_lo12:" symbol "]"
/* clang-format on */

#endif

#ifdef __SHUNT_HAS_PORT

/*
 * Key and trampoline are hidden, so that two plugins may each have a key of the
 * same name; EXPORT_STATIC_CALL lifts that.
 */
/* clang-format off */
#define __SHUNT_DEFINE_TRAMP(name)                                                     \
	__SHUNT_KEY_VISIBILITY(__shunt_hidden_, ".hidden ", name);                                          \
	__SHUNT_TRAMP(__SHUNT_STR(STATIC_CALL_TRAMP(name)), __SHUNT_STR(STATIC_CALL_KEY(name)))
#define __SHUNT_TRAMP(tramp, key)                                                      \
	__asm__(".pushsection .text.static_call, \"ax\", @progbits\n"                  \
		"	.balign 16\n"                                                  \
		"	.globl " tramp "\n"                                            \
		"	.hidden " tramp "\n"                                           \
		"	.type " tramp ", @function\n"                                  \
		tramp ":\n"                                                            \
		"	.cfi_startproc\n"                                              \
		__SHUNT_TRAMP_CODE(key)                                                \
		"	.cfi_endproc\n"                                                \
		"	.size " tramp ", . - " tramp "\n"                              \
		".popsection\n")

/*
 * Make a key usable from other ELF modules, which DECLARE_STATIC_CALL it. Put it
 * behind the DEFINE_STATIC_CALL, in the same file.
 */
#define EXPORT_STATIC_CALL(name)                                                       \
	__asm__(".ifndef " __SHUNT_STR(STATIC_CALL_TRAMP(name)) "\n"                   \
		".error \"EXPORT_STATIC_CALL(" #name ") stands behind its DEFINE_STATIC_CALL\"\n" \
		".endif\n"                                                             \
		".protected " __SHUNT_STR(STATIC_CALL_TRAMP(name)) "\n");              \
	__SHUNT_KEY_VISIBILITY(__shunt_protected_, ".protected ", name)

/*
 * The visibility of a key, said to the assembler, where the last word counts. Clang's
 * link-time optimisation drops what a file-scope asm says of a symbol that C defines,
 * so there it stands in a function that is never called, in a section of its own. (It has
 * an instruction: ld.lld gives the unwind entry of an empty function to what follows it.)
 */
#ifdef __clang__
#define __SHUNT_KEY_VISIBILITY(function, how, name)                                              \
	static __attribute__((__used__, __naked__, __section__(".text.shunt_visibility"))) void \
	__SHUNT_PASTE(function, name)(void)      \
	{                                                                              \
		__asm__(how __SHUNT_STR(STATIC_CALL_KEY(name)) "\n\t" __SHUNT_TRAP_CODE);    \
	}                                                                              \
	__SHUNT_NEED_SEMICOLON
#else
#define __SHUNT_KEY_VISIBILITY(function, how, name)                                              \
	__asm__(how __SHUNT_STR(STATIC_CALL_KEY(name)) "\n")
#endif
/* clang-format on */

/*
 * A direct call of the trampoline, which libshunt turns into a direct call of
 * the target: static_call(name)(args...).
 */
#define static_call(name) (STATIC_CALL_TRAMP(name))

/*
 * The address of a symbol that may live in another module: from the GOT, because
 * &symbol in an executable would ask for a copy relocation.
 */
#define __SHUNT_ADDRESS(symbol) __SHUNT_GOT(__SHUNT_STR(symbol))
/* clang-format off */
#define __SHUNT_GOT(symbol)                                                    \
	__extension__({                                                        \
		void *__shunt_addr;                                            \
		__asm__(__SHUNT_GOT_CODE(symbol)                               \
			: "=r"(__shunt_addr));                                 \
		__shunt_addr;                                                  \
	})
/* clang-format on */

#else /* ------------------------------------------------------------ generic */

/* No port for this architecture: the plain indirect call. */
#define __SHUNT_DEFINE_TRAMP(name) __SHUNT_NEED_SEMICOLON
#define EXPORT_STATIC_CALL(name)   __SHUNT_NEED_SEMICOLON
#define static_call(name)                                            \
	(__SHUNT_FUNCTION_CAST(__typeof__(&STATIC_CALL_TRAMP(name)), \
			       __atomic_load_n(&STATIC_CALL_KEY(name).func, __ATOMIC_ACQUIRE)))
#define __SHUNT_ADDRESS(symbol) __SHUNT_CAST(void *, &(symbol))

#endif

/* ------------------------------------------------------------------ common */

/*
 * DECLARE_STATIC_CALL(name, func): in a header, for a key that is defined
 * elsewhere, possibly in another module. @func is any function of the key's type, or a
 * pointer to one; only its type is used. Expands to declarations of the key and the trampoline.
 */
#define DECLARE_STATIC_CALL(name, func)                                                \
	__SHUNT_C_BEGIN                                                                \
	extern struct static_call_key STATIC_CALL_KEY(name);                           \
	__extension__ extern __SHUNT_TYPE(func)                                        \
		STATIC_CALL_TRAMP(name) __asm__(__SHUNT_STR(STATIC_CALL_TRAMP(name))); \
	__SHUNT_REFUSE_CONST(name);                                                    \
	__SHUNT_C_END                                                                  \
	__SHUNT_NEED_SEMICOLON

/* A key has its target before any code has run: in C++ too, a variable's value is none. */
#ifdef __cplusplus
#define __SHUNT_REFUSE_VARIABLE(target)            \
	static_assert(__shunt_is_constant(target), \
		      "a static call starts out with a function, not with a variable")
#else
#define __SHUNT_REFUSE_VARIABLE(target) __SHUNT_NEED_SEMICOLON
#endif

#define __DEFINE_STATIC_CALL(name, type, target, key_flags)                       \
	__SHUNT_REFUSE_VARIABLE(target);                                          \
	DECLARE_STATIC_CALL(name, type);                                          \
	__SHUNT_C_BEGIN                                                           \
	__SHUNT_SECTION("static_call_keys")                                       \
	struct static_call_key STATIC_CALL_KEY(name) = {__SHUNT_FUNCTION(target), \
							__SHUNT_STR(name),        \
							__SHUNT_FUNCTION(target), \
							__SHUNT_NULL,             \
							key_flags,                \
							0};                       \
	__SHUNT_C_END                                                             \
	__SHUNT_DEFINE_TRAMP(name)

/* DEFINE_STATIC_CALL(name, func): a key that starts out calling @func. */
#define DEFINE_STATIC_CALL(name, func) \
	__DEFINE_STATIC_CALL(name, func, func, __SHUNT_HAS_ZERO(func) ? 0 : STATIC_CALL_NO_RET0)

/*
 * DEFINE_STATIC_CALL_NULL(name, func): a key of the type of @func, a function
 * that returns void, that starts out doing nothing: the call becomes a nop.
 */
#define DEFINE_STATIC_CALL_NULL(name, func)  \
	__SHUNT_REFUSE_PROMISES(name, func); \
	__SHUNT_REFUSE_VALUE(func);          \
	__DEFINE_STATIC_CALL(name, func, __static_call_nop, STATIC_CALL_NULLABLE)

/*
 * DEFINE_STATIC_CALL_RET0(name, func): a key of the type of @func that starts out
 * returning 0: on x86-64 the call becomes an instruction that clears the result register, on
 * aarch64 a call of a function of libshunt's, as a tail call does on either.
 * @func returns an integer of at most 8 bytes, a pointer or a _Bool.
 */
#define DEFINE_STATIC_CALL_RET0(name, func)  \
	__SHUNT_REFUSE_PROMISES(name, func); \
	__SHUNT_REFUSE_NO_ZERO(func);        \
	__DEFINE_STATIC_CALL(name, func, __static_call_return0, 0)

/*
 * static_call_cond(name)(args...): the same call for a key that may be NULL,
 * whose function returns void; nothing happens while it is, and there is no value. (The
 * arguments are evaluated all the same.)
 */
#define static_call_cond(name) (void)static_call(name)

/*
 * int static_call_update(name, func): make every call of @name reach @func.
 *
 * @func: a function of the key's type (anything else does not compile), NULL for
 * a key defined with DEFINE_STATIC_CALL_NULL, or STATIC_CALL_RET0; in C also a
 * void * such as dlsym() returns, whose type is the caller's word.
 *
 * Returns 0, or a negative errno with nothing changed; shunt_last_error() then
 * names site, key and system call:
 *   -EINVAL   no key; NULL for a key that is not nullable; STATIC_CALL_RET0 for one whose
 *             function does not return an integer or a pointer; static_call(...), which is a
 *             trampoline: static_call_query() tells what a key calls
 *   -EBUSY    foreign bytes at a site (a debugger's breakpoint, another patcher)
 *   -EOPNOTSUPP  the module was baked, and has lost the table of its sites: for good
 *   -EDEADLK  called while this thread is in an update (from a signal handler)
 *   -ENOMEM, and what writing text or synchronising cores failed with (-EIO, -EPERM ...)
 *
 * Any thread may call it, concurrent updates are serialised. From a signal
 * handler it is safe too, but may return -EDEADLK. It does not wait for calls of
 * the old function that are still running.
 *
 * (A plain call on the outside: gcc forgets warn_unused_result within a ({ }).)
 */
#define static_call_update(name, func) \
	__static_call_update(__SHUNT_KEY_ADDRESS(name), __SHUNT_TYPED(name, func))
#define __SHUNT_TYPED(name, func)                                         \
	__SHUNT_FUNCTION(__extension__({                                  \
		__typeof__(&STATIC_CALL_TRAMP(name)) __shunt_func =       \
			__SHUNT_SAME_TYPE(STATIC_CALL_TRAMP(name), func); \
		__shunt_func;                                             \
	}))
#define __SHUNT_KEY_ADDRESS(name) \
	__SHUNT_FROM_VOID(struct static_call_key *, __SHUNT_ADDRESS(STATIC_CALL_KEY(name)))

/*
 * int static_call_batch_add(&batch, name, func): put the change of a key into a
 * batch; arguments as for static_call_update(). 0, -EINVAL or -ENOMEM.
 */
#define static_call_batch_add(batch, name, func)                          \
	__extension__({                                                   \
		__typeof__(&STATIC_CALL_TRAMP(name)) __shunt_func =       \
			__SHUNT_SAME_TYPE(STATIC_CALL_TRAMP(name), func); \
		__static_call_batch_add(batch, __SHUNT_KEY_ADDRESS(name), \
					__SHUNT_FUNCTION(__shunt_func));  \
	})

/*
 * static_call_query(name): the current target, a pointer to a function of the key's type; NULL, or
 * STATIC_CALL_RET0, where it is that; NULL also where there is no such key. Any thread, signal
 * handlers included. (It may be compared with a void * too, and in C++ converted to one.)
 */
#ifdef __cplusplus
#define static_call_query(name)                                 \
	(__shunt_queried<__typeof__(&STATIC_CALL_TRAMP(name))>{ \
		__extension__({ __static_call_query(__SHUNT_KEY_ADDRESS(name)); })})
#else
#define static_call_query(name)                              \
	(__extension__(__typeof__(&STATIC_CALL_TRAMP(name))) \
		 __static_call_query(__SHUNT_KEY_ADDRESS(name)))
#endif

#include <shunt/static_call_types.h>

#endif /* SHUNT_STATIC_CALL_H */
