/* SPDX-License-Identifier: MIT */
/*
 * The last step of a remap, mremap(), as it is seen by others: a copy of the process
 * that another thread makes right behind it, by a raw clone(); and the kernel, which reads
 * the thread's struct rseq at any time.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>

#include "linux/text/restart.h"

#include "../api/tap.h"

static int one(int x)
{
	return x + 1;
}

static int two(int x)
{
	return x + 2;
}

DEFINE_STATIC_CALL(remapped, one);

KEEP static int site(int x)
{
	return static_call(remapped)(x) - x;
}

static int turn(void)
{
	return static_call_update(remapped, static_call_query(remapped) == one ? two : one);
}

long __real_shunt_remap_move(void *copy, size_t len, uintptr_t start, const uint64_t *begun);
long __wrap_shunt_remap_move(void *copy, size_t len, uintptr_t start, const uint64_t *begun);

static void (*in_move)(void *copy, size_t len);
static long move_result; /* instead of the kernel's */
static uint64_t begun_as;

long __wrap_shunt_remap_move(void *copy, size_t len, uintptr_t start, const uint64_t *begun)
{
	void (*then)(void *, size_t) = in_move;
	long ret;

	begun_as = __atomic_load_n(begun, __ATOMIC_RELAXED);
	ret = __real_shunt_remap_move(copy, len, start, begun);
	if (ret != (long)start || !then)
		return ret;
	in_move = NULL; /* in the copy too */
	then(copy, len);
	return move_result ? move_result : ret;
}

/* ------------------------------------------------------------------ the sequence */

extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));

static void no_sequence_is_left(void)
{
	const uint64_t *cs;
	char *thread;

	if (!&__rseq_size || !&__rseq_offset || !__rseq_size) {
		skip("the sequence", "the C library has registered none");
		return;
	}
	thread = __builtin_thread_pointer();
	cs = (const uint64_t *)(thread + __rseq_offset + 8);
	for (int i = 0; i < 50; i++) {
		int ret = turn();

		if (ret || *cs || begun_as != (uintptr_t)shunt_remap_sequence) {
			ok(false, "update %d: sequence %lx, left %lx", ret, begun_as, *cs);
			return;
		}
	}
	ok(true, "50 updates: no restartable sequence is left named");
	ok(begun_as, "control: within an update one is");
}

/* ------------------------------------------------------------------ a raw clone */

static struct {
	char *copy;
	size_t len;
	_Atomic int asked, status;
	_Atomic bool ready, over;
} cloner;

/* Something else at the address that the copy has been moved from. */
static char *fill(char *at, size_t len)
{
	char *p = mmap(at, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	*p = 1;
	return p;
}

static bool is_mapped(char *p, size_t len)
{
	unsigned char in_core[64];

	return p && len / 4096 <= sizeof(in_core) && !mincore(p, len, in_core);
}

/* In the copy of the process, which takes the parent's update back and makes one of its own. */
static int in_copy(void)
{
	char *p = fill(cloner.copy, cloner.len);

	if (!p)
		return 1;
	if (turn() || site(1) != 2)
		return 2;
	return is_mapped(p, cloner.len) ? 0 : 3;
}

static void *clone_when_asked(void *arg)
{
	/* A thread that starts maps memory, and may take the address that is free for a moment. */
	atomic_store(&cloner.ready, true);
	while (!atomic_load(&cloner.over)) {
		int status = -1;
		long pid;

		if (!atomic_exchange(&cloner.asked, 0)) {
			(void)sched_yield();
			continue;
		}
		pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
		if (!pid)
			_exit(in_copy());
		if (pid > 0)
			(void)waitpid((pid_t)pid, &status, 0);
		atomic_store(&cloner.status, status);
	}
	return arg;
}

static void have_it_cloned(void *copy, size_t len)
{
	cloner.copy = copy;
	cloner.len = len;
	atomic_store(&cloner.status, -2);
	atomic_store(&cloner.asked, 1);
	while (atomic_load(&cloner.status) == -2)
		(void)sched_yield();
}

/* (Unused with the thread sanitizer.) */
__attribute__((unused)) static void a_clone_drops_nothing(void)
{
	int good = 0;

	for (int i = 0; i < 20; i++) {
		int was = site(1), ret;

		if (was == 1) /* the copy goes back to "one", and then to "two" */
			in_move = have_it_cloned;
		ret = turn();
		good += was != 1 || (!ret && !atomic_load(&cloner.status));
		if (was == 1 && (ret || atomic_load(&cloner.status)))
			diag("update %d: %d, the copy's status %x; %s", i, ret,
			     atomic_load(&cloner.status), ret ? shunt_last_error() : "");
	}
	ok(good == 20, "20 updates, half of them copied by clone() behind mremap(): %d, status %x",
	   good, atomic_load(&cloner.status));
}

static char *filled;

static void fill_it(void *copy, size_t len)
{
	filled = fill(copy, len);
	cloner.len = len;
}

/* mremap() is said to have failed when it has not: then the copy still is the run's. */
static void what_is_dropped_is_seen(void)
{
	in_move = fill_it;
	move_result = -ENOMEM;
	ok(turn() != 0, "control: the copy stays the run's");
	move_result = 0;
	ok(filled && !is_mapped(filled, cloner.len),
	   "control: and what is mapped there by then is unmapped");
}

int main(void)
{
	pthread_t thread;

	shunt_set_log(NULL, NULL);
	if (shunt_set_poke(SHUNT_POKE_REMAP) ||
	    pthread_create(&thread, NULL, clone_when_asked, NULL))
		return 2;
	while (!atomic_load(&cloner.ready))
		(void)sched_yield();
	no_sequence_is_left();
#ifdef SUITE_TSAN
	skip("a raw clone", "the copy hangs in ThreadSanitizer's runtime");
#else
	a_clone_drops_nothing();
#endif
	what_is_dropped_is_seen();
	atomic_store(&cloner.over, true);
	(void)pthread_join(thread, NULL);
	return tap_done();
}
