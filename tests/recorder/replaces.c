/* SPDX-License-Identifier: MIT */
/*
 * A save in the place of an earlier one, over a faked engine: what was there stays until the new
 * file is whole. The process is killed in the middle of it, or the file takes no more.
 *
 * Where there is a descriptor alone, the new one stands behind the old one, or before it, and the
 * header leads to what is whole. So it is where no file can be made beside what is there: its name
 * is as long as one may be.
 *
 * *Control:* SHUNT_CONTROL, by the linker's --wrap: "over": what is there is written over at once.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>

#include <shunt/trace.h>

#include "../api/tap.h"
#include "../common/child.h"
#include "fake_engine.h"
#include "trace/replace.h"
#include "trace_reader.h"

static struct trace_read r;
static char path[400], folder[64];
static enum trace_chunk_type killed_at; /* a chunk of this type; 0: none */
static unsigned chunks_before;          /* of this type, that are written first */

int __real_trace_file_chunk(struct trace_file *file, enum trace_chunk_type type,
			    const struct iovec *parts, int n);
int __wrap_trace_file_chunk(struct trace_file *file, enum trace_chunk_type type,
			    const struct iovec *parts, int n);
int __wrap_trace_file_chunk(struct trace_file *file, enum trace_chunk_type type,
			    const struct iovec *parts, int n)
{
	if (type == killed_at && !chunks_before--)
		(void)kill(getpid(), SIGKILL);
	return __real_trace_file_chunk(file, type, parts, n);
}

int __real_trace_file_replace(struct trace_file *file, const char *name, enum trace_how how);
int __wrap_trace_file_replace(struct trace_file *file, const char *name, enum trace_how how);
int __wrap_trace_file_replace(struct trace_file *file, const char *name, enum trace_how how)
{
	const char *control = getenv("SHUNT_CONTROL");

	if (control && !strcmp(control, "over"))
		return trace_file_open(file, name, how);
	return __real_trace_file_replace(file, name, how);
}

int __real_trace_file_rewrite(struct trace_file *file, struct trace_file *held, bool behind);
int __wrap_trace_file_rewrite(struct trace_file *file, struct trace_file *held, bool behind);
int __wrap_trace_file_rewrite(struct trace_file *file, struct trace_file *held, bool behind)
{
	const char *control = getenv("SHUNT_CONTROL");

	if (control && !strcmp(control, "over"))
		held->whole = 0;
	return __real_trace_file_rewrite(file, held, behind);
}

static bool start(struct shunt_trace_options options)
{
	options.size = sizeof(options);
	options.path = path;
	options.mode = SHUNT_TRACE_FLIGHT;
	if (!options.ring_size)
		options.ring_size = 4096;
	options.auto_off_ns = UINT64_MAX;
	return !shunt_trace_start(&options);
}

static void calls(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		fake_call(i % FAKE_FUNCTIONS, (uintptr_t)__builtin_frame_address(0) - 64);
}

static bool is_whole(uint64_t events)
{
	bool good = read_trace(&r, path) && r.has_end && r.events == events;

	if (!good)
		diag("%s; %llu events of %llu", r.wrong ? r.wrong : "well-formed",
		     (unsigned long long)r.events, (unsigned long long)events);
	return good;
}

