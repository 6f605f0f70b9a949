/* SPDX-License-Identifier: MIT */
/*
 * Which way a batch is poked. The policy is the user's (SHUNT_POKE, shunt_set_poke()):
 *
 *	int3    int3, tails, first bytes; threads trap meanwhile (sigtrap.c)
 *	remap   changed copies of the pages take the place of the old ones (remap.c)
 *	atomic  one store for each site that lies in an aligned word, int3 for the others
 *	auto    in a process with one thread, plain writes; else remap, which asks nothing
 *	        of the program's signals; where that is not to be had, int3, unless a thread
 *	        blocks SIGTRAP, which such a trap would kill
 *
 * On a CPU on which nothing needs to trap (SHUNT_HAS_TRAPS, arch.h) every batch is one of flips,
 * and there is no int3: what is left of a policy is what follows where they fail.
 *
 * Under each of them a batch that only switches on and off (core/poke_flip.c) goes by flips, which
 * ask less of the process than any way does; and by the policy's way where they fail.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <time.h>

#include <shunt/inspect.h>
#include <shunt/port.h>

#include "arch/arch.h"
#include "core/poke.h"
#include "linux/base/alone.h"
#include "linux/base/base.h"
#include "linux/base/environment.h"
#include "linux/base/format.h"
#include "linux/base/syscall.h"
#include "linux/base/tasks.h"
#include "linux/text/text.h"
#include "linux/trap/sigtrap.h"

#define UNSET (-1)

static _Atomic int policy = UNSET; /* enum shunt_poke_policy */

struct batch {
	const char *way;
	const char *why; /* what failed in the way before it, or why none was known to be alone */
};

/* Written with the update lock held; read without it for display alone, so each for itself. */
struct shown_batch {
	const char *_Atomic way, *_Atomic why;
};

static struct {
	struct shown_batch done;   /* the last that had gone through when the next one began */
	struct shown_batch latest; /* begun since; it went through if @pokes has been counted up */
	_Atomic uint64_t pokes;
} state = {.done = {.way = "none"}, .latest = {.way = "none"}};

/* --------------------------------------------------------------------- policy */

static int from_environment(void)
{
	int value = shunt_environment_value(SHUNT_ENV_POKE);

	return value < 0 ? SHUNT_POKE_AUTO : value;
}

static enum shunt_poke_policy policy_now(void)
{
	int now = atomic_load_explicit(&policy, memory_order_relaxed);

	if (now == UNSET) {
		int none = UNSET;

		now = from_environment();
		if (!atomic_compare_exchange_strong(&policy, &none, now))
			now = none;
	}
	return (enum shunt_poke_policy)now;
}

int shunt_set_poke(enum shunt_poke_policy new)
{
	if (!shunt_environment_name(SHUNT_ENV_POKE, (int)new)) {
		shunt_message("shunt_set_poke: no such policy: %d", (int)new);
		return -EINVAL;
	}
	atomic_store_explicit(&policy, (int)new, memory_order_relaxed);
	if (shunt_wants_traps()) {
		(void)shunt_pin();
		shunt_install_handler_early();
	}
	return 0;
}

bool shunt_wants_traps(void)
{
	enum shunt_poke_policy now = policy_now();

	return SHUNT_HAS_TRAPS && (now == SHUNT_POKE_INT3 || now == SHUNT_POKE_ATOMIC);
}

/* -------------------------------------------- threads that an int3 would kill */

/*
 * How often a thread is looked at that blocks SIGTRAP: the C library does in pthread_create(), and
 * so does our handler. And one that has had no CPU since the first look.
 */
enum { LOOKS = 8, LOOKS_WITHOUT_CPU = 12 };

static struct shunt_tasks tasks; /* update lock */

/* Room for their list is had early: int3 is what is left where there is no more memory. */
static void prepare_look(void)
{
	const char *earlier = shunt_failed_call;

	if (!tasks.room)
		(void)shunt_tasks_reserve(&tasks, 64);
	shunt_failed_call = earlier;
}

/* It is ready to run, and has not run since it had had @then of CPU time. */
static bool waits_for_cpu(int32_t tid, uint64_t then)
{
	uint64_t ticks;

	return shunt_task_is_ready(tid, &ticks) && ticks == then;
}

/* 1, 0, or -errno: it cannot be seen, and shunt_failed_call says why. */
static int stays_blocked(int32_t tid)
{
	struct timespec moment = {0, 200000};
	uint64_t then = 0;
	enum shunt_task task = shunt_task_look(tid, SIGTRAP);

	for (int looks = 1; task == SHUNT_TASK_BLOCKS; looks++) {
		if (looks == 1)
			(void)shunt_task_is_ready(tid, &then);
		if (looks == LOOKS_WITHOUT_CPU || (looks >= LOOKS && !waits_for_cpu(tid, then)))
			return 1;
		(void)shunt_syscall(SYS_nanosleep, (long)&moment, 0, 0, 0);
		moment.tv_nsec *= 2; /* one that starts may wait for a CPU */
		task = shunt_task_look(tid, SIGTRAP);
	}
	return task == SHUNT_TASK_UNKNOWN ? shunt_task_why_unknown() : 0;
}

