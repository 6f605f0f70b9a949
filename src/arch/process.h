/* SPDX-License-Identifier: MIT */
/*
 * What the port for a Linux process (src/linux) asks of a CPU, besides arch.h, which the core asks.
 * process.h of the CPU's folder has, in line:
 *
 *	shunt_syscall(), shunt_syscall6()
 *		a system call of 4 and of 6 arguments; returns what the kernel does, -errno
 *		on failure. errno is left alone
 *	shunt_keeping_vectors(fn, arg)
 *		@fn(@arg), which makes system calls, from a stub of function tracing that has
 *		not saved the vector registers: with what a system call may change of them saved
 *		around it
 *	shunt_copy_text(to, from, len)
 *		a copy that no sanitizer sees, by no function of the C library's
 *	SHUNT_PAGE_SIZE
 *		bytes of a page, uintptr_t; a constant where the CPU has one size alone
 *	shunt_cycles()
 *		a counter that is seldom twice the same. Not on the way of an update: a
 *		thread that has forbidden itself to read it (PR_SET_TSC) dies of it
 *	shunt_cycles_ns()
 *		the same in nanoseconds, roughly
 *	shunt_thread_pointer()
 *		of this thread; 0: the C library has not set it up. Where there is no such
 *		thread yet, too
 *	shunt_thread_end()
 *		where this thread's own memory ends at the latest, its stack included
 *	shunt_serialise_cpu()
 *		execute a serialising instruction
 *	shunt_serialise_alone()
 *		the same, where no other CPU runs this text, and cheaper; false: it is not
 *		to be had. SHUNT_SERIALISE_ALONE is its name
 *	shunt_clean_text(writes, n, stride)
 *		what was written to text, by whatever address, is what is fetched from now
 *		on where it is executed, by each CPU that then serialises: the caches are
 *		cleaned through the addresses of the writes. Nothing where CPUs see to it
 *	SHUNT_NEW_CODE_SYNC
 *		1: code at a new address needs a core sync before a site leads there
 *	shunt_flushes_by_broadcast()
 *		whether a CPU changes another's TLB without interrupting it, so that a site
 *		that crosses pages must not be remapped
 *	shunt_has_keys(), shunt_get_rights(), shunt_set_rights()
 *		memory protection keys (base/pkeys.h), and the rights of this thread to them
 *	shunt_read_by_key_0(addr, how)
 *		the probe of shunt_area_is_readable() with the rights to all other keys
 *		withdrawn; nothing is read or written meanwhile
 *	SHUNT_PROT_CPU
 *		what mprotect() takes from a mapping unless it is told, beside PROT_READ, _WRITE and
 *		_EXEC, and /proc/self/maps does not show (text/area_prot.h); 0: there is no such
 *		protection, and none of what follows is defined
 *	shunt_has_prot_cpu()
 *		whether this machine has it
 *	SHUNT_PROT_CPU_FLAG
 *		its name among the VmFlags of /proc/self/smaps
 *	SHUNT_PROT_CPU_PROPERTY, SHUNT_PROT_CPU_BIT
 *		the property by whose bit an object asks for it (PT_GNU_PROPERTY)
 *	shunt_ask_valgrind(request, arg1, arg2)
 *		its client request: 0 outside of valgrind
 *	SHUNT_SA_RESTORER, shunt_restorer()
 *		flag and function by which signal handlers return to the kernel; 0, NULL
 *	SHUNT_FRAME_BEFORE, SHUNT_FRAME_STEP, struct shunt_frame_mark, shunt_frame_mark()
 *		what the kernel saves for a handler is known by a mark; below
 *	shunt_is_frame_mark(mark, addr, word_at)
 *		whether it is at @addr, a multiple of SHUNT_FRAME_STEP, before which
 *		SHUNT_FRAME_BEFORE bytes can be read
 *	SHUNT_UC_SP, SHUNT_UC_IP, SHUNT_UC_EXTENT, shunt_is_ucontext(mark, addr, word_at)
 *		where in a ucontext_t the stack and the instruction pointer are; whether it is
 *		at @addr, of which SHUNT_UC_EXTENT bytes can be read
 *	shunt_cycles_are_time()
 *		whether shunt_cycles() is a clock, the same on all CPUs
 *	shunt_add_on_thread(counter, n)
 *		adds and returns what was there; no signal handler of the thread comes between.
 *		No other thread adds
 *	shunt_has_crc32c(), shunt_crc32c_8(crc, bytes), shunt_crc32c_1(crc, byte)
 *		the CPU's instructions for CRC-32C
 *	shunt_fill_bytes(to, n)
 *		zeroes, by no function of the C library's
 *	SHUNT_HAS_FAST_HOOKS
 *		1: trace_hooks.S is there
 *	shunt_relax_cpu()
 *		a hint to the CPU, between two looks at what another thread writes
 *	SHUNT_CFI_RETURN, SHUNT_CFI_PROGRAM
 *		DWARF's column of the return address; the rules at a function's first
 *		instruction
 *	SHUNT_AREA_VENEER
 *		bytes of one of a module's own veneers (<shunt/module.h>)
 *	shunt_area_veneer_word(bytes, addr)
 *		the address of the word that such a one jumps through; 0: it is none
 *	struct shunt_veneer, shunt_veneer_to(target)
 *		a veneer of a pool: code, and @target, which it jumps to
 *	struct shunt_entry_stub, shunt_entry_stub_for(at, ip, next, called), shunt_entry_next(ip)
 *		where SHUNT_HAS_ENTRY_STUBS: the stub for the entry at @ip, to stand at @at; and
 *		where the function goes on behind an entry
 */
#ifndef SHUNT_ARCH_PROCESS_H
#define SHUNT_ARCH_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

/*
 * @fn(@arg), with all vector registers saved around it: for what a stub that has not saved them is
 * at seldom, and must call the C library for. saving.S; between the libraries of one build.
 */
void shunt_saving_vectors(void (*fn)(void *), void *arg) __attribute__((visibility("default")));

#if defined(__x86_64__)
#include "arch/x86_64/process.h"
#elif defined(__aarch64__)
#include "arch/aarch64/process.h"
#else
#error "no such folder in src/arch: see doc/porting.md"
#endif

#endif
