/* SPDX-License-Identifier: MIT */
/*
 * Static keys: named booleans that change rarely, tested at the cost of a nop.
 * After the Linux kernel's <linux/jump_label.h> (Jason Baron, Peter Zijlstra).
 *
 *	DEFINE_STATIC_KEY_FALSE(tracing);
 *
 *	if (static_branch_unlikely(&tracing))     one instruction of no effect while it is off
 *		trace();
 *	err = static_branch_enable(&tracing);
 *
 * Each test is one instruction that records itself in a section of the module; no linker flag
 * is needed. On x86-64 it is a jmp, or a `test` whose immediate is the displacement of that jmp:
 * the two differ in their first byte alone, and one byte is written to switch between them. On
 * aarch64 it is a b or a nop. The guarantee is that of static calls: when an update returns 0,
 * every test that starts afterwards, on any thread, sees the new value; while it runs, the old or
 * the new; on an error nothing has changed.
 */
#ifndef SHUNT_STATIC_KEY_H
#define SHUNT_STATIC_KEY_H

#include <stddef.h>
#include <stdint.h>

#include <shunt/module.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The record of a key, one in the process. Its fields belong to libshunt. */
struct shunt_static_key {
	const char *name;
	struct shunt_mod *mods; /* its sites, a list element for each module */
	int count;              /* > 0: enabled, by so many */
	unsigned char on;       /* what the sites do; changes with the text */
	unsigned char initial;  /* as defined */
	unsigned char unknown;  /* not 0: some of its sites are not known, or not up to date */
	unsigned char pending;  /* not 0: its module has not registered (yet) */
};

/*
 * What the name of a key stands for in C: a constant of the module that leads to
 * the key, which may live in another one. (So that the test can name something
 * whose address the assembler knows, also in position-independent code.)
 */
struct static_key {
	struct shunt_static_key *first; /* of the array; or the key itself */
	const struct static_key *self;  /* the first handle of the array */
};

struct static_key_true {
	struct static_key key;
};

struct static_key_false {
	struct static_key key;
};

/*
 * Where a test is, where it jumps to, and for which key: offsets from the fields. The
 * records of a module stand side by side in its section .static_jumps, and no symbol of
 * the linker's says where that begins and ends: GNU ld and gold keep all sections that
 * such a symbol stands for, and with them the code of each site. The last word is how
 * libshunt sees where the records end; and what the instruction is that does not jump: a nop of
 * the same length, or `test $displacement,%eax` (%al).
 */
struct static_jump_entry {
	int32_t code; /* 0: for no site */
	int32_t target;
	int32_t handle; /* bit 0: jumps while the key is off */
	uint32_t magic; /* STATIC_JUMP_MAGIC: a nop; STATIC_JUMP_MAGIC_TEST: a test */
};

#define STATIC_JUMP_MAGIC      0xd1f5a7c3u
#define STATIC_JUMP_MAGIC_TEST 0xd1f5a7c4u

/* What the macros below call, with the handle of a key. */
SHUNT_API int __static_key_enable(const struct static_key *handle) __SHUNT_CHECKED;
SHUNT_API int __static_key_disable(const struct static_key *handle) __SHUNT_CHECKED;
SHUNT_API int __static_key_inc(const struct static_key *handle) __SHUNT_CHECKED;
SHUNT_API int __static_key_dec(const struct static_key *handle) __SHUNT_CHECKED;
SHUNT_API int __static_key_count(const struct static_key *handle);

/*
 * The same for a key that is not named but pointed to, as in the kernel: &name.key is a struct
 * static_key *, whichever way the key starts out.
 *
 *	void static_key_toggle(struct static_key *key)
 *	{
 *		if (static_key_enabled(key))
 *			static_key_disable(key);
 *		else
 *			static_key_enable(key);
 *	}
 *
 * Return as static_branch_enable() and the others do (below), the kernel's nothing or a bool: so
 * the compiler does not insist that the result is looked at. A failure is told in a message too.
 */
static inline __SHUNT_UNTRACED int static_key_enable(const struct static_key *key)
{
	return __static_key_enable(key);
}

static inline __SHUNT_UNTRACED int static_key_disable(const struct static_key *key)
{
	return __static_key_disable(key);
}