#define LISTINGS 10 /* of which each is some tries already (tasks.c) */

static int list_all(void)
{
	int ret = shunt_tasks_list(&tasks);

	for (int i = 1; i < LISTINGS && !ret && !tasks.complete; i++)
		ret = shunt_tasks_list(&tasks);
	if (ret || tasks.complete)
		return ret;
	shunt_failed_call = "getdents64(/proc/self/task), which is never complete";
	return -EAGAIN;
}

/*
 * A thread but this one that blocks SIGTRAP. 0: none, or there is no /proc to see it in. -errno: it
 * cannot be seen for another reason, which shunt_failed_call says.
 */
static int32_t find_blocked(void)
{
	int32_t self = shunt_own_tid();
	int ret = list_all();

	if (ret == -ENOSYS)
		tasks.n = 0;
	else if (ret)
		return ret;
	for (size_t i = 0; i < tasks.n; i++) {
		ret = tasks.tids[i] == self ? 0 : stays_blocked(tasks.tids[i]);
		if (ret)
			return ret < 0 ? ret : tasks.tids[i];
	}
	return 0;
}

/*
 * A process in this memory that would die of an int3, because it was made before there was a
 * handler; 0: none is seen; -errno as above. Most have executed another program a moment later.
 */
static int32_t find_without_handler(void)
{
	struct timespec moment = {0, 200000};
	int32_t pid = 0;

	for (int looks = 0; !shunt_traps_reach_us() && looks < LOOKS; looks++) {
		if (looks)
			(void)shunt_syscall(SYS_nanosleep, (long)&moment, 0, 0, 0);
		moment.tv_nsec *= 2;
		pid = shunt_task_sharing_memory(&tasks);
		if (pid < 0)
			return shunt_task_why_unknown();
		if (!pid)
			break;
	}
	return pid;
}

/* What is said behind @call, which has failed in remap; once. */
static void add_why_no_int3(const char *call, const char *reason)
{
	char *why = shunt_call_buffer();

	if (why && call != why)
		shunt_format(why, SHUNT_CALL_MAX, "%s; and no int3: %s", call ? call : "remap",
			     reason);
	shunt_failed_call = why ? why : "a thread or a child would die of an int3";
}

/* Nobody is to die of an int3: of @id, a thread or a child; or -errno, and nobody knows. */
static int refuse_int3(const char *call, const char *what, int32_t id, const char *why_not)
{
	char reason[80];

	/* -ENOSYS is that no way is left, which fails with the error of the last one. */
	if (id == -ENOSYS) {
		shunt_format(reason, sizeof(reason), "%s gave ENOSYS", shunt_failed_call);
		add_why_no_int3(call, reason);
		return id;
	}
	if (id < 0) {
		add_why_no_int3(call, shunt_failed_call);
		return id;
	}
	shunt_format(reason, sizeof(reason), "%s %d %s", what, (int)id, why_not);
	add_why_no_int3(call, reason);
	return -ENOSYS;
}

/* Where auto falls to int3: 0, or why not. */
static int may_trap(void)
{
	const char *call = shunt_failed_call;
	int32_t id;

	if (!SHUNT_HAS_TRAPS)
		return 0; /* and there is no such way */
	id = find_blocked();
	if (id)
		return refuse_int3(call, "thread", id, "blocks SIGTRAP");
	id = find_without_handler();
	if (id)
		return refuse_int3(call, "child", id, "in this memory has no handler");
	shunt_failed_call = call;
	return 0;
}

/* ----------------------------------------------------------------- the choice */

static bool is_tried(unsigned tried, enum shunt_way way)
{
	return tried >> way & 1;
}

/* The self-test's: a way, or SHUNT_ANY_WAY. Update lock. */
static int forced = SHUNT_ANY_WAY;

void shunt_force_way(int way)
{
	forced = way;
}

bool shunt_way_is_allowed(enum shunt_way way)
{
	enum shunt_poke_policy now = policy_now();

	if (way == SHUNT_WAY_FLIP)
		return true;
	if (!SHUNT_HAS_TRAPS) /* as pick() goes on from flips */
		return way == SHUNT_WAY_REMAP ? now == SHUNT_POKE_REMAP || now == SHUNT_POKE_AUTO
					      : way == SHUNT_WAY_ATOMIC && now != SHUNT_POKE_REMAP;
	switch (now) {
	case SHUNT_POKE_REMAP:
		return way == SHUNT_WAY_REMAP;
	case SHUNT_POKE_ATOMIC:
		return way == SHUNT_WAY_ATOMIC || way == SHUNT_WAY_INT3;
	case SHUNT_POKE_AUTO:
		return way != SHUNT_WAY_ATOMIC;
	case SHUNT_POKE_INT3:
		break;
	}
	return way == SHUNT_WAY_INT3;
}

