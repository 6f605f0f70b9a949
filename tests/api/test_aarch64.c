/* SPDX-License-Identifier: MIT */
/*
 * What is aarch64's own: targets beyond 128 MiB in both directions; what text_poke takes and
 * refuses; each way of the self-test; and CPUs that go through sites while these change, none of
 * which may reach neither the old nor the new, nor the old one behind the end of an update. TAP.
 *
 * Control (-DCONTROL): no word of text is written, which must be seen.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <shunt/inspect.h>
#include <shunt/port.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>
#include <shunt/text_poke.h>

#include "tap.h"

#define NOP      0xd503201fu
#define RET      0xd65f03c0u
#define B_BY_2   0x14000002u
#define MOV_W0_1 0x52800020u
#define MOV_W0_2 0x52800040u

#ifdef CONTROL
int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n)
{
	(void)writes;
	(void)n;
	return 0;
}
#endif

KEEP static int one(int x)
{
	return x + 1;
}

KEEP static int two(int x)
{
	return x + 2;
}

DEFINE_STATIC_CALL(hot, one);
DEFINE_STATIC_KEY_FALSE(flag);

KEEP static int call_site(int x)
{
	return static_call(hot)(x) * 1;
}

KEEP static int tail_site(int x)
{
	return static_call(hot)(x);
}

KEEP static int branch_site(void)
{
	return static_branch_unlikely(&flag) ? 2 : 1;
}

/* ----------------------------------------------------------------- far targets */

/* A function at @at that adds @n; NULL: something else is there. */
static int (*function_at(uintptr_t at, unsigned n))(int)
{
	const uint32_t code[] = {0xd503245fu /* bti c */, 0x11000000u | n << 10, RET};
	void *p = mmap((void *)at, 4096, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	memcpy(p, code, sizeof(code));
	__builtin___clear_cache(p, (char *)p + sizeof(code));
	return mprotect(p, 4096, PROT_READ | PROT_EXEC) ? NULL : (int (*)(int))p;
}

static void test_far(void)
{
	const uintptr_t beside = (uintptr_t)call_site & -(uintptr_t)0x100000;
	const struct {
		uintptr_t at;
		const char *where;
	} targets[] = {
		{beside + 0x10000000, "256 MiB above"},
		{beside - 0x10000000, "256 MiB below"},
		{0x100000000ul, "at 4 GiB"},
		{0xfff000000000ul, "at 256 TiB"},
	};

	for (unsigned i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		int (*f)(int) = function_at(targets[i].at, 10 + i);

		if (!f) {
			skip(targets[i].where, "something is there");
			continue;
		}
		ok(!static_call_update(hot, f) && call_site(1) == 11 + (int)i &&
			   tail_site(1) == 11 + (int)i,
		   "a target %s is reached", targets[i].where);
	}
	ok(!static_call_update(hot, one) && call_site(1) == 2 && tail_site(1) == 2,
	   "and a near one");
}

/* ------------------------------------------------------------------- text_poke */

static void test_text_poke(void)
{
	const uint32_t code[] = {MOV_W0_1, NOP, RET, MOV_W0_2, RET}, b = B_BY_2, nop = NOP,
		       ret = RET;
	uint32_t *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int (*f)(void);

	memcpy(p, code, sizeof(code));
	__builtin___clear_cache((char *)p, (char *)p + sizeof(code));
	ok(!mprotect(p, 4096, PROT_READ | PROT_EXEC), "text of our own");
	memcpy(&f, &p, sizeof(f));
	ok(!text_poke_bp(p + 1, &b, 4) && f() == 2, "nop to b");
	ok(!text_poke_bp(p + 1, &nop, 4) && f() == 1, "b to nop");
	ok(text_poke_bp(p + 1, &ret, 4) == -EINVAL && f() == 1, "to ret: refused");
	ok(text_poke_bp(p + 2, &nop, 4) == -EINVAL && f() == 1, "over ret: refused");
	ok(text_poke_bp((char *)p + 2, &nop, 4) == -EINVAL, "across two instructions: refused");
	ok(text_poke_bp(p + 1, "\x1f\x20\x03\xd5\x1f", 5) == -EINVAL, "five bytes: refused");
	ok(text_poke_bp(p + 1, &nop, 2) == -EINVAL, "two bytes: refused");
	ok(f() == 1, "nothing has changed");
}

/* ------------------------------------------------------------- CPUs at the sites */

#define THREADS 3
#define UPDATES 150

static _Atomic int begun, ended; /* numbers of updates */
static _Atomic bool stop;
static _Atomic long torn, stale, seen;

/* What a site says when update @n is the last: 1 or 2. */
static int value_of(int n)
{
	return 1 + n % 2;
}

static void look(int (*run)(int), int base)
{
	int last = atomic_load(&ended), value = run(0) - base;
	bool is_quiet = atomic_load(&begun) == last;

	if (value != 1 && value != 2)
		atomic_fetch_add(&torn, 1);
	else if (is_quiet && value != value_of(last))
		atomic_fetch_add(&stale, 1);
	atomic_fetch_add_explicit(&seen, is_quiet, memory_order_relaxed);
}

static int branch_value(int x)
{
	return x + branch_site();
}

static void *hammer(void *arg)
{
	(void)arg;
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		look(call_site, 0);
		look(tail_site, 0);
		look(branch_value, 0);
	}
	return NULL;
}

static int update(int n)
{
	struct static_call_batch batch = STATIC_CALL_BATCH_INIT;
	int ret = static_call_batch_add(&batch, hot, n % 2 ? two : one);

	if (!ret && n % 2)
		ret = static_branch_batch_enable(&batch, &flag);
	else if (!ret)
		ret = static_branch_batch_disable(&batch, &flag);
	if (!ret)
		ret = static_call_batch_commit(&batch);
	static_call_batch_destroy(&batch);
	return ret;
}

static void test_hammer(void)
{
	pthread_t threads[THREADS];
	int failed = 0;

	for (int i = 0; i < THREADS; i++)
		(void)pthread_create(&threads[i], NULL, hammer, NULL);
	for (int n = 1; n <= UPDATES; n++) {
		long before = atomic_load(&seen);

		atomic_store(&begun, n);
		failed += update(n) != 0;
		atomic_store(&ended, n);
		while (atomic_load(&seen) - before < THREADS * 3L)
			(void)sched_yield();
	}
	atomic_store(&stop, true);
	for (int i = 0; i < THREADS; i++)
		(void)pthread_join(threads[i], NULL);
	ok(!failed, "%d updates of calls and a branch at once", UPDATES);
	ok(!atomic_load(&torn), "none of %ld was neither old nor new", atomic_load(&seen));
	ok(!atomic_load(&stale), "none was old behind an update: %ld", atomic_load(&stale));
}

int main(void)
{
	struct shunt_ways ways;

	ok(!shunt_selftest(), "each way works: %s", shunt_last_error());
	test_far();
	test_text_poke();
	test_hammer();
	shunt_get_ways(&ways);
	diag("ways: write %s, sync %s, poke %s", ways.write, ways.sync, ways.poke);
	return tap_done();
}
