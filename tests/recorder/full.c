/* SPDX-License-Identifier: MIT */
/*
 * A file that takes no more, because the disk is full or it may not be longer, over a faked
 * engine: what fits is kept, what does not is counted, and the file says why.
 *
 * *Control:* SHUNT_CONTROL (by the linker's --wrap): "unkept": where writing fails nothing is done
 * about it; "roomless": and no room is made for the file's end; "endless": nor is that written.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include <shunt/trace.h>

#include "../api/tap.h"
#include "../common/child.h"
#include "fake_engine.h"
#include "trace/full.h"
#include "trace/state.h"
#include "trace_reader.h"

static struct trace_read r;
static char path[64], other_path[80];

static bool is_control(const char *name)
{
	const char *control = getenv("SHUNT_CONTROL");

	return control && !strcmp(control, name);
}

static bool start(struct shunt_trace_options options)
{
	options.size = sizeof(options);
	options.auto_off_ns = UINT64_MAX;
	if (!options.fd)
		options.path = path;
	return !shunt_trace_start(&options);
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

void __real_trace_full_keep(struct trace_file *file, enum trace_chunk_type type,
			    const struct iovec *parts, uint64_t done);
void __wrap_trace_full_keep(struct trace_file *file, enum trace_chunk_type type,
			    const struct iovec *parts, uint64_t done);
void __wrap_trace_full_keep(struct trace_file *file, enum trace_chunk_type type,
			    const struct iovec *parts, uint64_t done)
{
	if (is_control("unkept"))
		return;
	if (is_control("roomless"))
		file->nr_marks = 0;
	__real_trace_full_keep(file, type, parts, done);
}

void __real_trace_full_end(struct trace_file *file, struct trace_end end);
void __wrap_trace_full_end(struct trace_file *file, struct trace_end end);
void __wrap_trace_full_end(struct trace_file *file, struct trace_end end)
{
	if (!is_control("endless"))
		__real_trace_full_end(file, end);
}

static void limit(rlim_t size)
{
	struct rlimit now;

	getrlimit(RLIMIT_FSIZE, &now);
	now.rlim_cur = size;
	setrlimit(RLIMIT_FSIZE, &now);
}

/* What is written behind a failure, and what is in a file without events. */
enum { END_SIZE = 120, BEGINNING = 2048 };

/* All events are counted, and but for @spare bytes and what has had to go it is full. */
static bool is_full(const char *name, int error, uint64_t events, off_t size, off_t spare)
{
	bool good = read_trace(&r, name) && r.has_end && r.chunks[TRACE_CHUNK_FAILURE] == 1 &&
		    r.failure.error == (uint32_t)error && r.end.events == r.events &&
		    r.events + r.end.lost == events && !r.unmatched;

	if (good && (off_t)r.size <= size && (off_t)r.size >= size - spare)
		return true;
	diag("%s: %s; %zu bytes of %ld, %llu + %llu events of %llu, %s", name,
	     r.wrong ? r.wrong : "well-formed", r.size, (long)size, (unsigned long long)r.events,
	     (unsigned long long)r.end.lost, (unsigned long long)events,
	     strerror((int)r.failure.error));
	return false;
}

/* The last chunks are of some events each, and a write begins with each byte of those. */
static bool fills(int flags, off_t size)
{
	int fd = flags ? open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | flags, 0600) : 0;
	bool good = fd >= 0 && start((struct shunt_trace_options){.fd = fd});
	struct shunt_trace_stats stats;

	for (unsigned i = 0; i < 8; i++) {
		calls(1 + i % 3);
		good = good && wait_until_written();
	}
	limit((rlim_t)size);
	calls(1000);
	good = good && wait_until_written() && shunt_trace_stop() == -EFBIG;
	limit(RLIM_INFINITY);
	shunt_trace_get_stats(&stats);
	if (fd > 0)
		close(fd);
	return good && is_full(path, EFBIG, 2030, size, 3 * END_SIZE) && stats.events == r.events &&
	       stats.lost == r.end.lost;
}

