/* SPDX-License-Identifier: MIT */
/*
 * What may become of a session's file while it is written, over a faked engine: cut off by others,
 * removed, moved, refused by the file system; and slots that nobody ever writes.
 *
 * *Control:* SHUNT_CONTROL: "holes": it goes on where it was, behind what was cut off; "named": it
 * has one more name when it is removed; "unfiltered": nothing refuses the writes; "first": at
 * the end one slot of a ring is given up, and no more (by the linker's --wrap); "spent": what
 * is waited for is looked at without a pause; "forever": a fork waits for ever.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <shunt/trace.h>

#include "../api/tap.h"
#include "../common/child.h"
#include "../common/filter.h"
#include "fake_engine.h"
#include "trace/state.h"
#include "trace/stream.h"
#include "trace_reader.h"

static struct trace_read r;
static char path[64], other_path[80];

static bool is_control(const char *name)
{
	const char *control = getenv("SHUNT_CONTROL");

	return control && !strcmp(control, name);
}

void __real_trace_stream_rest(struct trace_ring *ring);
void __wrap_trace_stream_rest(struct trace_ring *ring);
void __wrap_trace_stream_rest(struct trace_ring *ring)
{
	uint64_t rate = trace_session.rate;

	if (!is_control("first")) {
		__real_trace_stream_rest(ring);
		return;
	}
	(void)trace_stream_ring(ring); /* it is seen to be stuck */
	trace_session.rate = 0;        /* no patience with that one, and all with those behind */
	ring->lost_known += ring->stuck != 0;
	if (ring->stuck)
		atomic_fetch_add(&ring->tail, 1);
	ring->stuck = 0;
	trace_session.rate = rate;
	(void)trace_stream_ring(ring);
}

static bool start(struct shunt_trace_options options)
{
	options.size = sizeof(options);
	options.auto_off_ns = UINT64_MAX;
	if (!options.fd)
		options.path = path;
	if (shunt_trace_start(&options))
		return false;
	pthread_mutex_lock(&trace_session.lock);
	if (is_control("holes"))
		trace_session.file.begin_again = NULL;
	pthread_mutex_unlock(&trace_session.lock);
	return true;
}

static void calls(unsigned n)
{
	uintptr_t sp = (uintptr_t)__builtin_frame_address(0);

	for (unsigned i = 0; i < n; i++)
		fake_call(i % FAKE_FUNCTIONS, sp - 64);
}

/* Until the consumer has written all. */
static bool wait_until_written(void)
{
	for (int i = 0; i < 20000; i++) {
		if (atomic_load(&trace_own_ring->tail) == atomic_load(&trace_own_ring->head))
			return true;
		usleep(1000);
	}
	return false;
}

/* When the consumer has written all, and while it writes nothing. */
static bool cut(int fd, off_t size)
{
	bool good = wait_until_written();

	pthread_mutex_lock(&trace_session.lock);
	good = good && !(fd < 0 ? truncate(path, size) : ftruncate(fd, size));
	pthread_mutex_unlock(&trace_session.lock);
	return good;
}

static bool is_whole(const char *name, uint64_t events, uint64_t lost)
{
	bool good = read_trace(&r, name) && r.has_end && r.events == events &&
		    r.end.events == events && r.end.lost == lost && !r.unmatched &&
		    r.functions == FAKE_FUNCTIONS && r.chunks[TRACE_CHUNK_CLOCK] >= 3;

	if (!good)
		diag("%s: %s; %llu events of %llu, lost %llu, in all %llu", name,
		     r.wrong ? r.wrong : "well-formed", (unsigned long long)r.events,
		     (unsigned long long)events, (unsigned long long)r.lost,
		     (unsigned long long)r.end.lost);
	return good;
}

/* ------------------------------------------------------------------------- cut off */

static bool is_cut_to(off_t size, int times)
{
	bool good = start((struct shunt_trace_options){0});

	for (int i = 0; i < times; i++) {
		calls(1000);
		good = good && cut(-1, size);
	}
	calls(500);
	good = good && !shunt_trace_stop();
	return good && is_whole(path, 1000, 2000 * (uint64_t)times);
}

static void test_cut(void)
{
	static const off_t sizes[] = {0, 1, 16, 100, 1000, 20000};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		ok(is_cut_to(sizes[i], 1), "cut off at byte %d: what came behind is whole",
		   (int)sizes[i]);
	ok(is_cut_to(0, 5), "and five times");
}

