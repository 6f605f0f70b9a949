/* SPDX-License-Identifier: MIT */
/*
 * A process that ends, or becomes another program, where no destructor runs: by _exit(), by a
 * signal, by exec(). What the rings hold is written first. Async-signal-safe: the consumer does it,
 * which no signal interrupts; the thread that ends waits for it, and not for long, for it may hold
 * a lock that the consumer needs.
 */
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <time.h>

#include "trace/catalogue.h"
#include "trace/child.h"
#include "trace/finish.h"
#include "trace/gone.h"
#include "trace/hooks.h"
#include "trace/ring.h"
#include "trace/save.h"
#include "trace/state.h"
#include "trace/stream.h"
#include "trace/tell.h"
#include "trace/wake.h"

enum { NOTHING, WANTED_GOES_ON, WANTED_NAMES, WANTED_OPEN, WANTED_FLUSH, WANTED_END };
enum { TURNS = 20, TURN_NS = 100000000 };

static _Atomic uint32_t wanted;
static _Atomic uint32_t served; /* how often the consumer has */

void trace_finish_serve(void)
{
	uint32_t what = atomic_exchange(&wanted, NOTHING);

	if (!what)
		return;
	trace_stream_go_on();
	if (what == WANTED_NAMES)
		(void)trace_catalogue_end_gone();
	else if (what == WANTED_OPEN)
		trace_stream_open();
	else if (what != WANTED_GOES_ON)
		trace_stream_finish(what == WANTED_END);
	atomic_fetch_add(&served, 1);
	(void)shunt_syscall(SYS_futex, (long)&served, FUTEX_WAKE_PRIVATE, INT32_MAX, 0);
}

bool trace_finish_is_wanted(void)
{
	return atomic_load(&wanted) != NOTHING;
}

static void ask_consumer(uint32_t what)
{
	static const struct timespec turn = {0, TURN_NS};
	uint32_t before = atomic_load(&served);

	for (uint32_t now = atomic_load(&wanted);
	     now < what && !atomic_compare_exchange_weak(&wanted, &now, what);)
		;
	trace_wake_consumer();
	for (int i = 0; i < TURNS && atomic_load(&served) == before; i++) {
		(void)shunt_syscall(SYS_futex, (long)&served, FUTEX_WAIT_PRIVATE, before,
				    (long)&turn);
		trace_wake_consumer();
	}
}

void trace_finish_names(void)
{
	const struct trace_session_state *s = &trace_session;

	(void)trace_owner_writes(); /* a copy of the process has a file of its own */
	if (trace_gone_any() && s->has_consumer && s->head.pid == (uint32_t)shunt_own_pid() &&
	    atomic_load(&s->consumer_tid) != shunt_own_tid())
		ask_consumer(WANTED_NAMES);
}

static void finish_stream(bool is_end, struct trace_ring *own)
{
	struct trace_session_state *s = &trace_session;

	if (own != &trace_no_ring && own != &trace_not_here)
		trace_flush_pending(own, trace_now() + s->head.start_ticks);
	if (trace_owner_writes())
		trace_owner_finish(is_end);
	else if (s->has_consumer && atomic_load(&s->consumer_tid) != shunt_own_tid())
		ask_consumer(is_end ? WANTED_END : WANTED_FLUSH);
}

/* What it keeps ends with the image that it is of. The file says that it is no earlier save. */
static void finish_flight(bool is_end)
{
	uint32_t at = is_end ? TRACE_AT_END : TRACE_AT_EXEC;

	trace_finish_names();
	trace_session.head.flags |= at;
	trace_save_now(true);
	trace_session.head.flags &= ~at;
	trace_tell_without_return();
	trace_tell(TRACE_WORD_ENDED, 0, 0, NULL);
}

/* A copy of the process is seen to be one. After vfork() this is the parent's memory, and its
 * session goes on. */
static bool is_own_session(void)
{
	if (!atomic_load(&trace_session.is_running))
		return false;
	(void)trace_owner_writes();
	return trace_session.head.pid == (uint32_t)shunt_own_pid();
}

static void finish(bool is_end)
{
	struct trace_session_state *s = &trace_session;
	struct trace_ring *own;
	uint64_t mask = trace_hold_handlers();

	own = trace_own_ring; /* a handler may have been the first to need one */
	trace_own_ring = &trace_not_here;
	if (!trace_shape.is_flight)
		finish_stream(is_end, own);
	else if (trace_is_autostart || s->held.fd >= 0)
		finish_flight(is_end);
	trace_own_ring = own;
	trace_let_go_handlers(mask);
}

void trace_finish(bool is_end)
{
	int saved = errno;

	if (is_own_session())
		finish(is_end);
	trace_tell_rest();
	errno = saved;
}

/* Handlers of signals that came meanwhile have run since. */
static bool has_more(void)
{
	const struct trace_ring *own = trace_own_ring;

	return !trace_shape.is_flight &&
	       atomic_load_explicit(&own->head, memory_order_relaxed) !=
		       atomic_load_explicit(&own->tail, memory_order_relaxed);
}

void trace_exec_begin(void)
{
	int saved = errno;

	for (int i = 0; i < TURNS && is_own_session(); i++) {
		finish(false);
		if (!has_more())
			break;
	}
	errno = saved;
}

void trace_exec_failed(void)
{
	struct trace_session_state *s = &trace_session;
	int saved = errno;
	uint64_t mask;

	if (!is_own_session())
		return;
	mask = trace_hold_handlers();
	trace_stream_note_failed_exec();
	if (trace_shape.is_flight)
		trace_stream_go_on();
	else if (trace_owner_writes())
		trace_owner_go_on();
	else if (s->has_consumer && atomic_load(&s->consumer_tid) != shunt_own_tid())
		ask_consumer(WANTED_GOES_ON);
	trace_let_go_handlers(mask);
	errno = saved;
}

void trace_open_now(void)
{
	struct trace_session_state *s = &trace_session;
	struct trace_ring *own;
	uint64_t mask;
	bool is_child;
	int saved = errno;

	if (!atomic_load(&s->is_running))
		return;
	is_child = trace_owner_writes();
	if (s->head.pid != (uint32_t)shunt_own_pid()) /* after vfork() */
		return;
	if (trace_shape.is_flight && trace_is_autostart) {
		trace_finish_names();
		trace_save_and_hold();
	}
	if (trace_shape.is_flight || is_child || !s->has_consumer || s->file.fd >= 0 ||
	    atomic_load(&s->consumer_tid) == shunt_own_tid())
		return;
	mask = trace_hold_handlers();
	own = trace_own_ring;
	trace_own_ring = &trace_not_here;
	ask_consumer(WANTED_OPEN);
	trace_own_ring = own;
	trace_let_go_handlers(mask);
	errno = saved;
}
