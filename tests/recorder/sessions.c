/* SPDX-License-Identifier: MIT */
/*
 * The recorder over a faked engine (fake_engine.h): calls are made by the test, so that what the
 * file must hold is known exactly.
 *
 * *Control:* SHUNT_CONTROL, read by hooks in the linker's way (--wrap) and below: "uncounted":
 * losses are not counted; "unwritten": the consumer writes nothing; "every": min_ns is not looked
 * at; "waiting": a call whose return is not told waits for it as others do; "unsaved": the flight
 * recorder saves nothing; "kept": a child of fork keeps its parent's events; "over": nobody looks
 * whether a session writes to what is saved to; "part": nor whether it keeps what would be saved;
 * "in_steps": a slot is claimed by a load, an addition and a store, and handlers come in between;
 * "busy": the functions called before are called from the begin of each window on, and none of
 * their places becomes free; "ungone": no module goes, it seems; "unseen": in a copy by a bare
 * fork() the kernel does not clear what rings begin with.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <shunt/trace.h>

#include "../api/tap.h"
#include "../common/child.h"
#include "fake_engine.h"
#include "trace/auto_off.h"
#include "trace/gone.h"
#include "trace/hooks.h"
#include "trace/state.h"
#include "trace_reader.h"

static struct trace_read r;
static char path[64], other_path[80];

static bool is_control(const char *name)
{
	const char *control = getenv("SHUNT_CONTROL");

	return control && !strcmp(control, name);
}

static bool is_any_control(const char *const names[2])
{
	return (names[0] && is_control(names[0])) || (names[1] && is_control(names[1]));
}

int __real_trace_file_chunk(struct trace_file *file, enum trace_chunk_type type,
			    const struct iovec *parts, int n);
int __wrap_trace_file_chunk(struct trace_file *file, enum trace_chunk_type type,
			    const struct iovec *parts, int n);
int __wrap_trace_file_chunk(struct trace_file *file, enum trace_chunk_type type,
			    const struct iovec *parts, int n)
{
	if (type == TRACE_CHUNK_EVENTS && is_control("uncounted"))
		((struct trace_events *)parts[0].iov_base)->lost = 0;
	if (type == TRACE_CHUNK_EVENTS && is_control("unwritten"))
		return 0;
	return __real_trace_file_chunk(file, type, parts, n);
}

int __real_trace_snapshot(const char *to, int fd);
int __wrap_trace_snapshot(const char *to, int fd);
int __wrap_trace_snapshot(const char *to, int fd)
{
	return is_control("unsaved") ? 0 : __real_trace_snapshot(to, fd);
}

static const struct trace_hooks *hooks; /* of the session */

static void wait_for_all(uintptr_t ip, uintptr_t sp, enum shunt_raw_how how)
{
	hooks->entry(ip, sp, how == SHUNT_RAW_NO_RETURN ? SHUNT_RAW_ENTRY : how);
}

const struct trace_hooks *__real_trace_hooks_for(enum trace_clock_source clock, bool has_min);
const struct trace_hooks *__wrap_trace_hooks_for(enum trace_clock_source clock, bool has_min);
const struct trace_hooks *__wrap_trace_hooks_for(enum trace_clock_source clock, bool has_min)
{
	static struct trace_hooks waiting;

	hooks = __real_trace_hooks_for(clock, has_min);
	waiting = *hooks;
	waiting.entry = wait_for_all;
	return has_min && is_control("waiting") ? &waiting : hooks;
}

void __real_trace_ring_adopt(struct trace_ring *ring);
void __wrap_trace_ring_adopt(struct trace_ring *ring);
void __wrap_trace_ring_adopt(struct trace_ring *ring)
{
	if (!is_control("kept"))
		__real_trace_ring_adopt(ring);
}

/* ------------------------------------------------------- a claim in several steps */

static volatile sig_atomic_t is_in_steps, is_handling;

#ifdef __x86_64__ /* whose hooks are in assembly, and can be replaced */
void __real_trace_fast_entry(uintptr_t ip, uintptr_t sp, enum shunt_raw_how how);
void __wrap_trace_fast_entry(uintptr_t ip, uintptr_t sp, enum shunt_raw_how how);
void trace_slow_entry(uintptr_t ip, uintptr_t sp, enum shunt_raw_how how);

