/* SPDX-License-Identifier: MIT */
/*
 * (c) What one update of one site costs, against its floor: as many core syncs and as
 * many bare writes to /proc/self/mem of as many bytes, with nothing around them. Alone;
 * with a thread that runs elsewhere in the program; and with one that calls at the very
 * site without end.
 */
#include "bench.h"

#include <fcntl.h>
#include <linux/membarrier.h>
#include <shunt/inspect.h>
#include <shunt/static_key.h>
#include <shunt/text_poke.h>
#include <sys/syscall.h>
#include <unistd.h>

DEFINE_STATIC_KEY_FALSE(bench_update_key);
extern __attribute__((visibility("hidden"))) uint8_t bench_floor_text[], bench_poke_text[];

static const struct bench *bench;
static int mem = -1;
static int updates; /* in a sample */

/* What one update was seen to do: the floor does the same. */
static struct {
	unsigned syncs, writes, bytes;
} shape;

/* The key needs a site, else an update has nothing to do. */
__attribute__((noinline, used)) static int site(int x)
{
	return static_branch_unlikely(&bench_update_key) ? x + 1 : x;
}

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
static int one_floor(int i)
{
	static const uint8_t bytes[8] = {0xcc, 0x90, 0x90, 0x90, 0x90};
	int err = 0;

	(void)i;
	for (unsigned n = 0; n < shape.writes; n++) {
		bool is_tail = n && n + 1 < shape.writes;
		size_t len = is_tail ? (shape.bytes - 2) / (shape.writes - 2) : 1;
		uintptr_t at = (uintptr_t)bench_floor_text + is_tail;

		err |= pwrite(mem, bytes + is_tail, len, (off_t)at) != (ssize_t)len;
	}
	return err | one_sync(i);
}

static int one_call(int i)
{
	return bench_retarget(i % 2 == 0);
}

static int one_branch(int i)
{
	return i % 2 ? static_branch_disable(&bench_update_key)
		     : static_branch_enable(&bench_update_key);
}

static int one_poke(int i)
{
	static const uint8_t nop[5] = {0x0f, 0x1f, 0x44, 0, 0}, jmp[5] = {0xe9, 0, 0, 0, 0};

	return text_poke_bp(bench_poke_text, i % 2 ? nop : jmp, 5);
}

/* ------------------------------------------------------------------- the cases */

struct what {
	int (*one)(int i);
	bench_loop_fn *beside; /* what the other thread calls; NULL: there is none */
};

/* Microseconds for one. */
static double time_updates(const void *arg)
{
	const struct what *what = arg;
	int err = what->beside ? bench_thread_start(bench, what->beside) : 0;
	double start;

	if (err)
		return -1;
	start = bench_now();
	for (int i = 0; i < updates; i++)
		err |= what->one(i);
	start = bench_now() - start;
	if (what->beside)
		bench_thread_stop();
	return err ? -1 : start / 1e3 / updates;
}

static bool see_shape(void)
{
	struct shunt_stats before, after;
	int err;

	shunt_get_stats(&before);
	err = bench_retarget(true);
	shunt_get_stats(&after);
	err |= bench_retarget(false);
	shape.syncs = (unsigned)(after.syncs - before.syncs);
	shape.writes = (unsigned)(after.writes - before.writes);
	shape.bytes = (unsigned)(after.bytes_written - before.bytes_written);
	return !err && shape.writes > 2;
}

void bench_updates(struct bench *b)
{
	static const struct what floors[] = {
		{one_floor, NULL}, {one_floor, bench_loop_direct}, {one_floor, bench_loop_inline}};
	static const struct what syncs[] = {{one_sync, NULL}, {one_sync, bench_loop_direct}};
	static const struct what calls[] = {
		{one_call, NULL}, {one_call, bench_loop_direct}, {one_call, bench_loop_inline}};
	static const struct what branches[] = {{one_branch, NULL}, {one_branch, bench_loop_direct}};
	static const struct what pokes[] = {{one_poke, NULL}, {one_poke, bench_loop_direct}};
	const struct bench_case cases[] = {
		{"floor, alone", time_updates, &floors[0], -1},
		{"floor's membarriers, alone", time_updates, &syncs[0], 0},
		{"static_call_update, alone", time_updates, &calls[0], 0},
		{"static_branch_enable, alone", time_updates, &branches[0], 0},
		{"text_poke_bp, alone", time_updates, &pokes[0], 0},
		{"floor, a thread", time_updates, &floors[1], -1},
		{"floor's membarriers, a thread", time_updates, &syncs[1], 5},
		{"static_call_update, a thread", time_updates, &calls[1], 5},
		{"static_branch_enable, a thread", time_updates, &branches[1], 5},
		{"text_poke_bp, a thread", time_updates, &pokes[1], 5},
		{"floor, hammered", time_updates, &floors[2], -1},
		{"static_call_update, hammered", time_updates, &calls[2], 10},
	};

	bench = b;
	updates = 100; /* about a millisecond: less than the scheduler gives at a time */
	mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	if (mem < 0 || !see_shape() || do_sync() || site(1) != 1)
		bench_skip(b, "update", "all", "no /proc/self/mem, membarrier or inline site");
	else
		bench_run(b, "update", "us", cases, b->has_two ? 12 : 5, b->quick ? 25 : 61);
	if (!b->has_two)
		bench_skip(b, "update", "with a thread", "one CPU");
	if (mem >= 0)
		(void)close(mem);
}