/* Files in the folder besides @path. */
static int others(bool remove_them)
{
	char command[1000];
	int status;

	snprintf(command, sizeof(command), "for f in %s/*; do [ \"$f\" = %s ] || %s; done", folder,
		 path, remove_them ? "rm -f \"$f\"" : "exit 3");
	status = system(command);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* ----------------------------------------------------------- killed in the middle of it */

static const char *how; /* it saves */

static void save(void)
{
	if (!strcmp(how, "a signal") || !strcmp(how, "a crash"))
		(void)raise(killed_at && !strcmp(how, "a crash") ? SIGSEGV : SIGUSR1);
	else
		(void)shunt_trace_save(path);
}

static int be_killed(void)
{
	setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
	if (!start((struct shunt_trace_options){.save_signal = SIGUSR1, .save_on_crash = 1}))
		return 1;
	calls(10);
	save();
	if (!is_whole(20))
		return 2;
	calls(10);
	killed_at = TRACE_CHUNK_EVENTS;
	save();
	return 3;
}

static void test_killed(void)
{
	static const char *const ways[] = {"a signal", "a crash", "a call"};

	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		int status;

		how = ways[i];
		status = in_child(be_killed);
		ok(status == 1000 + SIGKILL && is_whole(20),
		   "killed in the middle of the second save, by %s: the first is whole (%d)", how,
		   status);
		(void)others(true);
	}
}

/* A number is used again: what is left of a process that was killed is in nobody's way. */
static int save_beside_old(void)
{
	char name[450];
	int fd;

	snprintf(name, sizeof(name), "%s.new-%d", path, (int)getpid());
	fd = open(name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, "old", 3) != 3 || close(fd))
		return 1;
	if (!start((struct shunt_trace_options){0}))
		return 2;
	calls(30);
	return shunt_trace_save(path) ? 3 : 0;
}

static void test_beside_old(void)
{
	int status = in_child(save_beside_old);

	ok(!status && is_whole(60) && !others(false),
	   "what a process of the same number has left goes (%d)", status);
}

/* ------------------------------------------------------------------- it takes no more */

static int save_too_much(void)
{
	int err;

	if (!start((struct shunt_trace_options){0}))
		return 1;
	calls(10);
	if (shunt_trace_save(path))
		return 2;
	calls(10);
	setrlimit(RLIMIT_FSIZE, &(struct rlimit){500, 500});
	err = shunt_trace_save(path);
	return err == -EFBIG ? 0 : 3;
}

static void test_too_big(void)
{
	int status = in_child(save_too_much);

	ok(!status && is_whole(20) && !others(false),
	   "the second save takes no more: the first is whole, and nothing else is left (%d)",
	   status);
}

/* ---------------------------------------------------------------------- what it keeps */

static int save_twice(void)
{
	if (!start((struct shunt_trace_options){0}))
		return 1;
	calls(10);
	if (shunt_trace_save(path) || chmod(path, 0640))
		return 2;
	calls(10);
	return shunt_trace_save(path) ? 3 : 0;
}

static void test_rights(void)
{
	struct stat st;
	int status = in_child(save_twice);

	ok(!status && is_whole(40) && !stat(path, &st) && (st.st_mode & 0777) == 0640 &&
		   !others(false),
	   "the rights of the file stay (%d)", status);
}

static int save_by_link(void)
{
	char name[450];
	struct stat st;

	snprintf(name, sizeof(name), "%s-link", path);
	if (symlink(path, name) || !start((struct shunt_trace_options){0}))
		return 1;
	calls(20);
	if (shunt_trace_save(name) || lstat(name, &st) || !S_ISLNK(st.st_mode))
		return 2;
	calls(10);
	killed_at = TRACE_CHUNK_EVENTS;
	(void)shunt_trace_save(name);
	return 3;
}

static void test_link(void)
{
	int status = in_child(save_by_link);

	ok(status == 1000 + SIGKILL && is_whole(40),
	   "by a link: it stays one, and what it leads to is whole (%d)", status);
	(void)others(true);
}

/* ------------------------------------------------------------------ a descriptor alone */

static unsigned killed_in; /* this save, from 1 on; 0: in none */
static unsigned nr_calls;  /* before each save */

static bool start_held(void)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	return fd >= 0 && start((struct shunt_trace_options){.fd = fd, .save_signal = SIGUSR1});
}