static void claim_in_steps(struct trace_ring *ring, uint64_t word0, uint64_t word1)
{
	static unsigned claims;
	uint64_t n = atomic_load(&ring->head);
	struct trace_slot *slot = &ring->slots[n & ring->mask];

	if (!is_handling && ++claims % 64 == 0)
		raise(SIGALRM);
	atomic_store(&ring->head, n + 1);
	atomic_store(&slot->word[0], word0);
	atomic_store(&slot->word[1], word1);
}

void __wrap_trace_fast_entry(uintptr_t ip, uintptr_t sp, enum shunt_raw_how how)
{
	struct trace_ring *ring = trace_own_ring;

	if (!is_in_steps || how != SHUNT_RAW_ENTRY)
		__real_trace_fast_entry(ip, sp, how);
	else if (atomic_load(&ring->head) >= atomic_load(&ring->limit))
		trace_slow_entry(ip, sp, how);
	else
		claim_in_steps(ring, trace_word0(trace_now(), sp),
			       trace_word1(TRACE_ENTRY, sp, ip));
}
#endif

static bool start(struct shunt_trace_options options)
{
	options.size = sizeof(options);
	options.path = path;
	if (!options.auto_off_ns)
		options.auto_off_ns = UINT64_MAX;
	if (is_control("every"))
		options.min_ns = 0;
	return !shunt_trace_start(&options);
}

static bool is_whole(uint64_t events)
{
	bool good =
		read_trace(&r, path) && r.has_end && r.events == events && r.end.events == events;

	if (!good)
		diag("%s; %llu events of %llu, lost %llu", r.wrong ? r.wrong : "well-formed",
		     (unsigned long long)r.events, (unsigned long long)events,
		     (unsigned long long)r.lost);
	return good;
}

static void calls(unsigned n)
{
	uintptr_t sp = (uintptr_t)__builtin_frame_address(0);

	for (unsigned i = 0; i < n; i++)
		fake_call(i % FAKE_FUNCTIONS, sp - 64);
}

static void test_all(void)
{
	bool good = start((struct shunt_trace_options){0});

	calls(1000);
	good = good && !shunt_trace_stop();
	ok(good && is_whole(2000) && !r.lost && !r.unmatched && !r.back,
	   "all: each call is in the file");
	ok(r.functions == FAKE_FUNCTIONS && r.chunks[TRACE_CHUNK_CLOCK] >= 3 && r.session.argc >= 1,
	   "functions, clock, command line");
}

/* The consumer is held by the lock that it needs, so that the ring is full. */
static void test_lost(void)
{
	struct shunt_trace_stats stats;
	bool good = start((struct shunt_trace_options){.ring_size = 4096});

	pthread_mutex_lock(&trace_session.lock);
	calls(1000);
	pthread_mutex_unlock(&trace_session.lock);
	for (int i = 0; i < 1000000 && atomic_load(&trace_own_ring->tail) < 100; i++)
		sched_yield();
	pthread_mutex_lock(&trace_session.lock);
	calls(500);
	pthread_mutex_unlock(&trace_session.lock);
	good = good && !shunt_trace_stop();
	shunt_trace_get_stats(&stats);
	good = good && read_trace(&r, path) && r.has_end;
	ok(good && r.lost && r.events + r.lost == 3000 && r.end.lost == r.lost,
	   "a full ring: %llu recorded + %llu lost = 3000", (unsigned long long)r.events,
	   (unsigned long long)r.lost);
	ok(stats.events == r.events && stats.lost == r.lost, "and the totals say the same");
}

static void *thread_calls(void *arg)
{
	calls(3);
	return arg;
}

static unsigned owned_rings(void)
{
	unsigned n = 0;

	for (struct trace_ring *ring = atomic_load(&trace_rings); ring; ring = ring->next)
		n += atomic_load(&ring->state) == TRACE_RING_OWNED;
	return n;
}

