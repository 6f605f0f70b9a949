/* SPDX-License-Identifier: MIT */
/*
 * Names of threads, over a faked engine (fake_engine.h): a thread that is given its name when the
 * file has it with another one already, and that ends before the consumer looks again, which waits
 * for the lock meanwhile; and what becomes of a thread's ring when its tid is another one's.
 *
 * *Control:* SHUNT_CONTROL, read by hooks in the linker's way (--wrap): "once": a name is written
 * with a thread's first events alone; "unsaid": the functions by which a thread is given a name
 * say nothing; "unleft": nobody sees that a tid is used again.
 */
#include <pthread.h>
#include <semaphore.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <shunt/trace.h>

#include "../api/tap.h"
#include "fake_engine.h"
#include "trace/chunks.h"
#include "trace/state.h"
#include "trace_reader.h"

static struct trace_read r;
static char path[64];
static sem_t is_told, may_go, has_done, may_end;
static struct trace_ring *ring; /* of the thread */
static uint32_t number;         /* and the session's number for it */
static const char *new_name;

static bool is_control(const char *name)
{
	const char *control = getenv("SHUNT_CONTROL");

	return control && !strcmp(control, name);
}

void __real_trace_write_new_name(struct trace_file *file, struct trace_ring *of);
void __wrap_trace_write_new_name(struct trace_file *file, struct trace_ring *of);
void __wrap_trace_write_new_name(struct trace_file *file, struct trace_ring *of)
{
	if (is_control("unsaid"))
		atomic_store(&of->named, of->named_told);
	if (!is_control("once"))
		__real_trace_write_new_name(file, of);
}

struct trace_ring *__real_trace_ring_get(void);
struct trace_ring *__wrap_trace_ring_get(void);
struct trace_ring *__wrap_trace_ring_get(void)
{
	struct trace_ring *got = __real_trace_ring_get();

	for (struct trace_ring *each = atomic_load(&trace_rings); each; each = each->next)
		if (is_control("unleft"))
			atomic_store(&each->left, 0);
	return got;
}

static void call(void)
{
	fake_call(1, (uintptr_t)__builtin_frame_address(0) - 64);
}

static bool start(struct shunt_trace_options options)
{
	options.size = sizeof(options);
	options.path = path;
	options.auto_off_ns = UINT64_MAX;
	return !shunt_trace_start(&options);
}

/* ------------------------------------------------------------ ways to be given a name */

static void by_itself(void)
{
	(void)pthread_setname_np(pthread_self(), new_name);
}

static void by_prctl(void)
{
	(void)prctl(PR_SET_NAME, new_name);
}

/* Of what no function stands before. */
static void by_the_kernel(void)
{
	(void)syscall(SYS_prctl, PR_SET_NAME, new_name, 0, 0, 0);
}

static void by_nobody(void)
{
}

static void *named_thread(void *way)
{
	call();
	ring = trace_own_ring;
	number = ring->thread;
	sem_post(&is_told);
	sem_wait(&may_go);
	((void (*)(void))way)();
	sem_post(&has_done);
	sem_wait(&may_end);
	return NULL;
}

/* Bounded by turns: the consumer may have none for long. */
static bool wait_until_told(void)
{
	for (int i = 0; i < 20000; i++) {
		bool is;

		pthread_mutex_lock(&trace_session.lock);
		is = ring->is_told;
		pthread_mutex_unlock(&trace_session.lock);
		if (is)
			return true;
		usleep(1000);
	}
	return false;
}

static bool has_name(const char *name)
{
	const char *found = r.thread_name[number];

	if (strcmp(found, name))
		diag("the file says \"%s\"", found);
	return !strcmp(found, name);
}

/* The thread has its first name in the file; then, while nobody looks, another one, and ends. */
static void test_way(const char *what, void (*way)(void), bool by_this, bool lasts)
{
	bool good = start((struct shunt_trace_options){0});
	pthread_t t;

	new_name = what;
	if (pthread_create(&t, NULL, named_thread, (void *)way))
		abort();
	sem_wait(&is_told);
	good = good && wait_until_told();
	pthread_mutex_lock(&trace_session.lock);
	sem_post(&may_go);
	sem_wait(&has_done);
	if (by_this)
		good = good && !pthread_setname_np(t, what);
	if (!lasts) {
		sem_post(&may_end);
		pthread_join(t, NULL);
	}
	pthread_mutex_unlock(&trace_session.lock);
	good = good && !shunt_trace_stop();
	if (lasts) {
		sem_post(&may_end);
		pthread_join(t, NULL);
	}
	ok(good && read_trace(&r, path) && has_name(what) && r.chunks[TRACE_CHUNK_THREAD] == 2,
	   "a name behind the first look, %s%s", what, lasts ? "" : ", and the thread ends");
}