/* Behind what is somebody else's, in a file that is written by a descriptor. */
static void test_cut_descriptor(int flags, const char *what)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | flags, 0600);
	bool good = fd >= 0 && write(fd, "text...", 7) == 7 &&
		    start((struct shunt_trace_options){.fd = fd});
	char text[16] = "";

	calls(1000);
	good = good && cut(fd, 100);
	calls(500);
	good = good && !shunt_trace_stop();
	good = good && pread(fd, text, 15, 0) == 15 && !memcmp(text, "text..." TRACE_MAGIC, 15);
	ok(good, "%s: what stands before it stays", what);
	good = fd >= 0 && !ftruncate(fd, 0) && write(fd, "text", 4) == 4 &&
	       start((struct shunt_trace_options){.fd = fd});
	calls(1000);
	good = good && cut(fd, 0);
	calls(500);
	good = good && !shunt_trace_stop() && !close(fd);
	ok(good && is_whole(path, 1000, 2000), "%s: all of it", what);
}

/* A child of fork writes by itself. */
static int cut_in_child(void)
{
	pid_t pid;
	int status;

	if (!start((struct shunt_trace_options){.ring_size = 8192}))
		return 1;
	calls(50);
	pid = fork();
	if (!pid) {
		snprintf(other_path, sizeof(other_path), "%s.%d", path, (int)getpid());
		calls(3000);
		if (is_control("holes"))
			trace_session.file.begin_again = NULL;
		if (truncate(other_path, 0))
			_exit(1);
		calls(3000);
		_exit(shunt_trace_stop() ? 2 : 0);
	}
	status = child_status(pid);
	snprintf(other_path, sizeof(other_path), "%s.%d", path, (int)pid);
	if (status || shunt_trace_stop())
		return 2;
	if (!read_trace(&r, other_path) || !r.has_end || r.unmatched || r.events < 6000 ||
	    r.events + r.end.lost != 12000)
		return 3;
	return unlink(other_path) ? 4 : 0;
}

/* --------------------------------------------------------------- removed, or moved */

static void test_names(void)
{
	bool good = start((struct shunt_trace_options){0});

	snprintf(other_path, sizeof(other_path), "%s.moved", path);
	calls(1000);
	good = good && wait_until_written() && !rename(path, other_path);
	calls(500);
	good = good && !shunt_trace_stop() && access(path, F_OK);
	ok(good && is_whole(other_path, 3000, 0), "moved: all of it is there, under that name");
	good = start((struct shunt_trace_options){0});
	calls(100);
	if (is_control("named"))
		good = good && !unlink(other_path) && !link(path, other_path);
	good = good && wait_until_written() && !unlink(path);
	calls(100);
	ok(good && shunt_trace_stop() == -ENOENT, "removed: the end says so (%s)", fake.message);
	unlink(other_path);
	good = start((struct shunt_trace_options){0}) && !shunt_trace_stop();
	ok(good && is_whole(path, 0, 0), "and the next session is as if nothing had been");
}

/* ------------------------------------------------------------------- writes that fail */

static int answer;

static bool refuse_in_all_threads(long nr, int error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
}

static int fail_to_write(void)
{
	int expected = answer ? -answer : -EIO;

	if (!start((struct shunt_trace_options){.ring_size = 8192}))
		return 1;
	calls(100);
	if (!wait_until_written())
		return 2;
	if (!is_control("unfiltered") && !refuse_in_all_threads(SYS_writev, answer))
		return 3;
	calls(10000);
	if (shunt_trace_stop() != expected)
		return 4;
	if (!read_trace(&r, path) || r.has_end || r.events != 200)
		return 5;
	/* And a session that cannot begin. */
	return shunt_trace_start(&(struct shunt_trace_options){.path = path}) == expected ? 0 : 6;
}

static int fail_in_child(void)
{
	pid_t pid;

	if (!start((struct shunt_trace_options){.ring_size = 8192}))
		return 1;
	calls(50);
	pid = fork();
	if (!pid) {
		if (!is_control("unfiltered") && !refuse_in_all_threads(SYS_writev, answer))
			_exit(1);
		calls(3000);
		_exit(shunt_trace_stop() == -answer ? 0 : 2);
	}
	if (child_status(pid))
		return 2;
	snprintf(other_path, sizeof(other_path), "%s.%d", path, (int)pid);
	unlink(other_path);
	return shunt_trace_stop() ? 3 : 0;
}

static void test_refused(void)
{
	static const int answers[] = {EIO, EROFS, ENOSPC, EDQUOT, ESTALE, EPERM, 0};

	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		int status;

		answer = answers[i];
		status = in_child(fail_to_write);
		ok(!status, "a write is answered with %s: told, and what was there is whole (%d)",
		   answer ? strerror(answer) : "nothing done", status);
	}
	answer = EIO;
	ok(!in_child(fail_in_child), "in a child of fork, which goes on");
}