static inline __SHUNT_UNTRACED int static_key_slow_inc(const struct static_key *key)
{
	return __static_key_inc(key);
}

static inline __SHUNT_UNTRACED int static_key_slow_dec(const struct static_key *key)
{
	return __static_key_dec(key);
}

struct static_call_batch;
SHUNT_API int __static_key_batch_add(struct static_call_batch *batch,
				     const struct static_key *handle, int on) __SHUNT_CHECKED;

#ifdef __cplusplus
}
#endif

/*
 * DEFINE_STATIC_KEY_TRUE(name), DEFINE_STATIC_KEY_FALSE(name): a key that starts out
 * on, or off. DEFINE_STATIC_KEY_ARRAY_TRUE(name, count), _FALSE: @count of them;
 * @count is an integer constant that the assembler understands (no sizeof).
 * DECLARE_STATIC_KEY_TRUE(name), ..._ARRAY_FALSE(name, count): in a header.
 * EXPORT_STATIC_KEY(name): usable from other ELF modules; behind the definition.
 *
 * DEFINE_STATIC_KEY_MAYBE(CONFIG, name), DECLARE_STATIC_KEY_MAYBE(CONFIG, name): one that starts
 * out on where CONFIG is a macro that is 1, else off; tested by static_branch_maybe(CONFIG, &name).
 *
 * A definition may have `static` in front, as in the kernel. The key's name stays one for the whole
 * module: two files that define it do not link.
 */
#define DEFINE_STATIC_KEY_TRUE(name) \
	__SHUNT_DEFINE_KEY(name, , 1, static_key_true, __SKT__, _SKT__, 1)
#define DEFINE_STATIC_KEY_FALSE(name) \
	__SHUNT_DEFINE_KEY(name, , 1, static_key_false, __SKF__, _SKF__, 0)
#define DEFINE_STATIC_KEY_ARRAY_TRUE(name, count) \
	__SHUNT_DEFINE_KEY(name, [count], count, static_key_true, __SKT__, _SKT__, 1)
#define DEFINE_STATIC_KEY_ARRAY_FALSE(name, count) \
	__SHUNT_DEFINE_KEY(name, [count], count, static_key_false, __SKF__, _SKF__, 0)

#define DEFINE_STATIC_KEY_MAYBE(config, name) \
	__SHUNT_PASTE(__SHUNT_DEFINE_KEY_, __SHUNT_IS_ENABLED(config))(name)
#define __SHUNT_DEFINE_KEY_0(name) DEFINE_STATIC_KEY_FALSE(name)
#define __SHUNT_DEFINE_KEY_1(name) DEFINE_STATIC_KEY_TRUE(name)
#define DECLARE_STATIC_KEY_MAYBE(config, name) \
	__SHUNT_PASTE(__SHUNT_DECLARE_KEY_, __SHUNT_IS_ENABLED(config))(name)
#define __SHUNT_DECLARE_KEY_0(name) DECLARE_STATIC_KEY_FALSE(name)
#define __SHUNT_DECLARE_KEY_1(name) DECLARE_STATIC_KEY_TRUE(name)

/* In the kernel these become read-only behind the start; here all handles are. */
#define DEFINE_STATIC_KEY_TRUE_RO(name)  DEFINE_STATIC_KEY_TRUE(name)
#define DEFINE_STATIC_KEY_FALSE_RO(name) DEFINE_STATIC_KEY_FALSE(name)

/* 1 where @config is a macro that is 1, else 0 (as IS_ENABLED() in the kernel). */
#define __SHUNT_IS_ENABLED(config)  __SHUNT_IS_ENABLED_1(config)
#define __SHUNT_IS_ENABLED_1(value) __SHUNT_IS_ENABLED_2(__SHUNT_ENABLED_##value)
#define __SHUNT_ENABLED_1           0,
#define __SHUNT_IS_ENABLED_2(junk)  __SHUNT_SECOND(junk 1, 0, 0)
#define __SHUNT_SECOND(a, b, ...)   b

#define DECLARE_STATIC_KEY_TRUE(name) \
	__SHUNT_DECLARE_KEY(name, , 1, static_key_true, __SKT__, _SKT__)
#define DECLARE_STATIC_KEY_FALSE(name) \
	__SHUNT_DECLARE_KEY(name, , 1, static_key_false, __SKF__, _SKF__)
