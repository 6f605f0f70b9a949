/* SPDX-License-Identifier: MIT */
/*
 * The guard of function tracing (context.h), and who is in what when it is set already:
 *
 *	a callback calls a traced function	it is not traced
 *	a signal handler on top of a callback	a context of its own: it is, and the guard of
 *						the callback is put back behind it
 *	a handler on top of a callback has	the guard is a left one's, and reset
 *	left both, by longjmp()
 *
 * How they are told apart: while a handler runs, what the kernel has saved for it lies on its
 * stack, above its own frames, with the stack pointer that was interrupted. That of a handler on
 * top of the callback is at or below the guard's. A guard is live where that interrupted the very
 * stub, or the word below it is still the return address into the stub of what it has called; a
 * stack that was left and used again has something else there. What looks like a frame and is none
 * makes of a recursion a context of its own, at most SHUNT_CONTEXTS deep.
 *
 * What is not told apart: a guard that was left, and lies in a part of the stack that a function
 * of the program has reserved since and not written: what is called below that is not traced, nor
 * changes anything (-EDEADLK; of the library's own frames it is known, shunt_port_trace_called()).
 * And contexts that a signal handler switches in the middle of a callback (swapcontext() in a
 * handler). Then calls may be taken for left behind, or not be traced.
 *
 * No lock, no allocation but a page for many threads; compiled as the trap path is.
 */
#include <signal.h>

#include "core/ftrace.h"
#include "linux/base/base.h"
#include "linux/base/signal_frame.h"
#include "linux/base/syscall.h"
#include "linux/entry/context.h"

__thread struct shunt_context *shunt_context __attribute__((tls_model("initial-exec")));
struct shunt_context_chunk shunt_context_chunks;

extern const char shunt_ftrace_stubs[], shunt_ftrace_stubs_end[];

/* return_entry.S. Not there in a static program that traces no returns. */
#define WEAK __attribute__((__weak__, __visibility__("hidden")))
extern const char shunt_on_return[] WEAK, shunt_on_return_end[] WEAK;

#define PAGE ((uintptr_t)4096)

/* ----------------------------------------------------------------- who is in what */

/* A callback's own frames, and an alternate stack, at most; bytes. */
#define FARTHEST ((uintptr_t)1 << 20)

static bool is_in_stubs(uintptr_t ip)
{
	if (shunt_on_return && ip - (uintptr_t)shunt_on_return <=
				       (uintptr_t)shunt_on_return_end - (uintptr_t)shunt_on_return)
		return true;
	return ip - (uintptr_t)shunt_ftrace_stubs <=
	       (uintptr_t)shunt_ftrace_stubs_end - (uintptr_t)shunt_ftrace_stubs;
}

/* Whether the stub with the guard @guard waits for what it has called. */
static bool is_called(uintptr_t guard)
{
	return shunt_is_readable(guard - 8) &&
	       is_in_stubs(*(const volatile uintptr_t *)(guard - 8));
}

uintptr_t shunt_find_handler(uintptr_t sp, uintptr_t guard)
{
	uintptr_t end = sp < guard && guard - sp < FARTHEST ? guard : sp + FARTHEST;
	uintptr_t frame = shunt_find_signal_frame(sp, end);

	while (frame && (shunt_frame_sp(frame) > guard || guard - shunt_frame_sp(frame) > FARTHEST))
		frame = shunt_find_signal_frame(frame + 8, end);
	return frame;
}

/* Whether @guard is on an alternate stack that this thread is not on. */
static bool is_on_left_stack(uintptr_t guard)
{
	stack_t stack = {0};

	return !shunt_syscall(SYS_sigaltstack, 0, (long)&stack, 0, 0) &&
	       !(stack.ss_flags & (SS_ONSTACK | SS_DISABLE)) &&
	       guard - (uintptr_t)stack.ss_sp < stack.ss_size;
}

enum relation { RECURSION, ON_TOP, LEFT };