static long cpu_ms(void)
{
	struct rusage used;

	getrusage(RUSAGE_SELF, &used);
	return (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000 +
	       (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1000;
}

static void *read_late(void *arg)
{
	int fd = *(int *)arg;
	long from = cpu_ms();
	char room[4096];

	/* The control has its time even on a busy machine. */
	for (int i = 0; i < (is_control("spent") && cpu_ms() - from < 300 ? 20000 : 300); i++)
		usleep(1000);
	while (read(fd, room, sizeof(room)) > 0)
		;
	return NULL;
}

static void test_slow_pipe(void)
{
	pthread_t reader = pthread_self(); /* that cannot be waited for */
	int fds[2];
	bool good = !pipe2(fds, O_CLOEXEC) && !fcntl(fds[1], F_SETFL, O_NONBLOCK) &&
		    !pthread_create(&reader, NULL, read_late, &fds[0]) &&
		    start((struct shunt_trace_options){.fd = fds[1]});
	long ms = cpu_ms();

	if (is_control("spent"))
		good = good && refuse_in_all_threads(SYS_ppoll, 0);
	calls(20000);
	good = good && !shunt_trace_stop();
	close(fds[1]);
	pthread_join(reader, NULL);
	close(fds[0]);
	ms = cpu_ms() - ms;
	ok(good && ms < 150, "a pipe that does not block: its reader is waited for (%ld ms)", ms);
}

int __real_pthread_mutex_timedlock(pthread_mutex_t *lock, const struct timespec *until);
int __wrap_pthread_mutex_timedlock(pthread_mutex_t *lock, const struct timespec *until);
int __wrap_pthread_mutex_timedlock(pthread_mutex_t *lock, const struct timespec *until)
{
	return is_control("forever") ? pthread_mutex_lock(lock)
				     : __real_pthread_mutex_timedlock(lock, until);
}

static void *read_all(void *arg)
{
	char room[4096];

	while (read(*(int *)arg, room, sizeof(room)) > 0)
		;
	return NULL;
}

/* Until the pipe takes nothing any more. (What is in it says nothing: its pages may not be full.)
 */
static bool is_full(int fd)
{
	struct pollfd out = {.fd = fd, .events = POLLOUT};

	for (int i = 0; i < 15000 && poll(&out, 1, 0) == 1; i++)
		usleep(1000);
	return !poll(&out, 1, 0);
}

/* The consumer writes to a pipe that nobody reads, and holds what a fork waits for. */
static int fork_beside_full_pipe(void)
{
	pthread_t reader;
	int fds[2], status;
	pid_t pid;

	alarm(20);
	if (pipe2(fds, O_CLOEXEC) || !start((struct shunt_trace_options){.fd = fds[1]}))
		return 1;
	calls(20000);
	if (!is_full(fds[1]))
		return 2;
	pid = fork();
	if (!pid) {
		calls(100);
		_exit(shunt_trace_stop() == -EBUSY ? 0 : 3);
	}
	status = child_status(pid);
	if (status || pthread_create(&reader, NULL, read_all, &fds[0]))
		return 4;
	calls(100);
	return shunt_trace_stop() ? 5 : 0;
}

static void test_fork(void)
{
	int status = in_child(fork_beside_full_pipe);

	ok(!status, "a fork beside a pipe that nobody reads: the child goes on, not recorded (%d)",
	   status);
}

/* ----------------------------------------------------------- slots that nobody writes */

static void claim(unsigned n)
{
	atomic_fetch_add(&trace_own_ring->head, n);
}

static bool find_stuck(void)
{
	bool good = start((struct shunt_trace_options){0});

	calls(10);
	good = good && wait_until_written();
	pthread_mutex_lock(&trace_session.lock);
	claim(1);
	calls(10);
	claim(2);
	calls(10);
	claim(1);
	pthread_mutex_unlock(&trace_session.lock);
	good = good && !shunt_trace_stop();
	return good && is_whole(path, 60, 4) && r.lost == 4;
}

/* The control goes wrong unless the consumer has found all of them before the end. */
static void test_stuck(void)
{
	unsigned rounds = is_control("first") ? 10 : 1;
	bool good = true;

	while (good && rounds--)
		good = find_stuck();
	ok(good, "slots that were claimed and never written: each is counted at the end");
	good = start((struct shunt_trace_options){0});
	pthread_mutex_lock(&trace_session.lock);
	trace_session.rate = 1000; /* and so is the patience with them */
	pthread_mutex_unlock(&trace_session.lock);
	calls(10);
	claim(1);
	calls(10);
	claim(1);
	good = good && wait_until_written();
	calls(10);
	good = good && !shunt_trace_stop();
	ok(good && is_whole(path, 60, 2) && r.lost == 2, "and given up while it runs");
}

int main(void)
{
	snprintf(path, sizeof(path), "/tmp/shunt-recorder-files.%d", (int)getpid());
	test_cut();
	test_cut_descriptor(0, "by a descriptor");
	test_cut_descriptor(O_APPEND, "and one that appends");
	ok(!in_child(cut_in_child), "a child of fork: what came behind is whole");
	test_names();
	test_refused();
	test_stuck();
	test_slow_pipe();
	test_fork();
	unlink(path);
	return tap_done();
}