static void test_short_threads(void)
{
	bool good = start((struct shunt_trace_options){.ring_size = 8192});
	uint64_t rings = 0, told = 0;

	for (int i = 0; i < 2000; i++) {
		pthread_t t;

		if (pthread_create(&t, NULL, thread_calls, NULL))
			abort();
		pthread_join(t, NULL);
		/* The consumer may have no turn for long. */
		for (int turns = 0; i % 100 == 99 && turns < 20000 && owned_rings() > 10; turns++)
			usleep(1000);
	}
	for (struct trace_ring *ring = atomic_load(&trace_rings); ring; ring = ring->next)
		rings++;
	good = good && !shunt_trace_stop();
	good = good && is_whole(12000) && !r.unmatched;
	for (int i = 0; i < READ_THREADS; i++)
		told += r.thread_events[i] == 6;
	ok(good && told == 2000, "2,000 short threads: six events each, in %llu rings",
	   (unsigned long long)rings);
	ok(rings < 1500, "rings go to other threads");
}

static void spin_ns(uint64_t ns)
{
	struct timespec from, now;

	clock_gettime(CLOCK_MONOTONIC, &from);
	do
		clock_gettime(CLOCK_MONOTONIC, &now);
	while (trace_ns(&now) - trace_ns(&from) < ns);
}

/* Half a second: more than a short call takes on a busy machine. */
static void test_min(void)
{
	uintptr_t sp = (uintptr_t)__builtin_frame_address(0);
	bool good = start((struct shunt_trace_options){.min_ns = 500000000});

	fake_enter(0, sp - 64); /* long */
	calls(0);
	for (int i = 0; i < 100; i++)
		fake_call(1, sp - 128); /* short, in it */
	fake_enter(2, sp - 128);        /* long, in it */
	spin_ns(600000000);
	fake_return(sp - 128);
	fake_return(sp - 64);
	fake_enter(3, sp - 64); /* left by longjmp(), in a short one that still waits */
	fake_enter(4, sp - 128);
	fake_return(sp - 64);
	good = good && !shunt_trace_stop();
	good = good && read_trace(&r, path) && r.has_end;
	ok(good && r.by_kind[TRACE_ENTRY] == 4 && r.by_kind[TRACE_RETURN] == 3 && !r.unmatched &&
		   !r.back,
	   "min_ns: two long calls, and what was left by longjmp(); %llu entries, %llu returns",
	   (unsigned long long)r.by_kind[TRACE_ENTRY], (unsigned long long)r.by_kind[TRACE_RETURN]);
	good = start((struct shunt_trace_options){.min_ns = 500000000});
	fake_enter(0, sp - 64);
	for (int i = 0; i < 10; i++) /* as where no return stub is free */
		fake.raw->entry(FAKE_ENTRY(1), sp - 128, SHUNT_RAW_NO_RETURN);
	fake_return(sp - 64);
	good = good && !shunt_trace_stop() && read_trace(&r, path) && r.has_end;
	ok(good && r.by_kind[TRACE_CALL] == 10 && r.by_kind[TRACE_ENTRY] == 1 && !r.back,
	   "min_ns: calls whose return is not told are; %llu",
	   (unsigned long long)r.by_kind[TRACE_CALL]);
}

static void test_flight(void)
{
	bool good = start((struct shunt_trace_options){
		.mode = SHUNT_TRACE_FLIGHT, .ring_size = 4096, .save_signal = SIGUSR1});

	calls(1000);
	raise(SIGUSR1);
	ok(good && is_whole(256) && !r.unmatched,
	   "flight recorder: the last 256 events, by a signal");
	calls(1000);
	good = good && !shunt_trace_stop();
	snprintf(other_path, sizeof(other_path), "%s.saved", path);
	ok(good && !shunt_trace_save(other_path) && read_trace(&r, other_path) && r.events == 256,
	   "and saved behind the stop");
	unlink(other_path);
}

bool __real_trace_gone_any(void);
bool __wrap_trace_gone_any(void);
bool __wrap_trace_gone_any(void)
{
	return !is_control("ungone") && __real_trace_gone_any();
}