#define DECLARE_STATIC_KEY_ARRAY_TRUE(name, count) \
	__SHUNT_DECLARE_KEY(name, [count], count, static_key_true, __SKT__, _SKT__)
#define DECLARE_STATIC_KEY_ARRAY_FALSE(name, count) \
	__SHUNT_DECLARE_KEY(name, [count], count, static_key_false, __SKF__, _SKF__)

/*
 * int static_branch_enable(&name), static_branch_disable(&name): switch on or off.
 * int static_branch_inc(&name), static_branch_dec(&name): the same counted: on while
 * there are more incs than decs.
 *
 * Return 0, or a negative errno with nothing changed (shunt_last_error() says more):
 *   -EBUSY      disable: more than one user counts on it; or foreign bytes at a site
 *   -EINVAL     dec: the count is 0
 *   -EOVERFLOW  inc: the count is INT_MAX
 *   -EAGAIN     the key's module has not registered yet, or no file of it does
 *               (-ffreestanding, SHUNT_NO_MODULE); or there is a test of the key in a
 *               module that could not be registered (the message says which, and why); or it, or a
 *               module that tests it, is another libshunt's in the process
 *   -EDEADLK, -ENOMEM, -EIO ...: as static_call_update()
 *
 * Any thread; from a signal handler too, but then perhaps -EDEADLK.
 *
 * int static_key_count(&name): the count; 0: off. bool static_key_enabled(&name): whether there is
 * one. Both take &name.key too. Any context.
 */
#define static_branch_enable(x)  __static_key_enable(&(x)->key)
#define static_branch_disable(x) __static_key_disable(&(x)->key)
#define static_branch_inc(x)     __static_key_inc(&(x)->key)
#define static_branch_dec(x)     __static_key_dec(&(x)->key)
#define static_key_count(x)      __static_key_count(__SHUNT_KEY_OF(x))
#define static_key_enabled(x)    (static_key_count(x) > 0)

/* Of &name, or &name.key. */
#ifdef __cplusplus
/* clang-format off */
extern "C++" {
static inline __SHUNT_UNTRACED const struct static_key *__shunt_key_of(const struct static_key *key) { return key; }
static inline __SHUNT_UNTRACED const struct static_key *__shunt_key_of(const struct static_key_true *x) { return &x->key; }
static inline __SHUNT_UNTRACED const struct static_key *__shunt_key_of(const struct static_key_false *x) { return &x->key; }
}
/* clang-format on */
#define __SHUNT_KEY_OF(x) __shunt_key_of(x)
#else
/* Each of the types begins with a struct static_key. */
#define __SHUNT_KEY_OF(x) \
	(__extension__ _Generic((x),                                  \
		 struct static_key *: (x),                            \
		 const struct static_key *: (x),                      \
		 struct static_key_true *: (const struct static_key *)(const void *)(x),         \
		 const struct static_key_true *: (const struct static_key *)(const void *)(x),   \
		 struct static_key_false *: (const struct static_key *)(const void *)(x),        \
		 const struct static_key_false *: (const struct static_key *)(const void *)(x)))
#endif

/*
 * int static_branch_batch_enable(&batch, &name), static_branch_batch_disable(...):
 * put the change into a batch (struct static_call_batch, <shunt/static_call.h>),
 * beside static calls or without any. 0 or -ENOMEM.
 */
#define static_branch_batch_enable(batch, x)  __static_key_batch_add(batch, &(x)->key, 1)
#define static_branch_batch_disable(batch, x) __static_key_batch_add(batch, &(x)->key, 0)

/*
 * static_branch_likely(&name), static_branch_unlikely(&name): the key's value, with
 * the code for the likely value in line. @name is a key or an element, with a
 * constant index, of an array of keys.
 */
#define static_branch_likely(x)        __SHUNT_BRANCH(x, 1)
#define static_branch_unlikely(x)      __SHUNT_BRANCH(x, 0)
#define static_branch_maybe(config, x) __SHUNT_PASTE(__SHUNT_BRANCH_, __SHUNT_IS_ENABLED(config))(x)
#define __SHUNT_BRANCH_0(x)            static_branch_unlikely(x)
#define __SHUNT_BRANCH_1(x)            static_branch_likely(x)

