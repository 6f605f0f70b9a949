/* SPDX-License-Identifier: MIT */
/*
 * Updates from wherever a program may make them: from many threads at once, in constructors,
 * in destructors and behind atexit(), from within a function that is called through the very
 * key, from a signal handler that has interrupted an update, from the handler of messages.
 * They are serialised, or refused with -EDEADLK, and nothing ever waits for itself.
 *
 * Control: a lock that lets everybody in; or one that does not know its owner, and waits.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>
#include <shunt/text_poke.h>

#include "hostile.h"
#include "site_threads.h"

/* -------------------------------------------------------------------------- the lock */

int __real_shunt_port_lock(void);
void __real_shunt_port_unlock(void);
int __wrap_shunt_port_lock(void);
void __wrap_shunt_port_unlock(void);

static enum { AS_IT_IS, LETS_ALL_IN, KNOWS_NO_OWNER } lock_is;
static _Atomic int inside; /* an update */
static _Atomic uint64_t together;

/* So that there are two inside: a control is not to be luck. */
static void wait_for_company(void)
{
	for (int i = 0; i < 100000 && atomic_load(&inside) < 2 && !atomic_load(&together); i++)
		(void)sched_yield();
}

int __wrap_shunt_port_lock(void)
{
	int ret = lock_is == LETS_ALL_IN ? 0 : __real_shunt_port_lock();

	while (lock_is == KNOWS_NO_OWNER && ret)
		(void)pause();
	if (!ret && atomic_fetch_add(&inside, 1))
		atomic_fetch_add(&together, 1);
	if (lock_is == LETS_ALL_IN)
		wait_for_company();
	return ret;
}

void __wrap_shunt_port_unlock(void)
{
	atomic_fetch_sub(&inside, 1);
	if (lock_is != LETS_ALL_IN)
		__real_shunt_port_unlock();
}

/* -------------------------------------------------------------- many at a time */

#define UPDATERS 8

static KEEP long many_0(long x)
{
	return x;
}

static KEEP long many_1(long x)
{
	return x + 1;
}

DEFINE_STATIC_CALL(locks_many, many_0);

DEFINE_STATIC_KEY_FALSE(locks_key);

static KEEP long call_many(long x)
{
	return static_call(locks_many)(x) + 5;
}

static KEEP long branch_many(long x)
{
	return static_branch_unlikely(&locks_key) ? x + 6 : x + 5;
}

/* By flip the branch is switched, and not the call changed. */
static int change_many(const struct row *r, bool to_1)
{
	if (r->way == FLIP)
		return to_1 ? static_branch_enable(&locks_key) : static_branch_disable(&locks_key);
	return to_1 ? static_call_update(locks_many, many_1)
		    : static_call_update(locks_many, many_0);
}

static long through_many(const struct row *r, long x)
{
	return r->way == FLIP ? branch_many(x) : call_many(x);
}

static void *updater(void *arg)
{
	struct row *r = arg;

	for (unsigned i = 0; more(r); i++) {
		MUST(r, !change_many(r, i % 2 == 0));
		MUST(r, (unsigned long)through_many(r, 2) - 7 <= 1);
		provoked(r, 1);
	}
	return NULL;
}

static void row_many(struct row *r)
{
	pthread_t threads[UPDATERS];
	long last;

	lock_is = r->is_control ? LETS_ALL_IN : AS_IT_IS;
	for (int i = 0; i < UPDATERS; i++)
		if (pthread_create(&threads[i], NULL, updater, r))
			abort();
	for (int i = 0; i < UPDATERS; i++)
		(void)pthread_join(threads[i], NULL);
	last = r->way == FLIP ? static_key_count(&locks_key)
			      : static_call_query(locks_many) == (void *)many_1;
	MUST(r, through_many(r, 2) == 7 + last);
	MUST(r, !atomic_load(&together));
}

/* --------------------------------------------------- before main(), and behind it */

#define EACH ((uint64_t)20)