static void test_limit(void)
{
	bool good = true;
	off_t size;

	(void)start((struct shunt_trace_options){0});
	for (unsigned i = 0; i < 8; i++) {
		calls(1 + i % 3);
		(void)wait_until_written();
	}
	(void)shunt_trace_stop();
	(void)read_trace(&r, path);
	size = (off_t)r.size;
	for (off_t more = -64; good && more < 192; more += 8)
		good = fills(0, size + more);
	ok(good, "a file as long as it may be: what fits is kept, the rest counted");
	ok(fills(0, size + 4099) && fills(0, size + 20000), "and of a longer chunk");
	ok(fills(O_TRUNC, size + 1000), "by a descriptor");
	ok(fills(O_APPEND, size + 1000), "by one that appends");
}

/* A disk of 64 pages, in a name space of the process's own. 77: that is not to be had. */
static int fill_disk(void)
{
	static char dir[] = "/tmp/shunt-recorder-full.XXXXXX";
	long page = sysconf(_SC_PAGESIZE);
	char options[32];
	int status = 0;

	snprintf(options, sizeof(options), "size=%ld", 64 * page);
	if (!mkdtemp(dir) || unshare(CLONE_NEWNS | (geteuid() ? CLONE_NEWUSER : 0)) ||
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", dir, "tmpfs", 0, options)) {
		rmdir(dir);
		return 77;
	}
	snprintf(path, sizeof(path), "%s/file", dir);
	for (unsigned i = 1; !status && i < 20; i += 6) {
		if (!start((struct shunt_trace_options){0}))
			return 1;
		for (unsigned n = 0; n < i; n++) {
			calls(50 * n);
			(void)wait_until_written();
		}
		calls(20000);
		(void)wait_until_written();
		if (shunt_trace_stop() != -ENOSPC ||
		    !is_full(path, ENOSPC, 100 * (i * (i - 1) / 2) + 40000, 64 * page, 2 * page))
			status = 2;
		unlink(path);
	}
	umount2(dir, MNT_DETACH);
	rmdir(dir);
	return status;
}

static void test_disk(void)
{
	int status = in_child(fill_disk);

	if (status == 77)
		skip("a disk that is full", "no tmpfs is to be had");
	else
		ok(!status, "a disk that is full: what fits is kept, the rest counted (%d)",
		   status);
}

/* The flight recorder's: what is saved. */
static void test_save(void)
{
	struct shunt_trace_options options = {.mode = SHUNT_TRACE_FLIGHT};
	bool good = start(options);
	off_t sizes[] = {BEGINNING, 10000, 20000};

	calls(2000);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		(void)unlink(path); /* else an earlier save stays there */
		limit((rlim_t)sizes[i]);
		good = good && shunt_trace_save(path) == -EFBIG;
		limit(RLIM_INFINITY);
		ok(good && is_full(path, EFBIG, 4000, sizes[i], BEGINNING),
		   "saved to a file as long as it may be, %ld bytes", (long)sizes[i]);
	}
	good = good && !shunt_trace_save(path) && !shunt_trace_stop();
	ok(good && read_trace(&r, path) && r.has_end && r.events == 4000 && !r.end.lost &&
		   !r.chunks[TRACE_CHUNK_FAILURE],
	   "control: and to one that may be longer");
}

/* A child of fork, of which another one is killed behind the failure. */
static int full_in_child(void)
{
	pid_t pids[2];
	int status;

	if (!start((struct shunt_trace_options){.ring_size = 8192}))
		return 1;
	calls(10);
	for (int i = 0; i < 2; i++) {
		pids[i] = fork();
		if (pids[i])
			continue;
		limit(20000);
		calls(3000);
		if (i)
			kill(getpid(), SIGKILL);
		_exit(shunt_trace_stop() == -EFBIG ? 0 : 1);
	}
	status = child_status(pids[0]);
	(void)child_status(pids[1]);
	if (status || shunt_trace_stop())
		return 2;
	for (int i = 0; i < 2; i++) {
		snprintf(other_path, sizeof(other_path), "%s.%d", path, (int)pids[i]);
		if (!i && !is_full(other_path, EFBIG, 6000, 20000, 3 * END_SIZE))
			return 3;
		if (i && (!read_trace(&r, other_path) || r.has_end || r.failure.error != EFBIG ||
			  r.chunks[TRACE_CHUNK_FAILURE] != 1))
			return 4;
		unlink(other_path);
	}
	return 0;
}

int main(void)
{
	snprintf(path, sizeof(path), "/tmp/shunt-recorder-full.%d", (int)getpid());
	test_limit();
	test_disk();
	test_save();
	ok(!in_child(full_in_child), "children of fork, one of which is killed then");
	unlink(path);
	return tap_done();
}
