/* SPDX-License-Identifier: MIT */
/*
 * The session's own thread: all signals but the engine's own blocked, asleep but for a look every
 * 10 ms and whenever a ring is half full. It empties rings into the file, takes in modules that
 * come and go, switches off what is called too often, and gives the rings of ended threads to
 * others.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>

#include "trace/auto_off.h"
#include "trace/catalogue.h"
#include "trace/chunks.h"
#include "trace/consumer.h"
#include "trace/drain.h"
#include "trace/finish.h"
#include "trace/ring.h"
#include "trace/save.h"
#include "trace/state.h"
#include "trace/wake.h"

enum {
	STACK = 512 << 10,
	ENDED_KEPT = 64, /* rings of ended threads that the flight recorder keeps */
	SAMPLE = 4096,   /* events of a ring that it looks at */
	PATIENCE = 2,    /* seconds */
	TURNS = 100000,
	LOOK_FOR_END = 8 /* passes between two looks at whether the program has ended */
};

/* ------------------------------------------------------------------ flight recorder */

static uint64_t ended_so_far;

static struct trace_ring *oldest_ended(unsigned *n)
{
	struct trace_ring *oldest = NULL;

	*n = 0;
	for (struct trace_ring *ring = atomic_load(&trace_rings); ring; ring = ring->next) {
		if (atomic_load(&ring->state) != TRACE_RING_ENDED)
			continue;
		++*n;
		if (!oldest || ring->ended_at < oldest->ended_at)
			oldest = ring;
	}
	return oldest;
}

/* A sample of what has come since it was looked at last: ring->tail, which is not used else. */
static void sample(struct trace_ring *ring)
{
	uint64_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
	uint64_t since = head - atomic_load(&ring->tail), n = since < SAMPLE ? since : SAMPLE;
	uint64_t at;

	if (n > trace_ring_size(ring) / 4)
		n = trace_ring_size(ring) / 4;
	at = (head - n) & ring->mask;
	if (at + n > trace_ring_size(ring))
		n = trace_ring_size(ring) - at;
	if (n)
		trace_auto_off_see(&ring->slots[at], n, since / n);
	atomic_store(&ring->tail, head);
}

static void look_after_rings(void)
{
	struct trace_ring *oldest;
	uint64_t now;
	unsigned n;

	for (struct trace_ring *ring = atomic_load(&trace_rings); ring; ring = ring->next) {
		if (atomic_load(&ring->state) != TRACE_RING_OWNED || !ring->is_ready)
			continue;
		sample(ring);
		now = trace_now();
		if (!trace_ring_has_ended(ring)) {
			atomic_store_explicit(&ring->alive, now, memory_order_relaxed);
			continue;
		}
		ring->ended_at = ++ended_so_far;
		atomic_store(&ring->state, TRACE_RING_ENDED);
	}
	oldest = oldest_ended(&n);
	if (n <= ENDED_KEPT || !trace_rings_try_hold())
		return;
	for (; n > ENDED_KEPT; oldest = oldest_ended(&n)) {
		trace_session.totals.events += atomic_load(&oldest->head);
		trace_ring_release(oldest);
	}
	trace_rings_let_go();
}

/* ----------------------------------------------------------------------- the thread */

/* Whether the first thread of the process has ended, which stays listed until all have. */
static bool first_thread_has_ended(void)
{
	char text[512], *state;
	int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	(void)close(fd);
	text[n > 0 ? n : 0] = '\0';
	state = strrchr(text, ')');
	return state && state[1] == ' ' && state[2] == 'Z';
}

/*
 * All threads of the program have ended by pthread_exit(). Without this one the process would end
 * with the last of them, by exit(0): so it is this one's to do.
 */
static bool is_last_thread(void)
{
	struct stat status;

	/* "." and "..", the first thread, and this one. */
	return !stat("/proc/self/task", &status) && status.st_nlink == 4 &&
	       first_thread_has_ended();
}