/* 6 saves. More than 200 calls fill the ring: then all are of one size. */
static int save_in_turn(void)
{
	size_t first = 0;

	if (!start_held())
		return 1;
	for (unsigned i = 1; i <= 6; i++) {
		calls(nr_calls);
		killed_at = i == killed_in ? TRACE_CHUNK_EVENTS : 0;
		raise(SIGUSR1);
		if (!is_whole(nr_calls < 200 ? 2 * (uint64_t)nr_calls * i : 256) ||
		    r.session.pid != (uint32_t)getpid())
			return 2;
		first = first ? first : r.size;
		/* Before the other one and behind it, in turn. */
		if (nr_calls >= 200 && (r.first > 16) != (i % 2 == 0))
			return 3;
		if (nr_calls >= 200 && r.size > 2 * first)
			return 4;
	}
	return 0;
}

static void test_in_turn(void)
{
	int status;

	nr_calls = 300;
	killed_in = 0;
	status = in_child(save_in_turn);
	ok(!status, "a descriptor: saves in turn before each other and behind (%d)", status);
	nr_calls = 10;
	status = in_child(save_in_turn);
	ok(!status, "a descriptor: each is longer than the one before (%d)", status);
}

static void test_held_killed(void)
{
	r.stops_at_end = true;
	for (killed_in = 2; killed_in <= 4; killed_in++)
		for (nr_calls = 10; nr_calls <= 300; nr_calls += 290) {
			int status = in_child(save_in_turn);

			ok(status == 1000 + SIGKILL &&
				   is_whole(nr_calls < 200
						    ? 2 * (uint64_t)nr_calls * (killed_in - 1)
						    : 256),
			   "a descriptor: killed in save %u, of %s: the one before is whole (%d)",
			   killed_in, nr_calls < 200 ? "another size" : "the same size", status);
		}
	r.stops_at_end = false;
	killed_in = 0;
}

static int save_too_much_held(void)
{
	if (!start_held())
		return 1;
	calls(10);
	raise(SIGUSR1);
	if (!is_whole(20))
		return 2;
	calls(10);
	setrlimit(RLIMIT_FSIZE, &(struct rlimit){r.size + 500, r.size + 500});
	raise(SIGUSR1);
	return is_whole(20) && r.failure.error == EFBIG && shunt_trace_stop() == -EFBIG ? 0 : 3;
}

/* It has no end, by which others would take it for whole, but says why. */
static int save_first_too_big(void)
{
	if (!start_held())
		return 1;
	calls(100);
	setrlimit(RLIMIT_FSIZE, &(struct rlimit){3000, RLIM_INFINITY});
	raise(SIGUSR1);
	if (!read_trace(&r, path) || r.has_end || r.failure.error != EFBIG || !r.events)
		return 2;
	setrlimit(RLIMIT_FSIZE, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY});
	raise(SIGUSR1);
	return is_whole(200) && !r.failure.error && !shunt_trace_stop() ? 0 : 3;
}

static void test_held_too_big(void)
{
	int status = in_child(save_too_much_held);

	ok(!status,
	   "a descriptor: the second save takes no more: the first is as it was, the file says so, "
	   "and the stop (%d)",
	   status);
	status = in_child(save_first_too_big);
	ok(!status,
	   "a descriptor: the first save takes no more: it has no end, and the next is whole (%d)",
	   status);
}

/* ----------------------------------------------------------------------- cut in the middle */

enum { BIG = 1 << 20 };

static int be_killed_in_third(void)
{
	if (!start((struct shunt_trace_options){.ring_size = BIG}))
		return 1;
	calls(10000);
	killed_at = TRACE_CHUNK_EVENTS;
	chunks_before = 2;
	(void)shunt_trace_save(path);
	return 2;
}

static void test_cut(void)
{
	int status;
	bool good;

	(void)unlink(path);
	status = in_child(be_killed_in_third);
	good = read_trace(&r, path) && !r.has_end && r.events == 8192;
	ok(status == 1000 + SIGKILL && good,
	   "killed in the middle of a save of many calls: what was written is whole (%d, %llu)",
	   status, (unsigned long long)r.events);
	(void)unlink(path);
}