/*
 * A module goes, and a signal saves before the consumer has looked, which sleeps: what came to its
 * place must not have its names.
 */
static void test_gone(void)
{
	static const struct shunt_entries none;
	bool good = start((struct shunt_trace_options){
		.mode = SHUNT_TRACE_FLIGHT, .ring_size = 4096, .save_signal = SIGUSR1});

	calls(10);
	trace_note_unload(&(struct shunt_gone_module){
		.path = "/gone", .start = 0x700000, .end = 0x701000, .set = &none});
	raise(SIGUSR1);
	ok(good && read_trace(&r, path) && r.unloaded == 1,
	   "flight recorder: a module that has gone just before is told to have");
	good = !shunt_trace_stop();
}

/*
 * The engine lists a module that the loader does not any more, and is told that it goes: the file
 * says where it was, and of which file, so that what comes to its place is not taken for it.
 */
static void test_not_located(void)
{
	static const struct shunt_entries none;
	static const uint8_t build[] = {1, 2, 3};
	bool good = start((struct shunt_trace_options){0});

	pthread_mutex_lock(&trace_session.lock);
	fake.extra_modules = 1;
	good = good && !trace_catalogue_update(5, &(uint64_t){0});
	fake.extra_modules = 0;
	trace_note_unload(&(struct shunt_gone_module){.path = "module_1",
						      .start = 0x4ff000,
						      .end = 0x501000,
						      .set = &none,
						      .build_id = build,
						      .build_id_len = sizeof(build)});
	pthread_mutex_unlock(&trace_session.lock);
	calls(1);
	good = !shunt_trace_stop() && good && is_whole(2);
	ok(good && r.builds == 1 && r.unloaded == 2,
	   "a module that the loader has taken from its list already: %d, %d", (int)r.builds,
	   (int)r.unloaded);
}

static int crash(void)
{
	volatile int *volatile nowhere = (volatile int *)8;

	if (!start((struct shunt_trace_options){
		    .mode = SHUNT_TRACE_FLIGHT, .ring_size = 4096, .save_on_crash = 1}))
		return 1;
	calls(10);
	setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
	*nowhere = 0;
	return 0;
}

/* __builtin_trap(), on some CPUs. */
static int die_of_trap(void)
{
	if (!start((struct shunt_trace_options){
		    .mode = SHUNT_TRACE_FLIGHT, .ring_size = 4096, .save_on_crash = 1}))
		return 1;
	calls(10);
	setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
	return raise(SIGTRAP);
}

static int die_of_abort(void)
{
	if (!start((struct shunt_trace_options){
		    .mode = SHUNT_TRACE_FLIGHT, .ring_size = 4096, .save_on_crash = 1}))
		return 1;
	calls(10);
	setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
	abort();
}

int __real_stat64(const char *file, struct stat64 *st);
int __wrap_stat64(const char *file, struct stat64 *st);
int __wrap_stat64(const char *file, struct stat64 *st)
{
	return is_control("over") ? -1 : __real_stat64(file, st);
}

/* The file that the session writes, by its name and by another one. */
static void test_save_over_own(void)
{
	bool good = start((struct shunt_trace_options){.ring_size = 4096});

	snprintf(other_path, sizeof(other_path), "%s.link", path);
	good = good && !link(path, other_path);
	calls(500);
	good = good && shunt_trace_save(path) == -EBUSY && shunt_trace_save(other_path) == -EBUSY;
	unlink(other_path);
	good = good && strstr(fake.message, "the session writes to that file");
	calls(500);
	good = good && !shunt_trace_stop() && read_trace(&r, path) && r.has_end;
	ok(good && r.events + r.lost == 2000, "a save over the session's own file is refused");
}

