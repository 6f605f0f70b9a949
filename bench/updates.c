/* SPDX-License-Identifier: MIT */
/*
 * (c) What one update of one site costs in each way of poking, against the floor of that
 * way: the system calls that it cannot do without, with nothing around them.
 *
 *	int3    as many core syncs and bare writes to /proc/self/mem as it makes
 *	remap   mmap() of a page of the file, one write that fills it, mremap(), a core sync
 *	auto    in a process with one thread: the question whether it is one, a bare write,
 *	        and a serialising instruction; int3 in such a process: likewise, three times
 *	flip    one write of one byte, and a core sync
 *
 * Alone; with a thread that runs elsewhere in the program; with one that calls at the
 * very site without end; and with 1,000 threads asleep.
 */
#include "flips.h"

#include <fcntl.h>
#include <link.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <shunt/inspect.h>
#include <shunt/text_poke.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

extern __attribute__((visibility("hidden"))) uint8_t bench_floor_text[], bench_poke_text[];
extern __attribute__((visibility("hidden"))) void bench_iret(void);

static const struct bench *bench;
static int mem = -1;
static int updates; /* in a sample */

/* What one update was seen to do: the floor does the same. */
static struct {
	unsigned syncs, writes, bytes;
} shape;

/* ----------------------------------------------------------------- one of each */

static int do_sync(void)
{
	return (int)syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0);
}

static int one_sync(int i)
{
	int err = 0;

	(void)i;
	for (unsigned n = 0; n < shape.syncs; n++)
		err |= do_sync();
	return err;
}

/* int3, tails, first byte; the tails have what bytes the other two leave. */
static int write_step(unsigned n)
{
	static const uint8_t bytes[8] = {0xcc, 0x90, 0x90, 0x90, 0x90};
	bool is_tail = n && n + 1 < shape.writes;
	size_t len = is_tail ? (shape.bytes - 2) / (shape.writes - 2) : 1;
	uintptr_t at = (uintptr_t)bench_floor_text + is_tail;

	return pwrite(mem, bytes + is_tail, len, (off_t)at) != (ssize_t)len;
}

static int one_floor(int i)
{
	int err = 0;

	for (unsigned n = 0; n < shape.writes; n++)
		err |= write_step(n);
	return err | one_sync(i);
}

/* The core sync of a process that has one thread, and asks whether it has. */
static int sync_alone(void)
{
	int err = (int)syscall(SYS_unshare, CLONE_VM);

	bench_iret();
	return err;
}

static int one_alone_int3_floor(int i)
{
	int err = 0;

	(void)i;
	for (unsigned n = 0; n < shape.writes; n++)
		err |= write_step(n);
	for (unsigned n = 0; n < shape.syncs; n++)
		err |= sync_alone();
	return err;
}

/*
 * The page of the loops that the other thread runs in, as the sites are: it meets the
 * swap. And where it is in the program's file.
 */
static struct {
	void *page;
	off_t offset;
	int fd;
} file = {.fd = -1};

static int find_file(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	(void)arg;
	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
		uintptr_t off = (uintptr_t)file.page - info->dlpi_addr - ph->p_vaddr;

		if (ph->p_type == PT_LOAD && off < ph->p_memsz)
			file.offset = (off_t)(ph->p_offset + off);
	}
	return 1; /* the first is the program */
}

static bool open_program(void)
{
	file.page = (void *)((uintptr_t)bench_loop_inline & -4096ul);
	file.fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	(void)dl_iterate_phdr(find_file, NULL);
	return file.fd >= 0;
}

static int one_remap_floor(int i)
{
	static char buf[4096];
	void *copy = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, file.fd, file.offset);
	bool ok;

	(void)i;
	memcpy(buf, file.page, sizeof(buf));
	ok = copy != MAP_FAILED && pwrite(mem, buf, 4096, (off_t)(uintptr_t)copy) == 4096 &&
	     mremap(copy, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, file.page) == file.page;
	return !ok || do_sync();
}

static int one_write_floor(int i)
{
	static const uint8_t bytes[4] = {0x90, 0x90, 0x90, 0x90};

	(void)i;
	return pwrite(mem, bytes, 4, (off_t)(uintptr_t)bench_floor_text) != 4 || do_sync();
}

static int one_alone_floor(int i)
{
	static const uint8_t bytes[4] = {0x90, 0x90, 0x90, 0x90};

	(void)i;
	return pwrite(mem, bytes, 4, (off_t)(uintptr_t)bench_floor_text) != 4 || sync_alone();
}