/* What another thread is given while it has no ring it has when it gets one. */
static void *late_thread(void *arg)
{
	sem_wait(&may_go);
	call();
	ring = trace_own_ring;
	number = ring->thread;
	return arg;
}

static void test_before_ring(void)
{
	bool good = start((struct shunt_trace_options){0});
	pthread_t t;

	if (pthread_create(&t, NULL, late_thread, NULL))
		abort();
	good = good && !pthread_setname_np(t, "early");
	pthread_mutex_lock(&trace_session.lock);
	sem_post(&may_go);
	pthread_join(t, NULL);
	pthread_mutex_unlock(&trace_session.lock);
	good = good && !shunt_trace_stop();
	ok(good && read_trace(&r, path) && has_name("early"),
	   "a name before the first call, and the thread ends before anyone looks");
}

/* The flight recorder's file is written later. */
static void test_flight(void)
{
	bool good = start((struct shunt_trace_options){.mode = SHUNT_TRACE_FLIGHT});
	pthread_t t;

	new_name = "in flight";
	if (pthread_create(&t, NULL, named_thread, (void *)by_itself))
		abort();
	sem_post(&may_go);
	sem_post(&may_end);
	pthread_join(t, NULL);
	sem_wait(&is_told);
	sem_wait(&has_done);
	good = good && !shunt_trace_save(path) && read_trace(&r, path) && has_name(new_name);
	ok(!shunt_trace_stop() && good, "flight recorder: of a thread that has ended");
}

static void *second_thread(void *of_first)
{
	struct trace_ring *first = of_first;

	(void)pthread_setname_np(pthread_self(), "second");
	first->tid = (int32_t)syscall(SYS_gettid);
	call();
	sem_post(&has_done);
	sem_wait(&may_end);
	return NULL;
}

static unsigned count_named(const char *name, bool has_ended)
{
	unsigned n = 0;

	for (int i = 0; i < READ_THREADS; i++)
		n += !strcmp(r.thread_name[i], name) && r.has_ended[i] == has_ended;
	return n;
}

/* As if the kernel had given the tid of one that has ended to another one. */
static void test_tid_again(void)
{
	bool good = start((struct shunt_trace_options){0});
	pthread_t t;

	new_name = "first";
	pthread_mutex_lock(&trace_session.lock);
	if (pthread_create(&t, NULL, named_thread, (void *)by_itself))
		abort();
	sem_post(&may_go);
	sem_post(&may_end);
	pthread_join(t, NULL);
	sem_wait(&is_told);
	sem_wait(&has_done);
	if (pthread_create(&t, NULL, second_thread, ring))
		abort();
	sem_wait(&has_done);
	pthread_mutex_unlock(&trace_session.lock);
	good = good && !shunt_trace_stop();
	sem_post(&may_end);
	pthread_join(t, NULL);
	good = good && read_trace(&r, path);
	ok(good && count_named("first", true) == 1 && count_named("second", false) == 1,
	   "a tid that is used again: each has its own name, and the first has ended");
}

/* A signal handler may need a ring while the thread that it interrupts gets one. */
static void test_two_rings(void)
{
	bool good = start((struct shunt_trace_options){0});
	struct trace_ring *one, *other;

	pthread_mutex_lock(&trace_session.lock); /* the consumer would give them away */
	one = trace_ring_get();
	other = trace_ring_get();
	good = good && one && other && one != other && !trace_ring_has_ended(one) &&
	       !trace_ring_has_ended(other);
	if (one)
		trace_ring_release(one);
	if (other)
		trace_ring_release(other);
	pthread_mutex_unlock(&trace_session.lock);
	ok(!shunt_trace_stop() && good, "two rings of one thread: it has not ended");
}

int main(void)
{
	snprintf(path, sizeof(path), "/tmp/shunt-names.%d", (int)getpid());
	sem_init(&is_told, 0, 0);
	sem_init(&may_go, 0, 0);
	sem_init(&has_done, 0, 0);
	sem_init(&may_end, 0, 0);
	test_way("by itself", by_itself, false, false);
	test_way("by prctl()", by_prctl, false, false);
	test_way("by another", by_nobody, true, false);
	test_way("by the kernel", by_the_kernel, false, true);
	test_before_ring();
	test_flight();
	test_tid_again();
	test_two_rings();
	unlink(path);
	return tap_done();
}
