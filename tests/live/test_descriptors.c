/* SPDX-License-Identifier: MIT */
/*
 * Descriptors of the library's in a program that has its own: never 0, 1 or 2, not for a
 * moment; one of the program's is neither used nor closed, though it is of the same file, at
 * the same number; there may be none to be had; and a filter may answer for the calls.
 *
 * A copy of the process has its own, and none that leads to its parent's memory.
 *
 * One of a file that the program maps and unmaps is closed behind the update.
 *
 * The program moves the offsets of all its descriptors, in it or in a child, or exchanges what is
 * at two of their numbers: not more than some are lost for it, and updates go on.
 *
 * Controls: files are opened at the lowest number (shunt_fd_open()), what has the number of
 * a kept one is taken for it (shunt_fd_is_kept()), and a copy does not see to those of its
 * parent (shunt_maps_copied()), and files stay open (shunt_mappings_done(),
 * shunt_proc_files_done()).
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/text_poke.h>

#include "../common/call_site.h"
#include "../common/child.h"
#include "../common/descriptor_limit.h"
#include "../common/filter.h"
#include "../common/idle_thread.h"
#include "../common/remap_first.h"
#include "../common/site_code.h"
#include "linux/base/descriptor.h"

#include "../api/tap.h"

static int turn(void)
{
	int (*to)(void) = static_call_query(call) == one ? two : one;
	int ret = static_call_update(call, to);

	return ret ? ret : site() == to() ? 0 : -EILSEQ;
}

int __real_shunt_fd_open(const char *path, int flags);
int __wrap_shunt_fd_open(const char *path, int flags);
bool __real_shunt_fd_is_kept(int fd, int64_t mark);
bool __wrap_shunt_fd_is_kept(int fd, int64_t mark);

int __real_shunt_fd_open_kept(const char *path, int flags, int64_t *mark);
int __wrap_shunt_fd_open_kept(const char *path, int flags, int64_t *mark);

void __real_shunt_maps_copied(void);
void __wrap_shunt_maps_copied(void);

void __real_shunt_mappings_done(void);
void __wrap_shunt_mappings_done(void);

void __real_shunt_proc_files_done(void);
void __wrap_shunt_proc_files_done(void);

static bool at_lowest, is_careless, is_copied_unseen, is_kept_open;

int __wrap_shunt_port_poke_begin(size_t n, bool flips, unsigned tried)
{
	return begin_remap_first(n, flips, tried);
}

void __wrap_shunt_mappings_done(void)
{
	if (!is_kept_open)
		__real_shunt_mappings_done();
}

void __wrap_shunt_proc_files_done(void)
{
	if (!is_kept_open)
		__real_shunt_proc_files_done();
}

void __wrap_shunt_maps_copied(void)
{
	if (!is_copied_unseen)
		__real_shunt_maps_copied();
}

int __wrap_shunt_fd_open(const char *path, int flags)
{
	return at_lowest ? open(path, flags | O_CLOEXEC) : __real_shunt_fd_open(path, flags);
}

int __wrap_shunt_fd_open_kept(const char *path, int flags, int64_t *mark)
{
	static int64_t last = 1 << 20;
	int fd;

	if (!at_lowest)
		return __real_shunt_fd_open_kept(path, flags, mark);
	fd = open(path, flags | O_CLOEXEC);
	*mark = ++last;
	return fd < 0 || lseek(fd, *mark, SEEK_SET) != *mark ? -errno : fd;
}

bool __wrap_shunt_fd_is_kept(int fd, int64_t mark)
{
	return is_careless || __real_shunt_fd_is_kept(fd, mark);
}

/* ------------------------------------------------------------------ 0, 1 and 2 */

static _Atomic bool over;
static _Atomic unsigned long writes, good_writes;

/* What a program does that logs to descriptors that are closed. */
static void *write_to_closed(void *arg)
{
	while (!over) {
		for (int fd = 0; fd < 3; fd++)
			if (fcntl(fd, F_GETFL) >= 0 && !(fcntl(fd, F_GETFL) & O_PATH))
				good_writes++;
		writes++;
	}
	return arg;
}