/* A byte, as a flip. */
static bool write_byte(int i)
{
	static const uint8_t bytes[2] = {0xa9, 0xe9};

	return pwrite(mem, &bytes[i % 2], 1, (off_t)(uintptr_t)bench_floor_text) == 1;
}

static int one_byte_floor(int i)
{
	return !write_byte(i) || do_sync();
}

static int one_byte_alone_floor(int i)
{
	return !write_byte(i) || sync_alone();
}

/* struct procmap_query of <linux/fs.h>, Linux 6.11, and the question; headers may lack them. */
struct query {
	uint64_t size, flags, addr, answer[6];
	uint32_t numbers[4];
	uint64_t pointers[2];
};

#define QUERY _IOWR('f', 17, struct query)

/*
 * All system calls of an update that nobody else sees, bare: its signals blocked; whether the text
 * can be read; whether a filter is in force, which might kill who asks whether the process has one
 * thread; that question; what is mapped there; whether the descriptor is the one that was kept; the
 * write; the signals again.
 */
static int one_of_all_calls(int i)
{
	static int maps = -1;
	uint64_t all = ~0ull, before;
	struct query q = {.size = sizeof(q), .addr = (uintptr_t)bench_floor_text};
	long err;

	if (maps < 0)
		maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	err = syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all, &before, sizeof(all));
	err |= syscall(SYS_rt_sigprocmask, -1, bench_floor_text, NULL, sizeof(all)) != -1;
	err |= syscall(SYS_prctl, PR_GET_SECCOMP, 0, 0, 0);
	(void)syscall(SYS_ioctl, maps, QUERY, &q); /* before Linux 6.11 there is no answer */
	err |= syscall(SYS_lseek, mem, 0, SEEK_CUR) < 0;
	err |= one_alone_floor(i);
	err |= syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof(all));
	return (int)err;
}

/* The same of a flip beside others, where nothing is asked of threads. */
static int one_of_all_calls_of_a_flip(int i)
{
	static int maps = -1;
	uint64_t all = ~0ull, before;
	struct query q = {.size = sizeof(q), .addr = (uintptr_t)bench_floor_text};
	long err;

	if (maps < 0)
		maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	err = syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all, &before, sizeof(all));
	err |= syscall(SYS_rt_sigprocmask, -1, bench_floor_text, NULL, sizeof(all)) != -1;
	(void)syscall(SYS_ioctl, maps, QUERY, &q);
	err |= syscall(SYS_lseek, mem, 0, SEEK_CUR) < 0;
	err |= one_byte_floor(i);
	err |= syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof(all));
	return (int)err;
}

static int one_call(int i)
{
	return bench_retarget(i % 2 == 0);
}

static int one_switch(int i)
{
	return bench_turn_one(i % 2 == 0);
}

static int one_poke(int i)
{
	static const uint8_t nop[5] = {0x0f, 0x1f, 0x44, 0, 0}, jmp[5] = {0xe9, 0, 0, 0, 0};

	return text_poke_bp(bench_poke_text, i % 2 ? nop : jmp, 5);
}

/* ------------------------------------------------------------------- the cases */

/* Threads that do nothing. */
static struct {
	pthread_t id[1000];
	size_t n;
	pthread_mutex_t gate;
} asleep = {.gate = PTHREAD_MUTEX_INITIALIZER};

static void *sleep_at_gate(void *arg)
{
	(void)pthread_mutex_lock(&asleep.gate);
	(void)pthread_mutex_unlock(&asleep.gate);
	return arg;
}

static void wake_all(void)
{
	(void)pthread_mutex_unlock(&asleep.gate);
	while (asleep.n)
		(void)pthread_join(asleep.id[--asleep.n], NULL);
}

static int put_to_sleep(size_t n)
{
	pthread_attr_t attr;

	(void)pthread_mutex_lock(&asleep.gate);
	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setstacksize(&attr, 65536);
	while (asleep.n < n && !pthread_create(&asleep.id[asleep.n], &attr, sleep_at_gate, NULL))
		asleep.n++;
	(void)pthread_attr_destroy(&attr);
	return asleep.n == n ? 0 : -1;
}

struct what {
	enum shunt_poke_policy policy;
	int (*one)(int i);
	bench_loop_fn *beside; /* what the other thread calls; NULL: there is none */
	size_t asleep;         /* threads that are */
};

