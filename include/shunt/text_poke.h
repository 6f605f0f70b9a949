/* SPDX-License-Identifier: MIT */
/*
 * The poke itself, for JITs, tracers and other libraries that have sites of their
 * own: change one live instruction, or any number together, under running threads.
 * After the Linux kernel's <asm/text-patching.h> (Masami Hiramatsu, Jiri Kosina).
 *
 * A site is an instruction of 1 to 6 bytes that Shunt can execute in software: call,
 * jmp, jcc, ret, a nop, xor %eax,%eax in its long forms; before and after. No jump of
 * the program may lead into its middle. A site is known to the trap handler from its
 * first poke on; text_poke_forget() ends that. (All this is x86-64's.)
 *
 * On aarch64 a site is one instruction of 4 bytes at a multiple of 4: b, bl or nop, before and
 * after. Nothing traps.
 */
#ifndef SHUNT_TEXT_POKE_H
#define SHUNT_TEXT_POKE_H

#include <stddef.h>

#include <shunt/module.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One site of a batch. */
struct text_poke {
	void *addr;       /* of the site's first byte */
	const void *insn; /* the new instruction, as it is to stand at @addr */
	size_t len;       /* bytes in both, 1 to 6; on aarch64 4 */
	const void *old;  /* what must stand there now; NULL: whatever does */
	const void
		*emulate; /* @len bytes: what a thread that traps meanwhile executes; NULL: @insn */
};

/*
 * Change all @n sites with one set of core syncs, or none of them. When it returns 0
 * every thread that reaches a site executes the new instruction; while it runs, the
 * old or the new one.
 *
 * Returns 0, or a negative errno with nothing changed:
 *   -EINVAL  old or new is not one instruction of @len bytes that a site can have, or @addr
 *            is not aligned as instructions are; a pointer is NULL; or two sites overlap, be the
 * other one of an earlier call that has not been forgotten, or a site belongs to a static call or
 * key -ERANGE  the target of a jump or call is above 2^47 -EBUSY   other bytes than @old stand
 * there -EFAULT  the text is not mapped, or cannot be read -EACCES  it is shared memory -EDEADLK,
 * -ENOMEM, -EIO, -EPERM ...: as static_call_update()
 *
 * Any thread; from a signal handler too, but then perhaps -EDEADLK. The bytes at
 * @addr must be readable, and mapped privately.
 */
SHUNT_API int text_poke_bp_batch(const struct text_poke *pokes, size_t n) __SHUNT_CHECKED;

/*
 * int text_poke_bp(addr, insn, len), text_poke_bp(addr, insn, len, emulate): the same
 * for one site.
 */
SHUNT_API int text_poke_bp(void *addr, const void *insn, size_t len,
			   const void *emulate) __SHUNT_CHECKED;
#define text_poke_bp(addr, insn, ...)                 __TEXT_POKE_BP(addr, insn, __VA_ARGS__, NULL, )
#define __TEXT_POKE_BP(addr, insn, len, emulate, ...) (text_poke_bp)(addr, insn, len, emulate)

/*
 * Forget the sites in [addr, addr + len): their code goes away. No thread may be in
 * it any more. Not an error where there are none.
 */
SHUNT_API void text_poke_forget(const void *addr, size_t len);

#ifdef __cplusplus
}
#endif

#endif
