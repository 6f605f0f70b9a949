/* SPDX-License-Identifier: MIT */
/*
 * Wrappers (ld --wrap) around the serialising instruction, the list of threads, the
 * wait for an answer, and the core sync itself. So each round is checked from outside:
 * when a sync returns 0, every thread that is registered here has executed the
 * instruction since it began. No sanitizer instruments this file: a part of it runs in
 * the signal handler.
 */
#include "sync.h"

#include "linux/sync/sync_handler.h"
#include "linux/sync/sync_signal.h"
#include "linux/sync/sync_slots.h"

void __real_shunt_serialise(void);
bool __real_shunt_wait_word(_Atomic uint32_t *word, uint32_t value, uint32_t ns);
uint64_t __real_shunt_clock(void);
int __real_shunt_tasks_list(struct shunt_tasks *tasks);
enum shunt_task __real_shunt_task_look(int32_t tid, int sig);
bool __real_shunt_task_is_ready(int32_t tid, uint64_t *ticks);
int __real_shunt_sync_slots_of_process(void);
int __real_shunt_port_core_sync(void);
void __wrap_shunt_serialise(void);
bool __wrap_shunt_wait_word(_Atomic uint32_t *word, uint32_t value, uint32_t ns);
uint64_t __wrap_shunt_clock(void);
int __wrap_shunt_tasks_list(struct shunt_tasks *tasks);
enum shunt_task __wrap_shunt_task_look(int32_t tid, int sig);
bool __wrap_shunt_task_is_ready(int32_t tid, uint64_t *ticks);
int __wrap_shunt_sync_slots_of_process(void);
int __wrap_shunt_port_core_sync(void);

struct hooked hooked[HOOKED];
struct hook_counts hook_counts;
_Atomic bool hook_skips_a_thread, hook_does_not_wait, hook_keeps_slots, hook_starves;
_Atomic unsigned hook_clock_rate = 1;
void (*_Atomic hook_list)(struct shunt_tasks *tasks);
void (*_Atomic hook_wait)(void);
enum shunt_task (*_Atomic hook_look)(int32_t tid, enum shunt_task task);

static _Atomic uint32_t round_now;
static __thread unsigned self; /* index + 1 */

void hook_thread(unsigned index)
{
	self = index + 1;
	atomic_store(&hooked[index].last, 0);
	atomic_store(&hooked[index].present, true);
}

void unhook_thread(unsigned index)
{
	atomic_store(&hooked[index].present, false);
	self = 0;
}

void __wrap_shunt_serialise(void)
{
	uint32_t round = atomic_load(&round_now);

	__real_shunt_serialise();
	if (!self)
		return;
	atomic_fetch_add(&hooked[self - 1].times, 1);
	atomic_store(&hooked[self - 1].last, round);
}

bool __wrap_shunt_wait_word(_Atomic uint32_t *word, uint32_t value, uint32_t ns)
{
	void (*hook)(void) = atomic_load(&hook_wait);

	if (hook)
		hook();
	return atomic_load(&hook_does_not_wait) || __real_shunt_wait_word(word, value, ns);
}

uint64_t __wrap_shunt_clock(void)
{
	return __real_shunt_clock() * atomic_load(&hook_clock_rate);
}

int __wrap_shunt_tasks_list(struct shunt_tasks *tasks)
{
	void (*hook)(struct shunt_tasks *) = atomic_load(&hook_list);
	int ret = __real_shunt_tasks_list(tasks);

	atomic_fetch_add(&hook_counts.lists, 1);
	atomic_fetch_add(&hook_counts.incomplete, !ret && !tasks->complete);
	if (!ret && hook)
		hook(tasks);
	if (!ret && atomic_load(&hook_skips_a_thread) && tasks->n > 1)
		tasks->n--; /* the youngest */
	return ret;
}

enum shunt_task __wrap_shunt_task_look(int32_t tid, int sig)
{
	enum shunt_task (*hook)(int32_t, enum shunt_task) = atomic_load(&hook_look);
	enum shunt_task task = __real_shunt_task_look(tid, sig);

	return hook ? hook(tid, task) : task;
}

bool __wrap_shunt_task_is_ready(int32_t tid, uint64_t *ticks)
{
	if (!atomic_load(&hook_starves))
		return __real_shunt_task_is_ready(tid, ticks);
	*ticks = 0;
	return true;
}

int __wrap_shunt_sync_slots_of_process(void)
{
	return atomic_load(&hook_keeps_slots) ? 0 : __real_shunt_sync_slots_of_process();
}

int __wrap_shunt_port_core_sync(void)
{
	bool present[HOOKED];
	uint32_t round;
	int ret;

	/* Only those who were here before, and still are afterwards. */
	for (size_t i = 0; i < HOOKED; i++)
		present[i] = atomic_load(&hooked[i].present);
	round = atomic_fetch_add(&round_now, 1) + 1;
	ret = __real_shunt_port_core_sync();
	atomic_fetch_add(ret ? &hook_counts.failed : &hook_counts.rounds, 1);
	for (size_t i = 0; !ret && i < HOOKED; i++)
		if (present[i] && atomic_load(&hooked[i].last) != round &&
		    atomic_load(&hooked[i].present))
			atomic_fetch_add(&hook_counts.missing, 1);
	return ret;
}
