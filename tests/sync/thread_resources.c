/* SPDX-License-Identifier: MIT */
/*
 * What the sync by signals costs threads: one that has an alternate stack gets the signal there,
 * however little of its own is left; one that waits for the update lock gets it too; and one that
 * is gone leaves nothing behind.
 *
 * Controls: a thread without an alternate stack dies; and all threads are there at a time.
 */
#include <sched.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../common/allocations.h"
#include "../common/child.h"
#include "linux/sync/sync_slots.h"
#include "sync.h"

#include "linux/sync/sync_signal.h"

#define PAGE      4096ul
#define LEFT      256 /* bytes of the stack */
#define ALTERNATE 65536ul

static _Atomic bool there, over;
static bool has_alternate;

/* Waits on what is left of a stack. */
static void wait_low(void)
{
	char *p = mmap(NULL, 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || mprotect(p + PAGE, PAGE, PROT_READ | PROT_WRITE))
		abort();
	there = true;
	__asm__ volatile("mov %%rsp, %%rbx\n\t"
			 "mov %[low], %%rsp\n"
			 "1:\n\t"
			 "pause\n\t"
			 "cmpb $0, %[over]\n\t"
			 "je 1b\n\t"
			 "mov %%rbx, %%rsp"
			 :
			 : [low] "r"(p + PAGE + LEFT), [over] "m"(over)
			 : "rbx", "memory", "cc");
	(void)munmap(p, 2 * PAGE);
}

static void *run_low(void *arg)
{
	stack_t stack = {.ss_size = ALTERNATE, .ss_sp = malloc(ALTERNATE)};

	if (has_alternate && sigaltstack(&stack, NULL))
		abort();
	wait_low();
	stack.ss_flags = SS_DISABLE;
	(void)sigaltstack(&stack, NULL);
	free(stack.ss_sp);
	return arg;
}

static int update_beside_low(void)
{
	pthread_t thread;
	int ret = 0;

	there = over = false;
	if (pthread_create(&thread, NULL, run_low, NULL))
		return 1;
	while (!there)
		(void)sched_yield();
	for (int i = 0; i < 50 && !ret; i++)
		ret = update_to(1) || update_to(0);
	over = true;
	(void)pthread_join(thread, NULL);
	return ret;
}

/* ---------------------------------------------------------- one that waits itself */

static pthread_t waiter;
static _Atomic long waiter_tid;
static _Atomic int waiter_ret;

static void *update_too(void *arg)
{
	sigset_t none;

	(void)sigemptyset(&none);
	(void)pthread_sigmask(SIG_SETMASK, &none, NULL);
	waiter_tid = raw_tid();
	waiter_ret = update_to(2);
	return arg;
}

/* In the first round of an update: the next ones have it among their threads. */
static void start_waiter(struct shunt_tasks *tasks)
{
	(void)tasks;
	hook_list = NULL;
	if (pthread_create(&waiter, NULL, update_too, NULL))
		abort();
	while (!waiter_tid)
		(void)sched_yield();
	wait_until_asleep(waiter_tid);
}

static void test_waiter(void)
{
	int ret;

	hook_list = start_waiter;
	ret = update_to(1);
	if (hook_list)
		abort();
	(void)pthread_join(waiter, NULL);
	ok(!ret && !waiter_ret && call_it(1) == 12,
	   "a thread that waits for the update lock answers: %d, %d", ret, waiter_ret);
}

/* ------------------------------------------------------------------------ memory */

static sem_t ends; /* of threads that wait; they do not look now and then: 600 would fill a CPU */

static void *wait_for_end(void *arg)
{
	there = true;
	while (sem_wait(&ends))
		;
	return arg;
}

static bool start(pthread_t *thread)
{
	there = false;
	if (pthread_create(thread, NULL, wait_for_end, NULL))
		return false;
	while (!there)
		(void)sched_yield();
	return true;
}

/* More than there are slots in a chunk: one that is not used again shows. */
#define MANY (SHUNT_SLOTS + 100)

/* @together: all of them are there at a time. */
static unsigned memory_of_many(bool together)
{
	pthread_t threads[MANY];
	unsigned before, n = 0, bad = 0;

	(void)update_to(1);
	before = allocations;
	for (; n < MANY && start(&threads[n]); n++) {
		if (together)
			continue;
		bad += update_to(n % 2) != 0;
		(void)sem_post(&ends);
		(void)pthread_join(threads[n], NULL);
	}
	if (together) {
		bad += update_to(0) != 0;
		for (unsigned i = 0; i < n; i++)
			(void)sem_post(&ends);
		for (unsigned i = 0; i < n; i++)
			(void)pthread_join(threads[i], NULL);
	}
	return bad ? UINT32_MAX : allocations - before;
}

int test_thread_resources(void)
{
	unsigned one_by_one, together;
	int status;

	if (sem_init(&ends, 0, 0))
		abort();
	has_alternate = true;
	status = in_child(update_beside_low);
	ok(!status, "a thread with little stack and an alternate one: %d", status);
	has_alternate = false;
	status = in_child(update_beside_low);
	ok(status == 1000 + SIGSEGV, "control: without an alternate one it dies: %d", status);
	test_waiter();
	one_by_one = memory_of_many(false);
	ok(one_by_one == 0, "%d threads one after the other: %u allocations", MANY, one_by_one);
	together = memory_of_many(true);
	ok(together > 0 && together < 20, "control: at a time: %u allocations", together);
	return tap_done();
}
