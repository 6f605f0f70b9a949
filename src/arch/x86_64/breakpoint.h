/* SPDX-License-Identifier: MIT */
/*
 * Breakpoints of x86-64 in a signal's context, and what the default action of SIGTRAP comes to. For
 * libshunt and libshunt-signals; async-signal-safe, no lock, no state.
 */
#ifndef SHUNT_ARCH_X86_64_BREAKPOINT_H
#define SHUNT_ARCH_X86_64_BREAKPOINT_H

#include <shunt/port.h>

#include "linux/base/action.h"

#define SHUNT_TRAP_DB 1 /* REG_TRAPNO: single step, debug register, icebp */

/*
 * Whether it is a breakpoint instruction's. The kernel says SI_KERNEL; valgrind and gVisor
 * say TRAP_BRKPT, as the kernel does for icebp: that is a #DB.
 */
static inline bool shunt_is_breakpoint(const siginfo_t *info, const ucontext_t *uc)
{
	if (info->si_code == TRAP_BRKPT)
		return uc->uc_mcontext.gregs[REG_TRAPNO] != SHUNT_TRAP_DB;
	return info->si_code == SI_KERNEL;
}

/* What a trap handler emulates of a context, and where it goes on. */
static inline struct shunt_regs shunt_context_regs(const ucontext_t *uc)
{
	const greg_t *g = uc->uc_mcontext.gregs;

	return (struct shunt_regs){
		.ip = (uintptr_t)g[REG_RIP],
		.sp = (uintptr_t)g[REG_RSP],
		.flags = (uintptr_t)g[REG_EFL],
		.ax = (uintptr_t)g[REG_RAX],
	};
}

static inline void shunt_context_set_ip(ucontext_t *uc, uintptr_t ip)
{
	uc->uc_mcontext.gregs[REG_RIP] = (greg_t)ip;
}

static inline void shunt_context_set_regs(ucontext_t *uc, const struct shunt_regs *regs)
{
	greg_t *g = uc->uc_mcontext.gregs;

	g[REG_RIP] = (greg_t)regs->ip;
	g[REG_RSP] = (greg_t)regs->sp;
	g[REG_EFL] = (greg_t)regs->flags;
	g[REG_RAX] = (greg_t)regs->ax;
}

#define SHUNT_TRAP_FLAG 0x100 /* of RFLAGS: single step */

/*
 * The trap of a thread that steps: it has executed the site, and is to be told so behind it, as the
 * CPU would have told it. False: it does not step.
 */
static inline bool shunt_context_make_step(siginfo_t *info, ucontext_t *uc)
{
	greg_t *g = uc->uc_mcontext.gregs;

	if (!(g[REG_EFL] & SHUNT_TRAP_FLAG))
		return false;
	info->si_code = TRAP_TRACE;
	info->si_addr = (void *)g[REG_RIP]; /* NOLINT(performance-no-int-to-ptr) */
	g[REG_TRAPNO] = SHUNT_TRAP_DB;
	return true;
}

/*
 * The CPU, without a system call: Linux keeps its number in the limit of a segment of the GDT (what
 * the vDSO's getcpu() reads). valgrind does not know the instruction.
 */
static inline unsigned shunt_this_cpu(void)
{
	unsigned limit = 0;

	__asm__("lsl %1, %0" : "+r"(limit) : "r"(0x7bu) : "cc");
	return limit & 0xfff;
}

/* Back to in front of the breakpoint, which is then run again; false where it has gone. */
static inline bool shunt_back_to_breakpoint(ucontext_t *uc)
{
	greg_t *ip = &uc->uc_mcontext.gregs[REG_RIP];
	const uint8_t *code = (const uint8_t *)*ip;

	if (code[-1] == 0xcc) /* int3 */
		*ip -= 1;
	else if (code[-1] == 3 && code[-2] == 0xcd) /* int $3 */
		*ip -= 2;
	else
		return false;
	return true;
}

/* The number that an entry of trap_entry.S, of any libshunt, has; UINT_MAX: it is none. */
static inline unsigned shunt_trap_entry_number(const unsigned char *code)
{
	return code[25] == 0xb1 ? code[26] : ~0u; /* mov $number,%cl */
}

/*
 * The default action of SIGTRAP, as if no handler were there: the process dies when the handler
 * returns to @uc, so that a core dump shows the right place. A breakpoint is run again, because
 * the kernel kills even the first process of a PID namespace by a trap of its own CPU, but not
 * by what it sends to itself; a SIGTRAP that is sent is nothing to such a process. Its other
 * traps end at @int3, the address of such an instruction.
 */
static inline void shunt_die_of_trap(const siginfo_t *info, ucontext_t *uc, const void *int3)
{
	static const struct shunt_action dfl = {0};
	long pid = shunt_own_pid();
	uint64_t mask;

	if (pid == 1 && shunt_is_sent(info))
		return;
	(void)shunt_sigaction_raw(SIGTRAP, &dfl, NULL);
	/* What it interrupted may have waited with another mask, as sigsuspend() does. */
	memcpy(&mask, &uc->uc_sigmask, sizeof(mask));
	mask &= ~(1ul << (SIGTRAP - 1));
	memcpy(&uc->uc_sigmask, &mask, sizeof(mask));
	if (shunt_is_breakpoint(info, uc) && shunt_back_to_breakpoint(uc))
		return;
	if (pid == 1)
		uc->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)int3;
	else
		(void)shunt_syscall(SYS_tgkill, pid, shunt_own_tid(), SIGTRAP, 0);
}

#endif
