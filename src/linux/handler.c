/* SPDX-License-Identifier: MIT */
/*
 * Whether this thread may be in a signal handler: then nothing may be called that takes a
 * lock of the C library's, for the handler may have interrupted its owner.
 *
 * While a handler runs, what the kernel has saved for it lies on the stack, above the handler's
 * own frames. So the stack is looked through, from here to its end, for the one thing in
 * it that hardly anything else looks like: the saved flags and, behind them, the selectors of
 * user code. What an earlier handler has left there looks the same, and then the answer is
 * a yes too many; there is no false no.
 */
#include <signal.h>

#include "linux/linux.h"
#include "linux/syscall.h"
#include "linux/valgrind.h"

#define PAGE ((uintptr_t)4096)

/* The longest stack that is looked through, bytes. */
#define LONGEST ((uintptr_t)64 << 20)

/* In the kernel's frame, bytes from the selectors back. */
#define FLAGS_BEFORE    8
#define UC_FLAGS_BEFORE 184

/* 1 or 0; or an error. By a call that reads a signal mask there, and then refuses to use it. */
static int is_readable(uintptr_t addr)
{
	unsigned char resident;
	long ret;

	if (shunt_ask_valgrind(SHUNT_VALGRIND_RUNNING, 0, 0)) /* which would complain */
		return !shunt_syscall(SYS_mincore, (long)(addr & -PAGE), 1, (long)&resident, 0);
	ret = shunt_syscall(SYS_rt_sigprocmask, -1, (long)addr, 0, sizeof(uint64_t));
	if (ret == -EFAULT)
		return 0;
	return ret == -EINVAL ? 1 : -EPERM;
}

/* The stack is read past the frames that a sanitizer knows of. */
#define READS_STACK __attribute__((noinline, no_sanitize("address", "thread")))

READS_STACK static uint64_t word_at(uintptr_t addr)
{
	volatile uint64_t word = *(const volatile uint64_t *)addr;

	(void)shunt_ask_valgrind(SHUNT_VALGRIND_DEFINED, (long)&word, sizeof(word));
	return word;
}

static bool is_user_selector(unsigned selector)
{
	return selector > 3 && (selector & 3) == 3;
}

/* Whether the selectors in @addr, cs, gs, fs and ss (0 before Linux 4.7), are of such a frame. */
static bool is_frame(uintptr_t addr)
{
	uint64_t word = word_at(addr), flags;
	unsigned ss = (unsigned)(word >> 48);

	if (word << 16 >> 32 || !is_user_selector(word & 0xffff) || (ss && !is_user_selector(ss)))
		return false;
	flags = word_at(addr - FLAGS_BEFORE);
	return !(flags >> 32) && (flags & 0x202) == 0x202 && /* interrupts are on */
	       word_at(addr - UC_FLAGS_BEFORE) < 0x100;
}

bool shunt_may_be_in_handler(void)
{
	uintptr_t at = ((uintptr_t)__builtin_frame_address(0) & -(uintptr_t)8) + UC_FLAGS_BEFORE;
	uintptr_t end = at + LONGEST;
	stack_t stack = {0};

	if (shunt_syscall(SYS_sigaltstack, 0, (long)&stack, 0, 0) || (stack.ss_flags & SS_ONSTACK))
		return true;
	while (at < end) {
		uintptr_t next = (at & -PAGE) + PAGE;
		int readable = is_readable(at);

		if (readable <= 0)
			return readable != 0;
		for (; at < next; at += 8)
			if (is_frame(at))
				return true;
	}
	return true;
}