/* ------------------------------------------------------- no file can be made beside it */

static void use_long_name(void)
{
	size_t len = (size_t)snprintf(path, sizeof(path), "%s/", folder);

	memset(path + len, 'n', NAME_MAX);
	path[len + NAME_MAX] = '\0';
}

static int save_in_place(void)
{
	if (!start((struct shunt_trace_options){0}))
		return 1;
	for (unsigned i = 1; i <= 5; i++) {
		calls(10);
		if (shunt_trace_save(path) || !is_whole(20 * (uint64_t)i))
			return 2;
	}
	return 0;
}

/* Not by a session's open(): it would be another one's. */
static int fail_in_place(int wanted)
{
	static char before[100000], after[100000];
	int fd, err;
	ssize_t n;

	if (!start((struct shunt_trace_options){.path = path}))
		return 1;
	calls(10);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = pread(fd, before, sizeof(before), 0);
	if (wanted == -EFBIG)
		setrlimit(RLIMIT_FSIZE, &(struct rlimit){(rlim_t)n + 500, (rlim_t)n + 500});
	if (wanted == -EBUSY && flock(open(path, O_RDONLY | O_CLOEXEC), LOCK_EX))
		return 2;
	err = shunt_trace_save(path);
	if (err != wanted)
		return 3;
	return pread(fd, after, sizeof(after), 0) == n && !memcmp(before, after, (size_t)n) ? 0 : 4;
}

static int take_too_much(void)
{
	return fail_in_place(-EFBIG);
}

static int be_locked(void)
{
	return fail_in_place(-EBUSY);
}

static int be_no_recording(void)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

	return write(fd, "what somebody has written\n", 26) != 26 || close(fd)
		       ? 9
		       : fail_in_place(-ENAMETOOLONG);
}

static void test_in_place(void)
{
	int status;

	use_long_name();
	status = in_child(save_in_place);
	ok(!status && !others(false), "no file beside it: saves in the file itself (%d)", status);
	how = "a call";
	(void)unlink(path);
	status = in_child(be_killed);
	ok(status == 1000 + SIGKILL && (r.stops_at_end = true) && is_whole(20),
	   "no file beside it: killed in the second save, the first is whole (%d)", status);
	r.stops_at_end = false;
	status = in_child(take_too_much);
	ok(!status, "no file beside it: it takes no more, and is as it was (%d)", status);
	status = in_child(be_locked);
	ok(!status, "no file beside it: another one saves there, and it is as it was (%d)", status);
	status = in_child(be_no_recording);
	ok(!status, "no file beside it: what is no recording is as it was (%d)", status);
	(void)unlink(path);
	snprintf(path, sizeof(path), "%s/trace", folder);
}

/* Others have cut it off: it begins anew. */
static int save_cut_off(void)
{
	if (!start_held())
		return 1;
	calls(300);
	raise(SIGUSR1);
	calls(300);
	raise(SIGUSR1);
	if (truncate(path, 100))
		return 2;
	raise(SIGUSR1);
	return is_whole(256) && r.first == 16 ? 0 : 3;
}

static void test_cut_off(void)
{
	int status = in_child(save_cut_off);

	ok(!status, "a descriptor: what others have cut off begins anew (%d)", status);
}

int main(void)
{
	snprintf(folder, sizeof(folder),
		 "/tmp/shunt-replaces.XXXXXX"); /* one that was killed leaves its own */
	if (!mkdtemp(folder))
		return 1;
	snprintf(path, sizeof(path), "%s/trace", folder);
	test_killed();
	test_beside_old();
	test_too_big();
	test_rights();
	test_link();
	test_in_turn();
	test_held_killed();
	test_held_too_big();
	test_cut_off();
	test_cut();
	test_in_place();
	unlink(path);
	rmdir(folder);
	return tap_done();
}