static struct row *late;  /* the row that ends; NULL: this is none of them */
static uint64_t early[2]; /* updates that have worked */

static bool updates_work(void)
{
	for (uint64_t i = 0; i < EACH; i++)
		if (try_update() || try_site() != key_is_new())
			return false;
	return true;
}

static bool is_control_of(int argc, char **argv, const char *name)
{
	return argc > 3 && !strcmp(argv[1], name) && !strcmp(argv[argc - 1], "--control");
}

/* Before Shunt's own constructors, and behind them. The harness begins later. */
__attribute__((constructor(101))) static void very_early(int argc, char **argv)
{
	if (argc > 2 && !strcmp(argv[1], "constructors") && !strcmp(argv[2], "flip"))
		change_by_flip();
	if (is_control_of(argc, argv, "constructors")) {
		lock_is = KNOWS_NO_OWNER;
		(void)__wrap_shunt_port_lock();
	}
	early[0] = updates_work() ? EACH : 0;
}

__attribute__((constructor)) static void a_constructor(void)
{
	early[1] = updates_work() ? EACH : 0;
}

/* Control: the lock is held over the constructors, as by one who calls them in an update. */
static void row_early(struct row *r)
{
	MUST(r, early[0] == EACH && early[1] == EACH);
	provoked(r, early[0] + early[1]);
	update(r);
	go_through(r);
}

static void update_late(void)
{
	if (!late)
		return;
	MUST(late, updates_work());
	provoked(late, EACH);
}

__attribute__((destructor)) static void a_destructor(void)
{
	update_late();
}

__attribute__((destructor(101))) static void very_late(void)
{
	update_late();
}

static void *endless_updater(void *arg)
{
	unsigned i = 0;

	while (arg)
		MUST((struct row *)arg, !change_many(arg, i++ % 2 != 0));
	return NULL;
}

static void take_and_keep(void *arg)
{
	(void)arg;
	for (;;)
		(void)pause();
}

/* Ends while others update and call. Control: one of them never ends its update. */
static void row_exit(struct row *r)
{
	static struct site_threads others;
	pthread_t thread;

	if (r->is_control)
		hold_next(take_and_keep, NULL);
	if (atexit(update_late) || pthread_create(&thread, NULL, endless_updater, r))
		abort();
	site_threads_start(&others, r);
	if (r->is_control)
		AWAIT(times_held());
	late = r;
	exit(0);
}

/* ---------------------------------------------------- by the function that is called */

static struct row *row_within;

static long within_old(long x);
static long within_new(long x);
DEFINE_STATIC_CALL(locks_within, within_old);

static KEEP long call_within(long x)
{
	return static_call(locks_within)(x) + 3;
}

static KEEP long within_old(long x)
{
	MUST(row_within, !static_call_update(locks_within, within_new));
	provoked(row_within, 1);
	return x > 0 ? call_within(x - 1) : 1;
}

static KEEP long within_new(long x)
{
	MUST(row_within, !static_call_update(locks_within, within_old));
	provoked(row_within, 1);
	return x > 0 ? call_within(x - 1) : 1;
}

/* The same by flip: the code that a branch leads to switches it. */
DEFINE_STATIC_KEY_FALSE(locks_within_key);

static KEEP long branch_within(long x)
{
	if (static_branch_unlikely(&locks_within_key))
		MUST(row_within, !static_branch_disable(&locks_within_key));
	else
		MUST(row_within, !static_branch_enable(&locks_within_key));
	provoked(row_within, 1);
	return x > 0 ? branch_within(x - 1) + 3 : 4;
}

static void *caller_within(void *arg)
{
	struct row *r = arg;

	while (more(r))
		MUST(r, (r->way == FLIP ? branch_within(10) : call_within(10)) == 34);
	return NULL;
}