static void exit_as_last_thread(struct trace_session_state *s)
{
	(void)pthread_sigmask(SIG_SETMASK, &s->mask, NULL);
	exit(0);
}

/* The engine waits for threads that block its signal. */
static void let_in_sync(int *unblocked)
{
	int sig = shunt_sync_signal_number();
	sigset_t one;

	if (sig == *unblocked)
		return;
	(void)sigemptyset(&one);
	(void)sigaddset(&one, *unblocked ? *unblocked : sig);
	(void)pthread_sigmask(*unblocked ? SIG_BLOCK : SIG_UNBLOCK, &one, NULL);
	*unblocked = *unblocked ? 0 : sig;
}

static void *run(void *arg)
{
	int unblocked = 0;
	struct trace_session_state *s = arg;
	unsigned passes = 0;
	bool is_old;

	trace_own_ring = &trace_not_here;
	atomic_store(&s->consumer_tid, shunt_own_tid());
	(void)prctl(PR_SET_NAME, "shunt-trace");
	while (!atomic_load(&s->stop)) {
		let_in_sync(&unblocked);
		trace_sleep_begin();
		/* Not with the lock: who has the loader's list may be waiting for it, to fork. */
		is_old = !trace_finish_is_wanted() && trace_catalogue_is_old();
		(void)pthread_mutex_lock(&s->lock);
		if (atomic_load(&s->stop)) {
			(void)pthread_mutex_unlock(&s->lock);
			break;
		}
		/* A thread that ends may hold the loader's lock. */
		if (is_old && !trace_finish_is_wanted())
			(void)trace_catalogue_update(trace_now(), &s->totals.functions);
		if (trace_shape.is_flight)
			look_after_rings();
		else
			trace_drain(false);
		trace_auto_off_look();
		/* Often at first: a file that ends early needs two of them. */
		passes++;
		if ((passes % 256 == 0 || !(passes & (passes - 1))) && s->file.fd >= 0)
			trace_write_clock(&s->file);
		trace_finish_serve();
		(void)pthread_mutex_unlock(&s->lock);
		if (passes % LOOK_FOR_END == 0 && is_last_thread())
			exit_as_last_thread(s);
		trace_sleep();
	}
	return NULL;
}

int trace_consumer_start(void)
{
	struct trace_session_state *s = &trace_session;
	pthread_attr_t attr;
	sigset_t all, before;
	int err;

	atomic_store(&s->stop, false);
	(void)sigfillset(&all);
	err = pthread_attr_init(&attr);
	if (err)
		return -err;
	(void)pthread_attr_setstacksize(&attr, STACK);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	s->mask = before;
	err = pthread_create(&s->consumer, &attr, run, s);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	(void)pthread_attr_destroy(&attr);
	s->has_consumer = !err;
	return -err;
}

unsigned shunt_trace_threads(void)
{
	return trace_session.has_consumer;
}

bool trace_consumer_try_stop(void)
{
	struct trace_session_state *s = &trace_session;
	struct timespec until;

	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PATIENCE;
	if (!s->has_consumer || pthread_mutex_timedlock(&s->lock, &until))
		return false;
	atomic_store(&s->stop, true); /* with the lock, it writes nothing behind it */
	(void)pthread_mutex_unlock(&s->lock);
	trace_wake_consumer();
	if (pthread_timedjoin_np(s->consumer, NULL, &until))
		return false;
	s->has_consumer = false;
	/* The kernel counts it a little longer. */
	for (int i = 0; i < TURNS; i++) {
		if (shunt_syscall(SYS_tgkill, s->head.pid, atomic_load(&s->consumer_tid), 0, 0))
			break;
		(void)sched_yield();
	}
	return true;
}

void trace_consumer_stop(void)
{
	struct trace_session_state *s = &trace_session;

	if (!s->has_consumer)
		return;
	atomic_store(&s->stop, true);
	trace_wake_consumer();
	(void)pthread_join(s->consumer, NULL);
	s->has_consumer = false;
}