/* Microseconds for one. */
static double time_updates(const void *arg)
{
	const struct what *what = arg;
	int err = what->beside ? bench_thread_start(bench, what->beside) : 0;
	double start;

	if (!err && what->asleep)
		err = put_to_sleep(what->asleep);
	if (err)
		return -1;
	err = shunt_set_poke(what->policy);
	start = bench_now();
	for (int i = 0; i < updates; i++)
		err |= what->one(i);
	start = bench_now() - start;
	if (what->asleep)
		wake_all();
	if (what->beside)
		bench_thread_stop();
	return err ? -1 : start / 1e3 / updates;
}

static bool see_shape(void)
{
	struct shunt_stats before, after;
	int err = shunt_set_poke(SHUNT_POKE_INT3);

	shunt_get_stats(&before);
	err |= bench_retarget(true);
	shunt_get_stats(&after);
	err |= bench_retarget(false);
	shape.syncs = (unsigned)(after.syncs - before.syncs);
	shape.writes = (unsigned)(after.writes - before.writes);
	shape.bytes = (unsigned)(after.bytes_written - before.bytes_written);
	return !err && shape.writes > 2;
}

/* Before the program has ever had a second thread: the C library remembers. */
static void bench_one_thread(struct bench *b)
{
	static const struct what w[] = {
		{SHUNT_POKE_AUTO, one_alone_floor, NULL, 0},
		{SHUNT_POKE_AUTO, one_write_floor, NULL, 0},
		{SHUNT_POKE_AUTO, one_of_all_calls, NULL, 0},
		{SHUNT_POKE_AUTO, one_call, NULL, 0},
		{SHUNT_POKE_INT3, one_alone_int3_floor, NULL, 0},
		{SHUNT_POKE_INT3, one_floor, NULL, 0},
		{SHUNT_POKE_INT3, one_call, NULL, 0},
		{SHUNT_POKE_AUTO, one_byte_alone_floor, NULL, 0},
		{SHUNT_POKE_AUTO, one_switch, NULL, 0},
	};
	static const struct bench_case cases[] = {
		{"floor", time_updates, &w[0], -1},
		{"a write and a membarrier", time_updates, &w[1], 0},
		{"all its system calls, auto", time_updates, &w[2], 0},
		{"static_call_update, auto", time_updates, &w[3], 0},
		{"floor, int3", time_updates, &w[4], -1},
		{"writes and membarriers, int3", time_updates, &w[5], 4},
		{"static_call_update, int3", time_updates, &w[6], 4},
		{"floor, flip", time_updates, &w[7], -1},
		{"static_branch_enable, flip", time_updates, &w[8], 7},
	};
	struct shunt_ways ways;

	bench_run(b, "update, one thread", "us", cases, 9, b->quick ? 25 : 61);
	shunt_get_ways(&ways);
	if (strcmp(ways.sync, "iret") != 0)
		bench_skip(b, "update, one thread", "all", "the program has had a thread before");
}

static void bench_int3(struct bench *b)
{
	static const struct what w[] = {
		{SHUNT_POKE_INT3, one_floor, NULL, 0},
		{SHUNT_POKE_INT3, one_sync, NULL, 0},
		{SHUNT_POKE_INT3, one_call, NULL, 0},
		{SHUNT_POKE_INT3, one_poke, NULL, 0},
		{SHUNT_POKE_INT3, one_floor, bench_loop_direct, 0},
		{SHUNT_POKE_INT3, one_sync, bench_loop_direct, 0},
		{SHUNT_POKE_INT3, one_call, bench_loop_direct, 0},
		{SHUNT_POKE_INT3, one_poke, bench_loop_direct, 0},
		{SHUNT_POKE_INT3, one_floor, bench_loop_inline, 0},
		{SHUNT_POKE_INT3, one_call, bench_loop_inline, 0},
	};
	static const struct bench_case cases[] = {
		{"floor, alone", time_updates, &w[0], -1},
		{"floor's membarriers, alone", time_updates, &w[1], 0},
		{"static_call_update, alone", time_updates, &w[2], 0},
		{"text_poke_bp, alone", time_updates, &w[3], 0},
		{"floor, a thread", time_updates, &w[4], -1},
		{"floor's membarriers, a thread", time_updates, &w[5], 4},
		{"static_call_update, a thread", time_updates, &w[6], 4},
		{"text_poke_bp, a thread", time_updates, &w[7], 4},
		{"floor, hammered", time_updates, &w[8], -1},
		{"static_call_update, hammered", time_updates, &w[9], 8},
	};

	bench_run(b, "update, int3", "us", cases, b->has_two ? 10 : 4, b->quick ? 25 : 61);
}