/*
 * What takes the `static` in front of a definition, and makes a second one an error with a line:
 * code that is never emitted.
 */
#define __SHUNT_KEY_ONCE(name)                                                             \
	__attribute__((__unused__)) inline void __SHUNT_PASTE(__shunt_defines_static_key_, \
							      name)(void)                  \
	{                                                                                  \
	}

#if __SIZEOF_POINTER__ == 8
#define __SHUNT_POINTER ".quad "
#else
#define __SHUNT_POINTER ".long "
#endif

/*
 * Whether a key waits for its module to register before it can be changed. Of a file that does not
 * register it (-ffreestanding, SHUNT_NO_MODULE) another file of the module may, or nobody in ring
 * 0.
 */
#ifdef __SHUNT_REGISTERS
#define __SHUNT_PENDING "1"
#elif defined(__SHUNT_HAS_PORT)
#define __SHUNT_PENDING "0x80"
#else
#define __SHUNT_PENDING "0"
#endif

/* clang-format off */

/*
 * Expands to the key, in the section of keys:
 *
 *	__SKF__name: struct shunt_static_key { "name", NULL, value, value, value }
 *
 * in assembly, because neither C++ nor the macro language can fill in an array; and
 * to its handle (next macro). The kind, T or F, is a part of the symbols' names, so that
 * a declaration of the other kind does not link; __SK__name stands beside the key's, so
 * that there is one definition, of either kind.
 */
#define __SHUNT_DEFINE_KEY(name, array, count, type, sk, skh, value)                      \
	__SHUNT_KEY_ONCE(name)                                                       \
	__SHUNT_KEY(__SHUNT_STR(name), __SHUNT_STR(__SHUNT_PASTE(sk, name)),            \
		    __SHUNT_STR(__SHUNT_PASTE(__SK__, name)), __SHUNT_STR(count),      \
		    __SHUNT_STR(value));                                               \
	__SHUNT_DECLARE_KEY(name, array, count, type, sk, skh)
#define __SHUNT_KEY(name, key, any, count, value)                                      \
	__asm__(".pushsection .rodata.str1.1, \"aMS\", %progbits, 1\n"                 \
		"77777:	.asciz \"" name "\"\n"                                         \
		".popsection\n"                                                        \
		".pushsection static_keys, \"aw\", %progbits\n"                        \
		"	.balign 8\n"                                                   \
		"	.globl " key "\n"                                              \
		"	.hidden " key "\n"                                             \
		"	.type " key ", %object\n"                                      \
		"	.globl " any "\n"                                              \
		"	.hidden " any "\n"                                             \
		"	.type " any ", %object\n"                                      \
		any ":\n"                                                              \
		key ":\n"                                                              \
		"	.rept " count "\n"                                             \
		"	" __SHUNT_POINTER "77777b, 0\n"                                \
		"	.long " value "\n"                                             \
		"	.byte " value ", " value ", 0, " __SHUNT_PENDING "\n"          \
		"	.endr\n"                                                       \
		"	.size " key ", . - " key "\n"                                  \
		"	.size " any ", . - " any "\n"                                  \
		".popsection\n")

/*
 * Expands to the handle, one in each module whatever the number of files that
 * declare the key:
 *
 *	extern struct static_key_false name;         @first = &__SKF__name, @self = &name
 *
 * It refers to the key weakly, or a key that is declared and not used would be missed when
 * the program is linked. A test of the key (__SHUNT_SITE) refers to it in earnest: the key's
 * symbol is that of the handle with one more underscore in front. And that an archive's
 * member with the key is linked, also where only an update names it, __SK__name is referred
 * to in a section that no linker keeps. Not in what may become a shared object: who links with
 * that would miss it, also where nothing uses the key. (By clang in that, too: the names in its
 * link-time optimisation are those that declarations name, and it does not say whether there
 * will be any.)
 */
#ifdef __SHUNT_HAS_PORT
#define __SHUNT_WEAKLY(key)    ".Lshunt_weak_" key
#define __SHUNT_WEAK_NAME(key, any)                            \
	".weakref " __SHUNT_WEAKLY(key) ", " key "\n"         \
	__SHUNT_WANT(any)
