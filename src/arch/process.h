/* SPDX-License-Identifier: MIT */
/*
 * What the port for a Linux process (src/linux) asks of a CPU, besides arch.h, which the core asks.
 * process.h of the CPU's folder has, in line:
 *
 *	shunt_syscall(), shunt_syscall6()
 *		a system call of 4 and of 6 arguments; returns what the kernel does, -errno on
 *		failure. errno is left alone
 *	shunt_copy_text(to, from, len)
 *		a copy that no sanitizer sees, by no function of the C library's
 *	shunt_cycles()
 *		a counter that is seldom twice the same; shunt_cycles_ns(): it in nanoseconds,
 *roughly shunt_thread_pointer() of this thread, behind which is its own memory; 0: the C library
 *has not set it up shunt_serialise_cpu() execute a serialising instruction shunt_serialise_alone()
 *		the same, where no other CPU runs this text, and cheaper; false: not to be had.
 *		SHUNT_SERIALISE_ALONE is its name
 *	shunt_clean_text(writes, n, stride)
 *		what was written to text, by whatever address, is to be fetched from now on where it
 *		is executed, by each CPU that serialises: the caches are cleaned through the
 *		addresses of the writes. Nothing where CPUs see to it
 *	SHUNT_NEW_CODE_SYNC
 *		1: code at a new address needs a core sync before a site leads there
 *	SHUNT_FLUSHES_BY_BROADCAST()
 *		whether a CPU can change another's TLB without interrupting it, so that a site that
 *		crosses pages must not be remapped
 *	shunt_has_keys(), shunt_get_rights(), shunt_set_rights(), shunt_read_by_key_0(addr, how)
 *		memory protection keys (base/pkeys.h); the last: the probe of
 *shunt_area_is_readable() with the rights to all keys but 0 withdrawn, and nothing read or written
 *meanwhile shunt_ask_valgrind(request, arg1, arg2) its client request: 0 outside of valgrind
 *	SHUNT_SA_RESTORER, shunt_restorer()
 *		the flag and the function that signal actions need to return to the kernel; 0, NULL
 *	SHUNT_FRAME_BEFORE, SHUNT_FRAME_STEP, struct shunt_frame_mark, shunt_frame_mark(),
 *	shunt_is_frame_mark(mark, addr, word_at)
 *		what the kernel saves for a handler is known by: whether its mark is at @addr, a
 *		multiple of the step, of which so many bytes before can be read
 *	SHUNT_CFI_RETURN, SHUNT_CFI_PROGRAM
 *		DWARF's column of the return address, and the rules at a function's first
 *instruction SHUNT_AREA_VENEER, shunt_area_veneer_word(bytes, addr) bytes of one of a module's own
 *veneers (<shunt/module.h>), and the address of the word that it jumps through; 0: it is none
 *	struct shunt_veneer, shunt_veneer_to(target)
 *		a veneer of a pool: code, and @target, which it jumps to
 */
#ifndef SHUNT_ARCH_PROCESS_H
#define SHUNT_ARCH_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
#include "arch/x86_64/process.h"
#elif defined(__aarch64__)
#include "arch/aarch64/process.h"
#else
#error "no such folder in src/arch: see doc/porting.md"
#endif

#endif