static enum relation relation_to(uintptr_t guard, uintptr_t sp)
{
	uintptr_t frame = shunt_find_handler(sp, guard);

	if (frame) {
		bool in_stub =
			is_in_stubs(*shunt_frame_ip(frame)) || shunt_frame_sp(frame) == guard;

		return in_stub || is_called(guard) ? ON_TOP : LEFT;
	}
	if (sp > guard || !is_called(guard))
		return LEFT;
	return guard - sp > PAGE && is_on_left_stack(guard) ? LEFT : RECURSION;
}

/* The guard is of what has been left: that of what is below it, if anything. */
static void drop_guard(struct shunt_context *c)
{
	if (c->depth) {
		c->sp = c->outer[--c->depth];
		return;
	}
	c->sp = 0;
	c->seq++;
}

void shunt_guard_drop(uintptr_t low, uintptr_t high)
{
	struct shunt_context *c = shunt_context;

	while (c && c->sp && c->sp - low < high - low)
		drop_guard(c);
}

/*
 * The library's own frames are below, here and in what the call does next: a guard in there is of
 * what has been left, whatever stack this is.
 */
void shunt_port_trace_called(uintptr_t sp)
{
	volatile char frames[4096];
	uintptr_t low = (uintptr_t)frames;

	frames[0] = 0;
	if (sp - low < 2 * sizeof(frames)) /* not so with a sanitizer's stack of its own */
		shunt_guard_drop(low, sp);
}

static void set_guard(struct shunt_context *c, uintptr_t sp)
{
	atomic_store_explicit(&c->sp, sp, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst); /* before anything is looked up */
}

/* -------------------------------------------------------------------- the records */

bool shunt_context_is_gone(const struct shunt_context *c)
{
	int32_t tid = atomic_load(&c->tid), pid = shunt_own_pid();

	if (tid <= 0)
		return !tid;
	return atomic_load(&c->pid) == pid && shunt_syscall(SYS_tgkill, pid, tid, 0, 0) == -ESRCH;
}

void shunt_contexts_of_copy(void)
{
	const int32_t pid = shunt_own_pid();

	for (struct shunt_context_chunk *k = &shunt_context_chunks; k; k = atomic_load(&k->next))
		for (size_t i = 0; i < SHUNT_CONTEXTS_OF_CHUNK; i++) {
			struct shunt_context *c = &k->contexts[i];

			int32_t tid = atomic_load(&c->tid);

			if (!tid || atomic_exchange(&c->pid, pid) == pid)
				continue; /* nobody's; or of a thread that the copy has made */
			if (c == shunt_context) {
				atomic_store(&c->tid, shunt_own_tid());
				continue;
			}
			/* One that such a thread is just making its own. */
			if (tid > 0 && !shunt_syscall(SYS_tgkill, pid, tid, 0, 0))
				continue;
			atomic_store(&c->sp, 0);
			c->seq++; /* what its process had seen of it (wait.c) is of no guard here */
			c->depth = 0;
			atomic_store(&c->tid, 0);
		}
}

/* One of thread @from (0: nobody's). */
static struct shunt_context *claim(int32_t from, int32_t to)
{
	for (struct shunt_context_chunk *k = &shunt_context_chunks; k; k = atomic_load(&k->next))
		for (size_t i = 0; i < SHUNT_CONTEXTS_OF_CHUNK; i++) {
			struct shunt_context *c = &k->contexts[i];
			int32_t seen = from;

			if (atomic_load(&c->tid) == from &&
			    atomic_compare_exchange_strong(&c->tid, &seen, to))
				return c;
		}
	return NULL;
}

/* Those of threads that have ended. How many there are. */
static size_t free_gone(void)
{
	size_t n = 0;

	for (struct shunt_context_chunk *k = &shunt_context_chunks; k; k = atomic_load(&k->next))
		for (size_t i = 0; i < SHUNT_CONTEXTS_OF_CHUNK; i++) {
			struct shunt_context *c = &k->contexts[i];
			int32_t tid = atomic_load(&c->tid);

			if (tid && shunt_context_is_gone(c) &&
			    atomic_compare_exchange_strong(&c->tid, &tid, 0))
				n++;
		}
	return n;
}