/* Control: the update lock is held over the call, as if calls were part of an update. */
static void row_function(struct row *r)
{
	pthread_t thread;
	bool held;

	row_within = r;
	lock_is = r->is_control ? KNOWS_NO_OWNER : AS_IT_IS;
	held = r->is_control && !__wrap_shunt_port_lock();
	if (pthread_create(&thread, NULL, caller_within, r))
		abort();
	(void)caller_within(r);
	(void)pthread_join(thread, NULL);
	if (held)
		__wrap_shunt_port_unlock();
}

/* --------------------------------------------------- by a handler that interrupts */

static struct row *row_handled;

static void on_signal(int sig)
{
	int saved = errno, ret = change_many(row_handled, true);

	(void)sig;
	MUST(row_handled, ret == -EDEADLK && strstr(shunt_last_error(), "within an update"));
	MUST(row_handled, try_site() >= 0);
	provoked(row_handled, 1);
	errno = saved;
}

static void interrupt(void *arg)
{
	(void)arg;
	(void)raise(SIGBUS); /* one that an update does not block */
}

static void row_handler(struct row *r)
{
	const struct sigaction action = {.sa_handler = on_signal};
	static struct site_threads others;

	row_handled = r;
	lock_is = r->is_control ? KNOWS_NO_OWNER : AS_IT_IS;
	if (sigaction(SIGBUS, &action, NULL))
		abort();
	site_threads_start(&others, r);
	while (more(r)) {
		hold_next(interrupt, NULL);
		update(r);
	}
	site_threads_end(&others);
	MUST(r, times_held() == times_provoked(r));
}

/* ---------------------------------------------------- by the handler of messages */

static void on_message(const char *message, void *arg)
{
	MUST((struct row *)arg, message[0] && !try_update());
	provoked((struct row *)arg, 1);
}

/* Control: the lock is held meanwhile. */
static void row_message(struct row *r)
{
	bool held = r->is_control;

	shunt_set_log(on_message, r);
	lock_is = held ? KNOWS_NO_OWNER : AS_IT_IS;
	held = held && !__wrap_shunt_port_lock();
	while (more(r)) {
		MUST(r, text_poke_bp_batch(NULL, 1) == -EINVAL);
		go_through(r);
	}
	if (held)
		__wrap_shunt_port_unlock();
}

static struct row rows[] = {
	{.name = "many-updaters",
	 .title = "updates a key from 8 threads at once",
	 .unit = "updates",
	 .run = row_many,
	 .times = 2000,
	 .flip = true,
	 .control = "a lock that lets everybody in"},
	{.name = "constructors",
	 .title = "updates in constructors",
	 .unit = "updates",
	 .run = row_early,
	 .times = 2 * EACH,
	 .flip = true,
	 .seconds = 5,
	 .control_by_int3 = true,
	 .control = "the lock held over them"},
	{.name = "exit",
	 .title = "updates in destructors and behind atexit(), threads running",
	 .unit = "updates",
	 .run = row_exit,
	 .times = 3 * EACH,
	 .flip = true,
	 .seconds = 5,
	 .control_by_int3 = true,
	 .control = "another's update never ends"},
	{.name = "from-the-function",
	 .title = "updates a key in a function that it calls",
	 .unit = "updates",
	 .run = row_function,
	 .times = 2000,
	 .flip = true,
	 .seconds = 5,
	 .control_by_int3 = true,
	 .control = "the lock held over the call"},
	{.name = "interrupted-update",
	 .title = "updates in a handler that interrupts an update",
	 .unit = "updates refused",
	 .run = row_handler,
	 .times = 500,
	 .flip = true,
	 .not_tsan = true, /* runs delayed handlers with all signals blocked, SIGTRAP too */
	 .seconds = 5,
	 .control_by_int3 = true,
	 .control = "a lock that does not know its owner"},
	{.name = "message-handler",
	 .title = "updates in its handler of messages",
	 .unit = "updates",
	 .run = row_message,
	 .times = 200,
	 .flip = true,
	 .seconds = 5,
	 .control_by_int3 = true,
	 .control = "the lock held over it"},
	{0},
};

int main(int argc, char **argv)
{
	return hostile_main(argc, argv, rows);
}