/* Its rings have the last 10 ms, or nothing: a save would have replaced a recording by that. */
static void test_save_of_all(void)
{
	bool good = start((struct shunt_trace_options){.ring_size = 4096});

	snprintf(other_path, sizeof(other_path), "%s.saved", path);
	calls(500);
	good = good && shunt_trace_save(other_path) == -EINVAL && access(other_path, F_OK) &&
	       strstr(fake.message, "keeps no calls to be saved") &&
	       shunt_trace_save_fd(1) == -EINVAL && !shunt_trace_stop();
	trace_shape.is_flight = is_control("part");
	good = good && shunt_trace_save(path) == -EINVAL &&
	       strstr(fake.message, "no session runs, and the last one has kept no calls") &&
	       read_trace(&r, path) && r.has_end;
	ok(good && r.events + r.lost == 1000,
	   "a session that writes each call keeps none to be saved, and its file stays");
}

static void test_crash(void)
{
	ok(in_child(crash) == 1000 + SIGSEGV && is_whole(20), "saved when it dies of SIGSEGV");
	ok(in_child(die_of_abort) == 1000 + SIGABRT && is_whole(20), "and of abort()");
	(void)unlink(path);
	ok(in_child(die_of_trap) == 1000 + SIGTRAP && is_whole(20) == !SHUNT_HAS_TRAPS,
	   SHUNT_HAS_TRAPS ? "control: SIGTRAP, which is libshunt's, is not" : "and of SIGTRAP");
}

/* The kernel does not clear what rings begin with. */
static void keep_in_copies(void)
{
	for (struct trace_ring *ring = trace_rings; ring; ring = ring->next)
		(void)madvise(ring, TRACE_RING_PAGE, MADV_KEEPONFORK);
}

static int fork_and_call(void)
{
	pid_t pid;
	int status;

	if (!start((struct shunt_trace_options){.ring_size = 8192}))
		return 1;
	calls(50);
	if (is_control("kept"))
		keep_in_copies();
	pid = fork();
	if (!pid) {
		calls(3000); /* more than a ring holds: written by the thread itself */
		_exit(shunt_trace_stop() ? 1 : 0);
	}
	status = child_status(pid);
	calls(50);
	snprintf(other_path, sizeof(other_path), "%s.%d", path, (int)pid);
	if (shunt_trace_stop() || status)
		return 2;
	if (!is_whole(200))
		return 3;
	if (!read_trace(&r, other_path) || !r.has_end || r.events != 6000 || r.lost || r.unmatched)
		return 4;
	return unlink(other_path) ? 5 : 0;
}

/* A session by a descriptor alone: there is no name beside which a child could have a file. */
static int fork_without_path(void)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), status;
	pid_t pid;

	if (fd < 0 || shunt_trace_start(&(struct shunt_trace_options){
			      .size = sizeof(struct shunt_trace_options),
			      .fd = fd,
			      .auto_off_ns = UINT64_MAX,
			      .ring_size = 8192}))
		return 1;
	calls(50);
	pid = fork();
	if (!pid) {
		calls(3000);
		_exit(shunt_trace_stop() == -ENOENT ? 0 : 1);
	}
	status = child_status(pid);
	snprintf(other_path, sizeof(other_path), ".%d", (int)pid);
	if (!access(other_path, F_OK))
		return 2;
	return shunt_trace_stop() || status || !is_whole(100) ? 3 : 0;
}

static void test_fork(void)
{
	int status = in_child(fork_and_call);

	ok(!status, "a child of fork has a file of its own, and nothing is lost (%d)", status);
	status = in_child(fork_without_path);
	ok(!status, "and makes none where the session has a descriptor alone (%d)", status);
}

static struct {
	unsigned calls; /* of the copy */
	bool is_flight; /* and its session */
	bool is_beside; /* another thread has what the consumer and shunt_trace_stop() take */
} copy;

static void *take_locks(void *arg)
{
	(void)pthread_mutex_lock(&trace_session.api_lock);
	(void)pthread_mutex_lock(&trace_session.lock);
	(void)pthread_barrier_wait(arg);
	(void)pthread_barrier_wait(arg);
	(void)pthread_mutex_unlock(&trace_session.lock);
	(void)pthread_mutex_unlock(&trace_session.api_lock);
	return NULL;
}