static int count_open(void)
{
	int n = 0;

	for (int fd = 0; fd < 3; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* The program anew, with none of them open. 0, or what is wrong. */
static int started_closed(void)
{
	pthread_t thread;
	int wrong = count_open() ? 1 : 0;

	if (pthread_create(&thread, NULL, write_to_closed, NULL))
		return 9;
	for (unsigned policy = 0; policy < 4 && !wrong; policy++) {
		if (shunt_set_poke((enum shunt_poke_policy)policy) || turn() || turn())
			wrong = 2;
		for (int i = 0; i < 100 && !wrong; i++) { /* and each is opened anew */
			(void)close_range(3, ~0u, 0);
			wrong = turn() ? 3 : count_open() ? 4 : 0;
		}
	}
	over = true;
	(void)pthread_join(thread, NULL);
	return wrong ? wrong : good_writes ? 5 : 0;
}

static int start_closed(const char *how)
{
	pid_t pid = fork();

	if (!pid) {
		int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
		char *argv[] = {"test", (char *)(uintptr_t)how, NULL};

		self = fcntl(self, F_DUPFD_CLOEXEC, 90);
		(void)close_range(0, 89, 0);
		(void)fexecve(self, argv, environ);
		_exit(99);
	}
	return child_status(pid);
}

/* ---------------------------------------------------------- the program's own */

/* Those that are kept: all from number 50 on. Opened by the program, at the same numbers. */
static int take_numbers(int own[], const char *path)
{
	int n = 0;

	for (int fd = 50; fd < 60; fd++) {
		int file;

		if (fcntl(fd, F_GETFD) < 0)
			continue;
		file = open(path, O_RDWR | O_CLOEXEC);
		if (file < 0)
			file = open(path, O_RDONLY | O_CLOEXEC);
		if (file < 0 || dup2(file, fd) != fd || close(file))
			abort();
		own[n++] = fd;
	}
	return n;
}

/* 0 where all of them are as they were. */
static int own_files(const char *path)
{
	int own[10], n, ret = 0;
	struct stat before, now;
	pthread_t thread;

	if (shunt_set_poke(SHUNT_POKE_AUTO) || pthread_create(&thread, NULL, idle, NULL) || turn())
		return 1;
	n = take_numbers(own, path);
	if (n < 2 || fstat(own[0], &before))
		return 2;
	for (unsigned policy = 0; policy < 4 && !ret; policy++)
		ret = shunt_set_poke((enum shunt_poke_policy)policy) || turn() ? 3 : 0;
	for (int i = 0; i < n && !ret; i++)
		if (fstat(own[i], &now) || now.st_ino != before.st_ino ||
		    now.st_size != before.st_size || lseek(own[i], 0, SEEK_CUR) != 0)
			ret = 4;
	return ret;
}

static int own_program(void)
{
	return own_files("/proc/self/exe");
}

static int own_memory(void)
{
	static char path[64];
	int fd = memfd_create("own", MFD_CLOEXEC);

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return own_files(path);
}

static int own_maps(void)
{
	return own_files("/proc/self/maps");
}

static int careless_memory(void)
{
	is_careless = true;
	return own_memory() ? 42 : 0;
}

/* -------------------------------------------------------------------- in a copy */

/* How many are kept of /proc/PID/@file of this process, and how many of another one. */
static void count_kept(const char *file, int *own, int *others)
{
	*own = *others = 0;
	for (int fd = 50; fd < 60; fd++) {
		char name[64], link[128] = "", mine[64];

		(void)snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
		(void)snprintf(mine, sizeof(mine), "/proc/%d/%s", (int)getpid(), file);
		if (readlink(name, link, sizeof(link) - 1) < 0 || strncmp(link, "/proc/", 6) != 0 ||
		    !strstr(link, file))
			continue;
		++*(strcmp(link, mine) ? others : own);
	}
}

static bool has_own_alone(void)
{
	int mem, maps, others_mem, others_maps;

	count_kept("mem", &mem, &others_mem);
	count_kept("maps", &maps, &others_maps);
	return mem == 1 && maps == 1 && !others_mem && !others_maps;
}

/* At once, for it may lose /proc or its privileges; or with the first update. */
static int copy(bool by_fork)
{
	int status = -1;
	pid_t pid = by_fork ? fork() : (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (!pid)
		_exit((by_fork && !has_own_alone()) ? 3
		      : turn() || turn()            ? 4
		      : !has_own_alone()            ? 5
						    : 0);
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status)
									       : 6;
}

static int copied(void)
{
	pthread_t thread;
	int ret;

	if (shunt_set_poke(SHUNT_POKE_AUTO) || pthread_create(&thread, NULL, idle, NULL) || turn())
		return 1;
	if (!has_own_alone())
		return 2;
	ret = copy(true);
#if !defined(__SANITIZE_THREAD__) && \
	!defined(__SANITIZE_ADDRESS__) /* have no word of such a copy */
	ret = ret ? ret : copy(false);
#endif
	return ret;
}

static int copied_unseen(void)
{
	is_copied_unseen = true;
	return copied() ? 42 : 0;
}

/* ----------------------------------------------------------------- none to be had */

/* With what is kept; with nothing; and with room again. */
static int limited_to(rlim_t n)
{
	for (unsigned policy = 0; policy < 4; policy++) {
		if (shunt_set_poke((enum shunt_poke_policy)policy) || turn() ||
		    !limit_descriptors(n))
			return 1;
		if (turn())
			return 2;
		(void)close_range(3, ~0u, 0);
		if (turn() && !shunt_last_error()[0])
			return 3;
		if (site() != (static_call_query(call) == one ? 1 : 2))
			return 4;
		if (!limit_descriptors(1024) || turn())
			return 5;
	}
	return 0;
}

static int limited(void)
{
	pthread_t thread;
	int ret;

	if (pthread_create(&thread, NULL, idle, NULL))
		return 1;
	ret = limited_to(0);
	return ret ? ret : limited_to(3);
}

/* ------------------------------------------------------------- answered by a filter */

static int answered; /* with 0, and not made */

/* That of number 0 is the program's, empty and at its start. What is kept has been closed. */
static int zero_is_own(void)
{
	int own = memfd_create("own", MFD_CLOEXEC);
	struct statx before, now;
	char byte;

	if (dup2(own, 0) != 0 || syscall(SYS_statx, 0, "", AT_EMPTY_PATH, STATX_INO, &before) ||
	    turn() || close_range(3, ~0u, 0) || !answer_syscall(answered, 0))
		return 1;
	for (unsigned i = 0; i < 12; i++) {
		if (shunt_set_poke((enum shunt_poke_policy)(i / 3)))
			return 2;
		if (turn() == -EILSEQ || site() != (static_call_query(call) == one ? 1 : 2))
			return 3;
		if (syscall(SYS_statx, 0, "", AT_EMPTY_PATH, STATX_INO | STATX_SIZE, &now) ||
		    now.stx_ino != before.stx_ino || now.stx_size)
			return 42;
	}
	/* It comes to the end of the file, and so would not from behind it. */
	return write(0, "x", 1) != 1 || pread(0, &byte, 1, 0) != 1 || byte != 'x' ? 43 : 0;
}

/* ------------------------------------------------------ files of the program's own */

static int count_all(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* Code of a file that comes and goes, as a JIT's cache does: whether it could be remapped. */
static bool poke_file(void)
{
	static const uint8_t nop[] = SITE_NOP, jmp[] = SITE_JMP(SITE_LEN);
	char name[] = "/tmp/shunt-descriptors-XXXXXX";
	int fd = mkstemp(name);
	uint8_t *text;
	bool is_poked;

	if (fd < 0 || ftruncate(fd, 4096) || write(fd, nop, sizeof(nop)) != sizeof(nop))
		abort();
	text = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	(void)close(fd);
	if (text == MAP_FAILED)
		abort();
	is_poked = !text_poke_bp(text, jmp, sizeof(jmp)) && !memcmp(text, jmp, sizeof(jmp));
	text_poke_forget(text, 4096);
	(void)munmap(text, 4096);
	(void)unlink(name);
	return is_poked;
}

static int files_that_go(void)
{
	struct shunt_ways ways = {0};
	int before;

	if (shunt_set_poke(SHUNT_POKE_REMAP) || !poke_file())
		return 43;
	shunt_get_ways(&ways);
	before = count_all();
	for (int i = 0; i < 10; i++)
		if (!poke_file())
			return 44;
	if (strcmp(ways.poke, "remap") != 0)
		return 45;
	return count_all() == before ? 0 : 42;
}

static int files_kept_open(void)
{
	is_kept_open = true;
	return files_that_go();
}

/* ----------------------------------------------------------------- offsets that move */

#define MOVES 60

static void move_to_start(void)
{
	for (int fd = 3; fd < 256; fd++)
		(void)lseek(fd, 0, SEEK_SET);
}

static void move_a_bit(void)
{
	for (int fd = 3; fd < 256; fd++)
		(void)lseek(fd, -1, SEEK_CUR);
}

/* To where others are: each to the offset of the one with the next number. */
static void move_to_others(void)
{
	off_t next = 0;

	for (int fd = 255; fd >= 3; fd--) {
		off_t own = lseek(fd, 0, SEEK_CUR);

		if (own >= 0 && lseek(fd, next, SEEK_SET) >= 0)
			next = own;
	}
}

/* A child that leaves the parent's handlers of fork() alone. */
static void move_in_child(void)
{
	pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (!pid) {
		move_to_start();
		_exit(0);
	}
	(void)child_status(pid);
}

/* What is at the first of the kept numbers comes to the second, and the other way round. */
static void exchange(void)
{
	int two[2], n = 0, other;

	for (int fd = 50; fd < 60 && n < 2; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			two[n++] = fd;
	if (n < 2)
		return;
	other = dup(two[0]);
	(void)dup3(two[1], two[0], O_CLOEXEC);
	(void)dup3(other, two[1], O_CLOEXEC);
	(void)close(other);
}

/* A file of its own, of the same kind, at the first of them; it asks for signals of its own. */
static int own_at_first(void)
{
	int fd = 50, file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	while (fcntl(fd, F_GETFD) < 0)
		fd++;
	if (dup3(file, fd, O_CLOEXEC) != fd || fcntl(fd, F_SETSIG, 40) ||
	    lseek(fd, 7, SEEK_SET) != 7)
		abort();
	(void)close(file);
	return fd;
}

static void (*move)(void);

static int moved_by(enum shunt_poke_policy policy)
{
	int before;

	if (shunt_set_poke(policy) || turn() || turn())
		return 1;
	before = count_all();
	for (int i = 0; i < MOVES; i++) {
		move();
		if (turn())
			return 2;
	}
	/* Eight times each of three. */
	return count_all() <= before + 24 ? 0 : 42;
}

static int moved(void)
{
	pthread_t thread;
	int ret, own;

	if (pthread_create(&thread, NULL, idle, NULL))
		return 3;
	ret = moved_by(SHUNT_POKE_AUTO);
	if (!ret)
		ret = moved_by(SHUNT_POKE_REMAP);
	if (!ret)
		ret = moved_by(SHUNT_POKE_INT3);
	if (ret)
		return ret;
	own = own_at_first();
	if (turn() || turn())
		return 4;
	return lseek(own, 0, SEEK_CUR) == 7 ? 0 : 43;
}

/* Closing is no such loss: they go on to be kept. */
static int closed_often(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, idle, NULL))
		return 1;
	for (int i = 0; i < MOVES; i++)
		if (close_range(3, ~0u, 0) || turn())
			return 2;
	return has_own_alone() ? 0 : 42;
}

static void test_moves(void)
{
	static const struct {
		void (*move)(void);
		const char *name;
	} moves[] = {
		{move_to_start, "to their start"},
		{move_a_bit, "one back"},
		{move_to_others, "to each other's"},
		{move_in_child, "to their start, in a child"},
		{exchange, "as their numbers are exchanged"},
	};
	int ret;

	for (size_t i = 0; i < sizeof(moves) / sizeof(moves[0]); i++) {
		move = moves[i].move;
		ret = in_child(moved);
		ok(ret == 0, "offsets are moved %s: no more descriptors after a while: %d",
		   moves[i].name, ret);
	}
	ret = in_child(closed_often);
	ok(ret == 0, "closed often: they are kept open again: %d", ret);
	move = move_to_start;
	is_kept_open = true;
	ret = in_child(moved);
	ok(ret == 42, "control: they are kept each time: %d", ret);
	is_kept_open = false;
}

static void test_answers(void)
{
	static const int calls[] = {SYS_openat, SYS_fcntl, SYS_lseek, SYS_close};
	int ret;

	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		answered = calls[i];
		ret = in_child(zero_is_own);
		ok(ret == 0, "0 is left alone where call %d is answered with 0: %d", answered, ret);
	}
	answered = SYS_openat;
	at_lowest = true;
	ret = in_child(zero_is_own);
	ok(ret == 42 || ret == 43, "control: the answer is taken for a descriptor: %d", ret);
	at_lowest = false;
}

int main(int argc, char **argv)
{
	int ret;

	shunt_set_log(NULL, NULL);
	if (argc > 1) {
		at_lowest = !strcmp(argv[1], "lowest");
		return started_closed();
	}
	ret = start_closed("careful");
	ok(ret == 0, "started without 0, 1 and 2: %d", ret);
	ret = start_closed("lowest");
	ok(ret == 4 || ret == 5, "control: opened at the lowest number: %d", ret);
	ret = in_child(own_program);
	ok(ret == 0, "the program opens the same file, at the same number: %d", ret);
	ret = in_child(own_memory);
	ok(ret == 0, "the program has memory there: %d", ret);
	ret = in_child(own_maps);
	ok(ret == 0, "the program has /proc/self/maps there: %d", ret);
	ret = in_child(careless_memory);
	ok(ret == 42, "control: what has the number is taken for ours: %d", ret);
	ret = in_child(copied);
	ok(ret == 0, "a copy has its own, and none of its parent's: %d", ret);
	ret = in_child(copied_unseen);
	ok(ret == 42, "control: a copy that does not see to them: %d", ret);
	ret = in_child(files_that_go);
	ok(ret == 0, "files that are remapped and go are closed: %d", ret);
	ret = in_child(files_kept_open);
	ok(ret == 42 || ret == 44,
	   "control: they stay open, or are taken for those that follow: %d", ret);
	ret = in_child(limited);
	ok(ret == 0, "no descriptor is to be had: %d", ret);
	test_moves();
	test_answers();
	return tap_done();
}
