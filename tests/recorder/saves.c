/* SPDX-License-Identifier: MIT */
/*
 * Who saves the flight recorder while others do, end, or take rings away; over a faked engine. A
 * saver is held where it writes its first events, until the test lets it go on.
 *
 * *Control:* SHUNT_CONTROL, by the linker's --wrap: "let_go": the consumer takes rings away while
 * somebody saves; "content": one that dies does not wait for another one's save; "inherited": a
 * child of fork believes that somebody saves; "unasked": nobody asks for the second save; "deep":
 * a save has 256 bytes of an alternate stack.
 */
#include <alloca.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <shunt/trace.h>

#include "../api/tap.h"
#include "../common/child.h"
#include "fake_engine.h"
#include "trace/save.h"
#include "trace/state.h"
#include "trace_reader.h"

static struct trace_read r;
static char path[64], other_path[80];
static _Atomic bool is_held_there, is_held, is_dying; /* a saver; one that dies */

static bool is_control(const char *name)
{
	const char *control = getenv("SHUNT_CONTROL");

	return control && !strcmp(control, name);
}

/* False: not within 20 seconds. */
static bool wait_for(const _Atomic bool *what, bool value)
{
	for (int i = 0; i < 20000 && atomic_load(what) != value; i++)
		usleep(1000);
	return atomic_load(what) == value;
}

int __real_trace_file_chunk(struct trace_file *file, enum trace_chunk_type type,
			    const struct iovec *parts, int n);
int __wrap_trace_file_chunk(struct trace_file *file, enum trace_chunk_type type,
			    const struct iovec *parts, int n);
int __wrap_trace_file_chunk(struct trace_file *file, enum trace_chunk_type type,
			    const struct iovec *parts, int n)
{
	if (type == TRACE_CHUNK_EVENTS && atomic_load(&is_held) &&
	    !atomic_exchange(&is_held_there, true))
		(void)wait_for(&is_held, false);
	return __real_trace_file_chunk(file, type, parts, n);
}

bool __real_trace_rings_try_hold(void);
bool __wrap_trace_rings_try_hold(void);
bool __wrap_trace_rings_try_hold(void)
{
	return __real_trace_rings_try_hold() || (atomic_load(&is_held) && is_control("let_go"));
}

void __real_trace_save_now(bool is_last);
void __wrap_trace_save_now(bool is_last);
/* Of an alternate stack 256 bytes are left: the size of a signal's frame depends on the CPU. */
static KEEP void save_deeper(bool is_last)
{
	stack_t stack;
	char *here = __builtin_frame_address(0), *room = here;

	if (!sigaltstack(NULL, &stack) && stack.ss_flags & SS_ONSTACK)
		room = alloca((size_t)(here - (char *)stack.ss_sp) - 256);
	__asm__ volatile("" : : "r"(room) : "memory");
	__real_trace_save_now(is_last);
	__asm__ volatile("" : : "r"(room) : "memory");
}

void __wrap_trace_save_now(bool is_last)
{
	atomic_store(&is_dying, is_last);
	if (is_control("deep"))
		save_deeper(is_last);
	else
		__real_trace_save_now(is_last && !is_control("content"));
}

void __real_trace_save_in_child(void);
void __wrap_trace_save_in_child(void);
void __wrap_trace_save_in_child(void)
{
	if (!is_control("inherited"))
		__real_trace_save_in_child();
}

static bool start(struct shunt_trace_options options)
{
	options.size = sizeof(options);
	options.path = path;
	options.mode = SHUNT_TRACE_FLIGHT;
	options.ring_size = 4096;
	options.auto_off_ns = UINT64_MAX;
	return !shunt_trace_start(&options);
}

static void calls(unsigned n)
{
	uintptr_t sp = (uintptr_t)__builtin_frame_address(0);

	for (unsigned i = 0; i < n; i++)
		fake_call(i % FAKE_FUNCTIONS, sp - 64);
}

static bool is_whole(const char *name, uint64_t events)
{
	bool good = read_trace(&r, name) && r.has_end && r.events == events;

	if (!good)
		diag("%s: %s; %llu events of %llu", name, r.wrong ? r.wrong : "well-formed",
		     (unsigned long long)r.events, (unsigned long long)events);
	return good;
}

/* -------------------------------------------------------------- a saver that is held */

static void *save_by_signal(void *arg)
{
	raise(SIGUSR1);
	return arg;
}

static void *save_by_call(void *arg)
{
	return shunt_trace_save(other_path) ? NULL : arg;
}

/* It has begun to save, and stands still. */
static bool hold_saver(pthread_t *thread, void *(*save)(void *))
{
	atomic_store(&is_held_there, false);
	atomic_store(&is_held, true);
	return !pthread_create(thread, NULL, save, path) && wait_for(&is_held_there, true);
}

static bool let_saver_go(pthread_t thread)
{
	void *ret = NULL;

	atomic_store(&is_held, false);
	return !pthread_join(thread, &ret) && ret;
}

/* ------------------------------------------------------------------------ the tests */

static void *call_once(void *arg)
{
	calls(1);
	return arg;
}

static unsigned ended_rings(void)
{
	unsigned n = 0;

	for (struct trace_ring *ring = atomic_load(&trace_rings); ring; ring = ring->next)
		n += atomic_load(&ring->state) == TRACE_RING_ENDED;
	return n;
}