/* By the kernel's call: mmap() may be traced, or be cancelled. */
static void add_chunk(void)
{
	long p = shunt_syscall6(SYS_mmap, 0, sizeof(struct shunt_context_chunk), 3 /* rw */,
				0x22 /* private, anonymous */, -1, 0);
	struct shunt_context_chunk *k = (struct shunt_context_chunk *)p, *next;

	if (p < 0 && p > -4096)
		return;
	next = atomic_load(&shunt_context_chunks.next);
	do
		atomic_store(&k->next, next);
	while (!atomic_compare_exchange_weak(&shunt_context_chunks.next, &next, k));
}

/*
 * A child of vfork() has the thread-local storage of the thread that made it, whose number it does
 * not know: such a record stays for good.
 */
/* A record of this number is of a thread that has ended, or this one's, by a handler just now. */
static struct shunt_context *make_context(void)
{
	int32_t tid = shunt_is_process_of_memory() ? shunt_own_tid() : -1;
	struct shunt_context *c = tid > 0 ? claim(tid, tid) : NULL;

	if (!c)
		c = claim(0, tid);
	if (!c && free_gone() < SHUNT_CONTEXTS_OF_CHUNK / 4)
		add_chunk();
	if (!c)
		c = claim(0, tid);
	if (!c)
		return NULL;
	atomic_store(&c->pid, shunt_own_pid());
	atomic_store(&c->of, &shunt_context);
	if (!shunt_context) { /* else a handler has made it meanwhile, and may have been left */
		c->depth = 0;
		if (atomic_load(&c->sp)) {
			c->sp = 0;
			c->seq++;
		}
	}
	shunt_context = c;
	return c;
}

/* -------------------------------------------------------------------- the guard */

struct entering {
	uintptr_t sp, *depth;
	bool may;
};

static bool enter_context(struct shunt_context *c, uintptr_t sp, uintptr_t *depth)
{
	enum relation relation = LEFT;

	while (c->sp) {
		relation = relation_to(c->sp, sp);
		if (relation != LEFT)
			break;
		drop_guard(c);
	}
	*depth = 0;
	if (c->sp) {
		if (relation == RECURSION || c->depth == SHUNT_CONTEXTS)
			return false;
		c->outer[c->depth] = c->sp;
		*depth = ++c->depth;
	}
	set_guard(c, sp);
	return true;
}

static void enter_slowly(void *arg)
{
	struct entering *e = arg;
	struct shunt_context *c = shunt_context ? shunt_context : make_context();

	e->may = c && enter_context(c, e->sp, e->depth);
}

bool shunt_guard_enter(uintptr_t sp, uintptr_t *depth)
{
	struct entering e = {sp, depth, false};

	if (shunt_context && !shunt_context->sp)
		return enter_context(shunt_context, sp, depth);
	shunt_keeping_vectors(enter_slowly, &e); /* which asks the kernel */
	return e.may;
}

void shunt_guard_leave(uintptr_t depth)
{
	struct shunt_context *c = shunt_context;

	if (depth) {
		c->depth = (unsigned)depth - 1;
		atomic_store_explicit(&c->sp, c->outer[depth - 1], memory_order_release);
		return;
	}
	c->depth = 0;
	atomic_store_explicit(&c->sp, 0, memory_order_release);
	atomic_store_explicit(&c->seq, c->seq + 1, memory_order_release);
}

bool shunt_is_in_callback(void)
{
	struct shunt_context *c = shunt_context;

	while (c && c->sp && relation_to(c->sp, (uintptr_t)__builtin_frame_address(0)) == LEFT)
		drop_guard(c);
	return c && c->sp;
}