#if defined(__PIC__) && !defined(__PIE__) && !defined(__clang__)
#define __SHUNT_WANT(any) /* may be shared */
#else
#define __SHUNT_WANT(any)                                      \
	".pushsection .shunt.wanted, \"e\", %progbits\n"    \
	"	.quad " any "\n"                              \
	".popsection\n"
#endif
#else
#define __SHUNT_WEAKLY(key)    key
#define __SHUNT_WEAK_NAME(key, any) "\n"
#endif
#define __SHUNT_DECLARE_KEY(name, array, count, type, sk, skh)                            \
	__SHUNT_HANDLE(__SHUNT_STR(__SHUNT_PASTE(sk, name)),                            \
		       __SHUNT_STR(__SHUNT_PASTE(__SK__, name)),                          \
		       __SHUNT_STR(__SHUNT_PASTE(skh, name)), __SHUNT_STR(count)); \
	__SHUNT_C_BEGIN                                                                \
	extern struct type name array                                                  \
		__asm__(__SHUNT_STR(__SHUNT_PASTE(skh, name)))                    \
		__attribute__((__visibility__("hidden")));                             \
	__SHUNT_C_END                                                                  \
	__SHUNT_NEED_SEMICOLON
#define __SHUNT_HANDLE(key, any, handle, count)                                        \
	__asm__(".ifndef " handle "\n"                                                 \
		__SHUNT_WEAK_NAME(key, any)                                                 \
		".pushsection .data.rel.ro." handle ", \"awG\", %progbits, " handle ", comdat\n" \
		"	.balign 8\n"                                                   \
		"	.weak " handle "\n"                                            \
		"	.hidden " handle "\n"                                          \
		"	.type " handle ", %object\n"                                   \
		handle ":\n"                                                           \
		"77778:	.rept " count "\n"                                             \
		"	" __SHUNT_POINTER __SHUNT_WEAKLY(key) ", " handle "\n"         \
		"	.endr\n"                                                       \
		"	.size " handle ", . - 77778b\n"                                \
		".popsection\n"                                                        \
		".endif\n")