static bool wait_for_ended(unsigned n, int seconds)
{
	for (int i = 0; i < seconds * 1000 && ended_rings() != n; i++)
		usleep(1000);
	return ended_rings() == n;
}

static void test_rings_stay(void)
{
	bool good = start((struct shunt_trace_options){.save_signal = SIGUSR1});
	pthread_t saver;

	calls(10);
	good = good && hold_saver(&saver, save_by_signal);
	for (int i = 0; i < 100; i++) {
		pthread_t t;

		good = good && !pthread_create(&t, NULL, call_once, NULL) && !pthread_join(t, NULL);
	}
	ok(good && wait_for_ended(100, is_control("let_go") ? 2 : 20),
	   "rings of threads that have ended stay while somebody saves (%u)", ended_rings());
	good = good && let_saver_go(saver) && is_whole(path, 20);
	ok(good && wait_for_ended(64, 20) && !shunt_trace_stop(), "and go then");
}

/* By a SIGSEGV that it causes itself. */
static void fault(void)
{
	static volatile int *volatile nowhere = (volatile int *)8;

	*nowhere = 0;
}

/* The one that saves goes on when the other one has begun to die. */
static void *let_go_when_dying(void *arg)
{
	(void)wait_for(&is_dying, true);
	usleep(50000);
	atomic_store(&is_held, false);
	return arg;
}

static int die(void)
{
	pthread_t saver, other;

	setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
	if (!start((struct shunt_trace_options){.save_signal = SIGUSR1, .save_on_crash = 1}))
		return 1;
	calls(10);
	if (!hold_saver(&saver, save_by_signal) ||
	    pthread_create(&other, NULL, let_go_when_dying, NULL))
		return 2;
	calls(10);
	fault();
	return 0;
}

static void test_die(void)
{
	ok(in_child(die) == 1000 + SIGSEGV && is_whole(path, 40),
	   "one that dies while another one saves waits for it, and saves what is new");
}

static void test_ask_meanwhile(void)
{
	bool good = start((struct shunt_trace_options){.save_signal = SIGUSR1});
	pthread_t saver;

	snprintf(other_path, sizeof(other_path), "%s.other", path);
	unlink(path);
	calls(10);
	good = good && hold_saver(&saver, save_by_call);
	calls(10);
	if (!is_control("unasked"))
		raise(SIGUSR1);
	good = good && access(path, F_OK) && let_saver_go(saver);
	ok(good && is_whole(other_path, 20) && is_whole(path, 40) && !shunt_trace_stop(),
	   "a save that is asked for while another one goes elsewhere is made behind it");
	unlink(other_path);
}

static int save_in_child(void)
{
	pthread_t saver;
	int status;
	pid_t pid;

	if (!start((struct shunt_trace_options){.save_signal = SIGUSR1}))
		return 1;
	calls(10);
	if (!hold_saver(&saver, save_by_signal))
		return 2;
	pid = fork();
	if (!pid) {
		atomic_store(&is_held, false);
		calls(30);
		raise(SIGUSR1);
		snprintf(other_path, sizeof(other_path), "%s.%d", path, (int)getpid());
		_exit(is_whole(other_path, 60) ? 0 : 3);
	}
	status = child_status(pid);
	snprintf(other_path, sizeof(other_path), "%s.%d", path, (int)pid);
	unlink(other_path);
	return let_saver_go(saver) && !shunt_trace_stop() ? status : 4;
}

static void test_fork(void)
{
	int status = in_child(save_in_child);

	ok(!status, "the child of a fork saves, though another thread did when it was made (%d)",
	   status);
}

/* As programs make one whose SIGSTKSZ is a constant. */
static int save_on_small_stack(void)
{
	size_t size = 8192;
	char *area =
		mmap(NULL, size + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	stack_t stack = {.ss_sp = area + 4096, .ss_size = size};

	if (area == MAP_FAILED || mprotect(area, 4096, PROT_NONE) || sigaltstack(&stack, NULL) ||
	    !start((struct shunt_trace_options){.save_signal = SIGUSR1, .save_on_crash = 1}))
		return 1;
	calls(10);
	raise(SIGUSR1);
	if (!is_whole(path, 20))
		return 2;
	calls(10);
	setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
	fault();
	return 3;
}

static void test_small_stack(void)
{
	int status;

	unlink(path);
	status = in_child(save_on_small_stack);
	ok(status == 1000 + SIGSEGV && is_whole(path, 40),
	   "a save by a handler on a small alternate stack, and at a crash (%d)", status);
}

static void test_limits(void)
{
	bool good = !shunt_trace_start(&(struct shunt_trace_options){
		.size = sizeof(struct shunt_trace_options), .path = path, .min_ns = UINT64_MAX});

	/* In ticks, of which a slow clock has fewer. */
	good = good && (trace_shape.min == UINT64_MAX ||
			trace_shape.min / trace_session.rate >= UINT64_MAX / 1000000000 - 1);
	ok(good && !shunt_trace_stop(), "the longest min_ns does not wrap");
}

int main(void)
{
	snprintf(path, sizeof(path), "/tmp/shunt-recorder-saves.%d", (int)getpid());
	test_rings_stay();
	test_die();
	test_ask_meanwhile();
	test_fork();
	test_small_stack();
	test_limits();
	unlink(path);
	return tap_done();
}