/* By a bare system call: no atfork handler runs. (Not every CPU has fork.) */
static pid_t bare_fork(void)
{
	return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static pid_t make_copy(void)
{
	pthread_barrier_t both;
	pthread_t thread;
	pid_t pid;

	if (!copy.is_beside)
		return bare_fork();
	(void)pthread_barrier_init(&both, NULL, 2);
	if (pthread_create(&thread, NULL, take_locks, &both))
		return -1;
	(void)pthread_barrier_wait(&both);
	pid = bare_fork();
	if (pid) {
		(void)pthread_barrier_wait(&both);
		(void)pthread_join(thread, NULL);
	}
	return pid;
}

static int end_copy(void)
{
	calls(copy.calls);
	if (copy.is_flight && shunt_trace_save(trace_session.path))
		return 1;
	return shunt_trace_stop() ? 2 : 0;
}

static int copy_and_call(void)
{
	uint64_t wanted = 2 * (uint64_t)copy.calls;
	pid_t pid;
	int status;

	if (!start((struct shunt_trace_options){.ring_size = 8192,
						.mode = copy.is_flight ? SHUNT_TRACE_FLIGHT
								       : SHUNT_TRACE_ALL}))
		return 1;
	calls(50);
	if (is_control("unseen"))
		keep_in_copies();
	pid = make_copy();
	if (!pid) {
		(void)alarm(20);
		_exit(end_copy());
	}
	status = child_status(pid);
	if (status)
		return status;
	snprintf(other_path, sizeof(other_path), "%s.%d", path, (int)pid);
	calls(50);
	if ((copy.is_flight && shunt_trace_save(path)) || shunt_trace_stop())
		return 3;
	if (!is_whole(200))
		return 4;
	if (!read_trace(&r, other_path) || !r.has_end || r.events != wanted || r.lost ||
	    r.unmatched)
		return 5;
	return unlink(other_path) ? 6 : 0;
}

static void test_copy(void)
{
	for (int i = 0; i < 8; i++) {
		copy.calls = i & 1 ? 3000 : 40;
		copy.is_flight = i & 2;
		copy.is_beside = i & 4;
		if (copy.is_flight)
			copy.calls = 40; /* all of which are kept */
		int status = in_child(copy_and_call);

		ok(!status, "a copy by a bare fork has a file of its own: %u calls%s%s (%d)",
		   copy.calls, copy.is_flight ? ", flight recorder" : "",
		   copy.is_beside ? ", another thread in the recorder" : "", status);
	}
}

static int kill_self(void)
{
	if (!start((struct shunt_trace_options){0}))
		return 1;
	calls(1000);
	while (atomic_load(&trace_own_ring->tail) < 2000)
		sched_yield();
	raise(SIGKILL);
	return 0;
}

static int exit_only(void)
{
	if (!start((struct shunt_trace_options){0}))
		return 1;
	calls(1000);
	exit(0);
}

static void test_ends(void)
{
	int status = in_child(kill_self);

	ok(status == 1000 + SIGKILL && read_trace(&r, path) && !r.has_end && r.events == 2000,
	   "SIGKILL: good up to the last chunk");
	ok(in_child(exit_only) == 0 && is_whole(2000),
	   "exit() without a stop: the file is closed in order");
}

static void test_errors(void)
{
	struct shunt_trace_options options = {.path = "/nonexistent/folder/file"};
	bool was_traced;

	ok(shunt_trace_start(&options) == -ENOENT && !fake.raw &&
		   strstr(fake.message, "/nonexistent/"),
	   "a file that cannot be opened: nothing is traced (%s)", fake.message);
	options = (struct shunt_trace_options){.path = path, .filter = "some none"};
	unlink(path);
	ok(shunt_trace_start(&options) == -EINVAL && access(path, F_OK),
	   "a filter that matches nothing: no file (%s)", fake.message);
	ok(shunt_trace_stop() == -EINVAL, "no session to stop");
	fake.register_error = -ENOMEM;
	ok(!start((struct shunt_trace_options){0}) && access(path, F_OK),
	   "the engine fails: no file");
	fake.register_error = 0;
	ok(start((struct shunt_trace_options){0}) &&
		   shunt_trace_start(&(struct shunt_trace_options){.path = path}) == -EBUSY,
	   "one session at a time");
	was_traced = fake.raw;
	ok(was_traced && !shunt_trace_stop() && is_whole(0), "and an empty one is whole");
}

static int open_descriptors(void)
{
	int n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void test_full_disk(void)
{
	struct shunt_trace_options options = {.path = "/dev/full"};
	struct rlimit before, small = {100000, 100000};
	int descriptors = open_descriptors();
	bool good;

	ok(shunt_trace_start(&options) == -ENOSPC && !fake.raw, "no room for a header: %s",
	   fake.message);
	ok(open_descriptors() == descriptors, "and its descriptor is closed: %d of %d",
	   open_descriptors(), descriptors);
	good = start((struct shunt_trace_options){0});
	getrlimit(RLIMIT_FSIZE, &before);
	small.rlim_max = before.rlim_max;
	setrlimit(RLIMIT_FSIZE, &small);
	calls(10000);
	ok(good && shunt_trace_stop() == -EFBIG, "a file that becomes too big: %s", fake.message);
	setrlimit(RLIMIT_FSIZE, &before);
	good = read_trace(&r, path) && r.size <= 100000;
	ok(good, "what was written is whole chunks (%s)", r.wrong ? r.wrong : "good");
}

static void test_auto_off(void)
{
	struct shunt_trace_stats stats;
	bool good = start((struct shunt_trace_options){.auto_off_ns = 1000000});

	for (int i = 0; i < 20000 && !fake.off; i++)
		for (int k = 0; k < 1000; k++)
			fake_call(5, (uintptr_t)__builtin_frame_address(0) - 64);
	good = good && !shunt_trace_stop();
	shunt_trace_get_stats(&stats);
	ok(good && fake.off == 1u << 5 && read_trace(&r, path) && r.chunks[TRACE_CHUNK_OFF] == 1 &&
		   stats.switched_off == 1,
	   "short and often: switched off, and listed");
}

enum { OTHERS = 4 * 4096 }; /* of the places that functions are counted in (auto_off.c) */

static void call_others(void)
{
	uintptr_t sp = (uintptr_t)__builtin_frame_address(0) - 64;
	struct shunt_raw_ops *raw = fake.raw;

	for (unsigned i = 0; i < OTHERS && raw; i++) {
		raw->entry(FAKE_ENTRY(FAKE_FUNCTIONS + 1 + i), sp, SHUNT_RAW_ENTRY);
		raw->ret(0, sp);
	}
}

static struct trace_slot of_others[2 * OTHERS];

static void set_slot(struct trace_slot *slot, enum trace_event_kind kind, uint64_t ticks,
		     unsigned i)
{
	slot->word[0] = trace_word0(ticks, 0);
	slot->word[1] = trace_word1(kind, 0, FAKE_ENTRY(FAKE_FUNCTIONS + 1 + i));
}

void __real_trace_auto_off_look(void);
void __wrap_trace_auto_off_look(void);
void __wrap_trace_auto_off_look(void)
{
	__real_trace_auto_off_look();
	if (!is_control("busy"))
		return;
	for (unsigned i = 0; i < OTHERS; i++) {
		set_slot(&of_others[2 * i], TRACE_ENTRY, 2 * i, i);
		set_slot(&of_others[2 * i + 1], TRACE_RETURN, 2 * i + 1, i);
	}
	trace_auto_off_see(of_others, 2 * OTHERS, 1);
}

/* Until the consumer has taken what is there: nothing is lost that would not be counted. */
static void wait_for_consumer(void)
{
	while (atomic_load(&trace_own_ring->tail) != atomic_load(&trace_own_ring->head))
		sched_yield();
}

/* Each place has been given to a function that is not called any more. */
static void test_auto_off_behind_others(void)
{
	struct shunt_trace_stats stats;
	bool good = start((struct shunt_trace_options){.auto_off_ns = 1000000});

	call_others();
	for (int i = 0; i < (is_control("busy") ? 100 : 1000) && !fake.off; i++) {
		wait_for_consumer();
		for (int k = 0; k < 10000; k++)
			fake_call(5, (uintptr_t)__builtin_frame_address(0) - 64);
	}
	good = good && !shunt_trace_stop();
	shunt_trace_get_stats(&stats);
	ok(good && fake.off == 1u << 5 && stats.switched_off == 1 && read_trace(&r, path) &&
		   r.chunks[TRACE_CHUNK_OFF] == 1,
	   "behind %d others: switched off, and listed", (int)OTHERS);
}

static volatile sig_atomic_t handled;

static void handler(int sig)
{
	(void)sig;
	is_handling++;
	handled++;
	calls(1);
	is_handling--;
}

/* Signals come between any two instructions of the hooks. */
static void test_handlers(void)
{
	struct itimerspec every = {{0, 20000}, {0, 20000}};
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
	bool good = start((struct shunt_trace_options){.ring_size = 1 << 16});
	uint64_t made = 0;
	timer_t timer;

	signal(SIGALRM, handler);
	is_in_steps = is_control("in_steps");
	handled = 0; /* before the first signal, which counts */
	good = good && !timer_create(CLOCK_MONOTONIC, &event, &timer) &&
	       !timer_settime(timer, 0, &every, NULL);
	for (; handled < 2000; made += 100)
		calls(100);
	timer_delete(timer);
	signal(SIGALRM, SIG_IGN);
	is_in_steps = 0;
	made += (uint64_t)handled;
	good = good && !shunt_trace_stop() && read_trace(&r, path) && r.has_end;
	ok(good && r.events + r.lost == 2 * made && (r.lost || !r.unmatched),
	   "%d signal handlers that record: %llu recorded + %llu lost = 2 x %llu calls",
	   (int)handled, (unsigned long long)r.events, (unsigned long long)r.lost,
	   (unsigned long long)made);
}

static void test_modes(void)
{
	uintptr_t sp = (uintptr_t)__builtin_frame_address(0);
	bool good = start((struct shunt_trace_options){.entry_only = 1});

	calls(10);
	good = good && !shunt_trace_stop();
	ok(good && is_whole(10) && r.by_kind[TRACE_CALL] == 10 &&
		   r.session.flags & TRACE_ENTRY_ONLY,
	   "entries alone");
	good = start((struct shunt_trace_options){0});
	fake_enter(0, sp - 64);
	fake_tail(1, sp - 64);
	fake_return(sp - 64);
	good = good && !shunt_trace_stop();
	ok(good && is_whole(4) && r.by_kind[TRACE_TAIL] == 1 && !r.unmatched, "a tail call");
	good = start((struct shunt_trace_options){0});
	fake.extra_modules = 1;
	ok(good && !trace_catalogue_update(5, &(uint64_t){0}) && !shunt_trace_stop() &&
		   is_whole(0) && r.functions == 2 * FAKE_FUNCTIONS &&
		   r.chunks[TRACE_CHUNK_MODULE] == 2,
	   "a module that is loaded later");
	fake.extra_modules = 0;
}

/* With a control, the one alone that it is seen in. */
static const struct {
	void (*run)(void);
	const char *controls[2];
} tests[] = {
	{test_all, {"unwritten"}},
	{test_lost, {"uncounted"}},
	{test_short_threads, {NULL}},
	{test_min, {"every", "waiting"}},
	{test_flight, {"unsaved"}},
	{test_gone, {"ungone"}},
	{test_not_located, {NULL}},
	{test_save_over_own, {"over"}},
	{test_save_of_all, {"part"}},
	{test_crash, {NULL}},
	{test_fork, {"kept"}},
	{test_copy, {"unseen"}},
	{test_ends, {NULL}},
	{test_errors, {NULL}},
	{test_full_disk, {NULL}},
	{test_auto_off, {NULL}},
	{test_auto_off_behind_others, {"busy"}},
	{test_handlers, {"in_steps"}},
	{test_modes, {NULL}},
};

int main(void)
{
	snprintf(path, sizeof(path), "/tmp/shunt-recorder.%d", (int)getpid());
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		if (!getenv("SHUNT_CONTROL") || is_any_control(tests[i].controls))
			tests[i].run();
	unlink(path);
	return tap_done();
}