static void bench_remap(struct bench *b)
{
	static const struct what w[] = {
		{SHUNT_POKE_REMAP, one_remap_floor, NULL, 0},
		{SHUNT_POKE_REMAP, one_call, NULL, 0},
		{SHUNT_POKE_REMAP, one_remap_floor, NULL, 1000},
		{SHUNT_POKE_AUTO, one_call, NULL, 1000},
		{SHUNT_POKE_REMAP, one_remap_floor, bench_loop_direct, 0},
		{SHUNT_POKE_AUTO, one_call, bench_loop_direct, 0},
		{SHUNT_POKE_REMAP, one_remap_floor, bench_loop_inline, 0},
		{SHUNT_POKE_AUTO, one_call, bench_loop_inline, 0},
	};
	static const struct bench_case cases[] = {
		{"floor, alone", time_updates, &w[0], -1},
		{"static_call_update, alone", time_updates, &w[1], 0},
		{"floor, 1,000 threads asleep", time_updates, &w[2], -1},
		{"static_call_update, 1,000 asleep, auto", time_updates, &w[3], 2},
		{"floor, a thread", time_updates, &w[4], -1},
		{"static_call_update, a thread, auto", time_updates, &w[5], 4},
		{"floor, hammered", time_updates, &w[6], -1},
		{"static_call_update, hammered, auto", time_updates, &w[7], 6},
	};

	bench_run(b, "update, remap", "us", cases, b->has_two ? 8 : 4, b->quick ? 25 : 61);
}

/* By flips under every policy. */
static void bench_flip(struct bench *b)
{
	static const struct what w[] = {
		{SHUNT_POKE_AUTO, one_byte_floor, NULL, 0},
		{SHUNT_POKE_AUTO, one_of_all_calls_of_a_flip, NULL, 0},
		{SHUNT_POKE_AUTO, one_switch, NULL, 0},
		{SHUNT_POKE_AUTO, one_byte_floor, bench_loop_direct, 0},
		{SHUNT_POKE_AUTO, one_of_all_calls_of_a_flip, bench_loop_direct, 0},
		{SHUNT_POKE_AUTO, one_switch, bench_loop_direct, 0},
		{SHUNT_POKE_AUTO, one_byte_floor, bench_loop_branch, 0},
		{SHUNT_POKE_AUTO, one_switch, bench_loop_branch, 0},
	};
	static const struct bench_case cases[] = {
		{"floor, alone", time_updates, &w[0], -1},
		{"all its system calls, alone", time_updates, &w[1], 0},
		{"static_branch_enable, alone", time_updates, &w[2], 0},
		{"floor, a thread", time_updates, &w[3], -1},
		{"all its system calls, a thread", time_updates, &w[4], 3},
		{"static_branch_enable, a thread", time_updates, &w[5], 3},
		{"floor, hammered", time_updates, &w[6], -1},
		{"static_branch_enable, hammered", time_updates, &w[7], 6},
	};

	if (bench_turn_one(true) || !bench_goes_by_flip() || bench_turn_one(false)) {
		bench_skip(b, "update, flip", "all", "no flips");
		b->failed = true;
		return;
	}
	bench_run(b, "update, flip", "us", cases, b->has_two ? 8 : 3, b->quick ? 25 : 61);
}

void bench_updates(struct bench *b)
{
	bench = b;
	updates = 100; /* about a millisecond: less than the scheduler gives at a time */
	mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	if (mem < 0 || !see_shape() || do_sync() || !open_program()) {
		bench_skip(b, "update", "all", "no /proc/self/mem, membarrier or inline site");
	} else {
		bench_one_thread(b);
		bench_int3(b);
		bench_remap(b);
		bench_flip(b);
	}
	if (!b->has_two)
		bench_skip(b, "update", "with a thread", "one CPU");
	if (shunt_set_poke(SHUNT_POKE_AUTO))
		bench_skip(b, "update", "auto", "no such policy");
	if (file.fd >= 0)
		(void)close(file.fd);
	if (mem >= 0)
		(void)close(mem);
}