/* *why_not: why not by writes of one that is alone, where there is more to say than threads. */
static int pick(bool flips, unsigned tried, const char **why_not)
{
	int ret;

	*why_not = NULL;
	if (forced != SHUNT_ANY_WAY)
		return is_tried(tried, (enum shunt_way)forced) ? -ENOSYS : forced;
	/* Where no site traps each is old or new, so that what is put back goes by flips as well.
	 */
	if ((flips || !SHUNT_HAS_TRAPS) && !is_tried(tried, SHUNT_WAY_FLIP))
		return SHUNT_WAY_FLIP;
	switch (policy_now()) {
	case SHUNT_POKE_REMAP:
		if (!is_tried(tried, SHUNT_WAY_REMAP))
			return SHUNT_WAY_REMAP;
		if (!(tried & SHUNT_PUT_BACK))
			return -ENOSYS;
		ret = is_tried(tried, SHUNT_WAY_INT3) ? 0 : may_trap();
		if (ret)
			return ret;
		break;
	case SHUNT_POKE_ATOMIC:
		if (!is_tried(tried, SHUNT_WAY_ATOMIC))
			return SHUNT_WAY_ATOMIC;
		if (tried & SHUNT_PUT_BACK && is_tried(tried, SHUNT_WAY_INT3) &&
		    !is_tried(tried, SHUNT_WAY_REMAP))
			return SHUNT_WAY_REMAP;
		break;
	case SHUNT_POKE_AUTO:
		prepare_look();
		if (!(tried & ~SHUNT_PUT_BACK) && shunt_ask_if_alone(why_not))
			return SHUNT_WAY_ALONE;
		if (!is_tried(tried, SHUNT_WAY_REMAP))
			return SHUNT_WAY_REMAP;
		ret = is_tried(tried, SHUNT_WAY_INT3) ? 0 : may_trap();
		if (ret)
			return ret;
		break;
	case SHUNT_POKE_INT3:
		break;
	}
	if (!SHUNT_HAS_TRAPS) /* single stores, by the other writer */
		return is_tried(tried, SHUNT_WAY_ATOMIC) ? -ENOSYS : SHUNT_WAY_ATOMIC;
	return is_tried(tried, SHUNT_WAY_INT3) ? -ENOSYS : SHUNT_WAY_INT3;
}

static void show(struct shown_batch *shown, struct batch batch)
{
	atomic_store_explicit(&shown->way, batch.way, memory_order_relaxed);
	atomic_store_explicit(&shown->why, batch.why, memory_order_relaxed);
}

/* The last batch that went through: of one that failed its message tells. */
static struct batch last_done(void)
{
	bool done = atomic_load_explicit(&shunt_poke_stats.pokes, memory_order_relaxed) !=
		    atomic_load_explicit(&state.pokes, memory_order_relaxed);
	struct shown_batch *last = done ? &state.latest : &state.done;

	return (struct batch){atomic_load_explicit(&last->way, memory_order_relaxed),
			      atomic_load_explicit(&last->why, memory_order_relaxed)};
}

static void remember(struct batch batch)
{
	show(&state.done, last_done());
	atomic_store_explicit(&state.pokes,
			      atomic_load_explicit(&shunt_poke_stats.pokes, memory_order_relaxed),
			      memory_order_relaxed);
	show(&state.latest, batch);
}

int shunt_port_poke_begin(size_t n, bool flips, unsigned tried)
{
	static const char *const names[] = {
		[SHUNT_WAY_INT3] = "int3",     [SHUNT_WAY_REMAP] = "remap",
		[SHUNT_WAY_ATOMIC] = "atomic", [SHUNT_WAY_ALONE] = "alone",
		[SHUNT_WAY_FLIP] = "flip",
	};
	enum shunt_poke_policy policy_chosen;
	const char *why_not;
	int way;

	shunt_alone_begin();
	way = pick(flips, tried, &why_not);
	if (way < 0) {
		shunt_alone_end();
		return way;
	}
	(void)shunt_is_alone(); /* the sooner it is known, the less is asked of the kernel */
	if (!(tried & SHUNT_PUT_BACK)) {
		remember((struct batch){names[way], tried ? shunt_failed_call : why_not});
		shunt_failed_call = NULL; /* not to be blamed for what this way fails in */
	}
	/* Who chooses one of these may do so for the sake of what others write beside the sites. */
	policy_chosen = policy_now();
	shunt_text_begin(n, (enum shunt_way)way,
			 policy_chosen != SHUNT_POKE_INT3 && policy_chosen != SHUNT_POKE_ATOMIC);
	if (forced != SHUNT_ANY_WAY)
		shunt_text_try_out();
	return way;
}

void shunt_port_poke_end(void)
{
	shunt_alone_end();
	shunt_text_end();
}

void shunt_poke_way(struct shunt_ways *ways)
{
	struct batch last = last_done();

	ways->policy = shunt_environment_name(SHUNT_ENV_POKE, (int)policy_now());
	ways->poke = last.way;
	ways->why = last.why;
}
