/* SPDX-License-Identifier: MIT */
/*
 * Whether this thread may be in a signal handler: then nothing may be called that takes a
 * lock of the C library's, for the handler may have interrupted its owner.
 *
 * While a handler runs, what the kernel has saved for it lies on the stack, above the handler's
 * own frames. So the stack is looked through, from here to its end, for the one thing in
 * it that hardly anything else looks like (shunt_is_frame_mark(), arch/process.h). What an earlier
 * handler has left there, in a part of the stack that a function has reserved but not written,
 * looks the same, and then the answer is a yes too many; there is no false no.
 *
 * The stack of a thread ends below its TCB at the latest: the C library puts that at the top
 * of what it was given. What lies behind is often other memory, without a gap.
 */
#include <signal.h>

#include "linux/base/action.h"
#include "linux/base/base.h"
#include "linux/base/syscall.h"
#include "linux/base/valgrind.h"

#define PAGE SHUNT_PAGE_SIZE

/* The longest stack that is looked through, bytes. */
#define LONGEST ((uintptr_t)64 << 20)

/* 1 or 0; or an error. */
static int is_readable(uintptr_t addr)
{
	unsigned char resident;
	long ret;

	if (shunt_is_translated()) /* which would complain */
		return !shunt_syscall(SYS_mincore, (long)(addr & -PAGE), 1, (long)&resident, 0);
	ret = shunt_probe(addr);
	if (ret == -EFAULT)
		return 0;
	/* A filter may say the same of every address: also of the kernel's. */
	if (ret == -EINVAL && shunt_probe(-PAGE) == -EFAULT)
		return 1;
	return ret && ret != -EINVAL ? (int)ret : -EPERM;
}

/* The stack is read past the frames that a sanitizer knows of. */
#define READS_STACK __attribute__((noinline, no_sanitize("address", "thread")))

READS_STACK static uint64_t word_at(uintptr_t addr)
{
	return *(const volatile uint64_t *)addr;
}

/* Where the stack that has @at ends at the latest. */
static uintptr_t end_of_stack(uintptr_t at)
{
	uintptr_t tcb = shunt_thread_end(), end = at + LONGEST;

	return tcb > at && tcb < end ? tcb : end;
}

/* ----------------------------------------------------------- under valgrind */

/*
 * valgrind makes frames of its own, without selectors. At their beginning is where the handler
 * returns to, as the program has told the kernel; most often the C library's for all signals.
 */
struct restorers {
	uintptr_t addrs[4];
	size_t n;
};

static bool is_restorer(const struct restorers *r, uint64_t word)
{
	for (size_t i = 0; i < r->n; i++)
		if (r->addrs[i] == word)
			return true;
	return false;
}

static struct restorers find_restorers(void)
{
	struct restorers r = {.n = 0};
	struct shunt_action action = {0};

	for (int sig = 1; sig <= 64 && r.n < 4; sig++) {
		uintptr_t at;

		if (shunt_sigaction_raw(sig, NULL, &action))
			continue;
		at = (uintptr_t)action.restorer;
		if (at && !is_restorer(&r, at))
			r.addrs[r.n++] = at;
	}
	return r;
}

/* ---------------------------------------------------------- the search of the stack */

/* What a frame is known by. */
struct marks {
	struct shunt_frame_mark own;
	bool is_translated;
	struct restorers restorers;
};

static bool is_of_frame(uintptr_t addr, const struct marks *m)
{
	return m->is_translated ? is_restorer(&m->restorers, word_at(addr))
				: shunt_is_frame_mark(m->own, addr, word_at);
}

/* The call has failed with @error; 0: a filter says that it was done. */
static int not_known(int error, const char *call)
{
	shunt_failed_call = call;
	return error ? error : -EIO;
}

/* 1 or 0; or an error: the stack cannot be looked at. */
static int is_on_stack(void)
{
	uintptr_t at = ((uintptr_t)__builtin_frame_address(0) & -(uintptr_t)SHUNT_FRAME_STEP) +
		       SHUNT_FRAME_BEFORE;
	uintptr_t start = at, end = end_of_stack(at);
	struct marks marks = {.own = shunt_frame_mark(), .is_translated = shunt_is_translated()};
	stack_t stack = {0};

	long ret = shunt_syscall(SYS_sigaltstack, 0, (long)&stack, 0, 0);

	if (ret)
		return not_known((int)ret, "sigaltstack");
	if (stack.ss_flags & SS_ONSTACK)
		return 1;
	if (marks.is_translated)
		marks.restorers = find_restorers();
	while (at < end) {
		uintptr_t next = (at & -PAGE) + PAGE;
		int readable = is_readable(at);

		if (readable < 0)
			return not_known(readable, "rt_sigprocmask");
		if (!readable)
			return 0;
		for (; at < next && at < end; at += SHUNT_FRAME_STEP)
			if (is_of_frame(at, &marks))
				return 1;
	}
	return end - start >= LONGEST;
}

/* valgrind would tell of words that nobody has written, and of those between two frames. */
int shunt_look_for_handler(void)
{
	int found;

	(void)shunt_ask_valgrind(SHUNT_VALGRIND_QUIET, 1, 0);
	found = is_on_stack();
	(void)shunt_ask_valgrind(SHUNT_VALGRIND_QUIET, -1, 0);
	return found;
}

bool shunt_may_be_in_handler(void)
{
	const char *earlier = shunt_failed_call;
	bool may_be = shunt_look_for_handler() != 0;

	shunt_failed_call = earlier;
	return may_be;
}