#define EXPORT_STATIC_KEY(name)                                                        \
	__asm__(".ifndef " __SHUNT_STR(__SHUNT_PASTE(__SK__, name)) "\n"                 \
		".error \"EXPORT_STATIC_KEY(" #name ") stands behind its DEFINE_STATIC_KEY\"\n.endif\n"); \
	__SHUNT_EXPORT_KEY(__SHUNT_STR(__SHUNT_PASTE(__SK__, name)));                          \
	__SHUNT_EXPORT_KEY(__SHUNT_STR(__SHUNT_PASTE(__SKT__, name)));                          \
	__SHUNT_EXPORT_KEY(__SHUNT_STR(__SHUNT_PASTE(__SKF__, name)))
#define __SHUNT_EXPORT_KEY(key)                                                        \
	__asm__(".ifdef " key "\n"                                                     \
		".protected " key "\n"                                                 \
		".endif\n")

/* clang-format on */

#ifdef __SHUNT_HAS_PORT

/*
 * How a key starts out is its type. &name.key has lost that: a test that took it would be compiled
 * for a key that starts out off.
 */
#ifdef __cplusplus
extern "C++" {
char __shunt_initial_value(const struct static_key_false *name);
char (&__shunt_initial_value(const struct static_key_true *name))[2];
}
#define __SHUNT_IS_TRUE(x) (sizeof(__shunt_initial_value(x)) == 2)
#else
/* clang-format off */
#define __SHUNT_IS_TRUE(x) \
	(__extension__ _Generic((x),               \
		 struct static_key_true *: 1,       \
		 const struct static_key_true *: 1, \
		 struct static_key_false *: 0,      \
		 const struct static_key_false *: 0))
#endif
/* clang-format off */

/*
 * The site, and its entry, in a section of its own (and in the same group as the site).
 * The relocation of no effect at the site makes the entry a part of the function: the
 * linker keeps and drops both together, and does not take functions for identical whose
 * entries, and thus keys, are not. (The section that no linker keeps
 * makes the reference to the key a strong one.) A site that is to
 * jump at first is as short as the assembler can make it; one that is not has to be as long as
 * the longest jump. (With SHUNT_NOP_BRANCHES it is a nop, for comparison: it is switched as
 * records of STATIC_JUMP_MAGIC are. On aarch64 it always is: nop and b are of one length.)
 *
 * (No numeric label: with -masm=intel clang takes 1b for a binary number.)
 */
#define __SHUNT_SITE(instruction, x, flag, label)                                      \
	__asm__ goto(".Lshunt_site%=:\n"                                               \
		     "	.reloc ., " __SHUNT_NO_RELOC ", .Lshunt_entry%=\n"             \
		     "	" instruction "\n"                                             \
		     "	.pushsection .shunt.wanted, \"e\", @progbits\n"               \
		     "	.quad _%c0\n"                                                  \
		     "	.popsection\n"                                                 \
		     "	.pushsection .static_jumps, \"a?\", @progbits, unique, %=\n"   \
		     "	.balign 4\n"                                                   \
		     ".Lshunt_entry%=:\n"                                              \
		     "	.long .Lshunt_site%= - ., %l[" #label "] - ., %c0 + %c1 - .\n" \
		     "	.long " __SHUNT_SITE_MAGIC "\n"                                \
		     "	.popsection\n"                                                 \
		     : : __SHUNT_SYMBOL(x), "i"(flag) : "cc" : label)
#ifdef __SHUNT_AARCH64
#define __SHUNT_SYMBOL         "Si" /* gcc: the address of a symbol in position-independent code */
#define __SHUNT_NO_RELOC       "R_AARCH64_NONE"
#define __SHUNT_JUMP           "b"
#else
#define __SHUNT_SYMBOL         "i"
#define __SHUNT_NO_RELOC       "R_X86_64_NONE"
#define __SHUNT_JUMP           "jmp"
#endif
#ifdef __SHUNT_AARCH64
#define __SHUNT_SITE_MAGIC     __SHUNT_JUMP_MAGIC
#define __SHUNT_SITE_OFF(jump) "nop"
#elif defined(SHUNT_NOP_BRANCHES)
#define __SHUNT_SITE_MAGIC     __SHUNT_JUMP_MAGIC
#define __SHUNT_SITE_OFF(jump) ".byte 0x0f, 0x1f, 0x44, 0x00, 0x00"
#else
#define __SHUNT_SITE_MAGIC     __SHUNT_JUMP_MAGIC_TEST
#define __SHUNT_SITE_OFF(jump) ".byte 0xa9\n	.long %l[" #jump "] - . - 4"
#endif

/*
 * (The value is assigned, not initialised, and clang++ gets a function of its own,
 * because clang 14 takes every label of a function for a target of every asm goto.)
 */
#define __SHUNT_BRANCH_BODY(x, flag)                                                   \
		__label__ __shunt_jumped;                                              \
		int __shunt_on;                                                        \
		__shunt_on = (flag);                                                   \
		if (__SHUNT_IS_TRUE(x) == (flag))                                      \
			__SHUNT_SITE(__SHUNT_SITE_OFF(__shunt_jumped), x, flag,        \
				     __shunt_jumped);                                  \
		else                                                                   \
			__SHUNT_SITE(__SHUNT_JUMP " %l[__shunt_jumped]", x, flag, __shunt_jumped); \
		if (0) {                                                               \
		__shunt_jumped:                                                        \
			__shunt_on = !(flag);                                          \
		}
#if defined(__clang__) && defined(__cplusplus)
#define __SHUNT_BRANCH(x, flag)                                                        \
	([]() __attribute__((__always_inline__)) {                                         \
		__extension__({                                                        \
			__SHUNT_BRANCH_BODY(x, flag)                                   \
			return __shunt_on != 0;                                        \
		});                                                                    \
	}())
#else
#define __SHUNT_BRANCH(x, flag)                                                        \
	__extension__({                                                                \
		__SHUNT_BRANCH_BODY(x, flag)                                           \
		__shunt_on;                                                            \
	})
#endif
/* clang-format on */

#else /* generic: no port for this architecture, so the key is read each time */

#define __SHUNT_BRANCH(x, flag) \
	(__atomic_load_n(&((x)->key.first + (&(x)->key - (x)->key.self))->on, __ATOMIC_ACQUIRE))

#endif

#endif /* SHUNT_STATIC_KEY_H */
