/* SPDX-License-Identifier: MIT */
/*
 * Batches: two static calls and a static branch that change together, under a thread
 * that looks at all three without a pause. Each is old or new; behind the commit all are
 * new; one set of core syncs does for all of them. Each write and each sync is made to
 * fail in turn: then no key has changed and the text is as it was. errno is left alone.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "../api/tap.h"
#include "hooks.h"

static int one_old(int x)
{
	return x + 100;
}

static int one_new(int x)
{
	return x + 200;
}

static void two_new(int *x)
{
	*x += 1;
}

DEFINE_STATIC_CALL(one, one_old);
DEFINE_STATIC_CALL_NULL(two, two_new);
DEFINE_STATIC_KEY_TRUE(three);

/* Bits: what each key says now. More than one site of each. */
KEEP static int look_one(int x)
{
	return static_call(one)(x) - x - 100;
}

KEEP static int tail_one(int x)
{
	return static_call(one)(x);
}

KEEP static int look_two(void)
{
	int x = 0;

	static_call_cond(two)(&x);
	static_call_cond(two)(&x);
	return x;
}

KEEP static bool look_three(void)
{
	if (static_branch_likely(&three))
		return true;
	__asm__ volatile("nop");
	return false;
}

KEEP static bool look_three_again(void)
{
	return static_branch_unlikely(&three);
}

/* What the keys are: bit 0: one is new, bit 1: two is, bit 2: three is off; -1: neither. */
static int look(bool *mixed)
{
	int a = look_one(3), b = tail_one(5) - 105, c = look_two();
	int d = look_three(), e = look_three_again();

	if ((a != 0 && a != 100) || (b != 0 && b != 100) || c < 0 || c > 2)
		return -1;
	*mixed = a != b || c == 1 || d != e;
	return (a == 100) | (c > 0) << 1 | !d << 2;
}

static struct {
	_Atomic bool stop;
	_Atomic uint64_t begun, ended; /* attempts, those that fail too: they only grow */
	_Atomic bool new;              /* what all keys are where none is going on */
	_Atomic uint64_t wrong, settled, between, looks;
} run;

static void *watch(void *arg)
{
	(void)arg;
	while (!run.stop) {
		uint64_t ended = run.ended;
		bool new = run.new, mixed = false;
		int seen = look(&mixed);

		if (seen < 0)
			run.wrong++;
		if (run.begun == ended) {
			run.settled++;
			run.wrong += mixed || seen != (new ? 7 : 0);
		} else if (seen != 0 && seen != 7) {
			run.between++;
		}
		run.looks++;
		hooks.passed[0]++;
	}
	return NULL;
}

static int fill(struct static_call_batch *batch, bool new)
{
	int ret = new ? static_call_batch_add(batch, one, one_new)
		      : static_call_batch_add(batch, one, one_old);

	if (!ret)
		ret = new ? static_call_batch_add(batch, two, two_new)
			  : static_call_batch_add(batch, two, NULL);
	if (!ret)
		ret = new ? static_branch_batch_disable(batch, &three)
			  : static_branch_batch_enable(batch, &three);
	return ret;
}

static struct static_call_batch forth = STATIC_CALL_BATCH_INIT, back = STATIC_CALL_BATCH_INIT;

static int commit(void)
{
	int ret;

	hooks.step = 0;
	run.begun++;
	ret = static_call_batch_commit(run.new ? &back : &forth);
	if (!ret)
		run.new = !run.new;
	run.ended++;
	return ret;
}

/* ------------------------------------------------------------------ the text */

struct text {
	size_t n;
	struct {
		const uint8_t *addr;
		size_t len;
		uint8_t bytes[6];
	} site[32];
};

static int add_site(const struct shunt_site_info *info, void *arg)
{
	struct text *text = arg;

	text->site[text->n].addr = info->addr;
	text->site[text->n].len = info->len;
	memcpy(text->site[text->n++].bytes, info->addr, info->len);
	return text->n == 32;
}

static struct text read_text(void)
{
	struct text text = {0};

	if (shunt_for_each_site(NULL, add_site, &text))
		abort();
	return text;
}

static size_t changed(const struct text *text)
{
	size_t n = 0;

	for (size_t i = 0; i < text->n; i++)
		n += memcmp(text->site[i].addr, text->site[i].bytes, text->site[i].len) != 0;
	return n;
}

/* ----------------------------------------------------------------------- tests */

#define COMMITS 1600 /* three of four are held at a step until the other thread came by */

static bool wait_looks(void *arg)
{
	return run.looks > *(uint64_t *)arg + 2;
}

static void test_commits(void)
{
	struct shunt_stats before, after;
	unsigned errors = 0, more = 0;

	for (unsigned i = 0; i < COMMITS; i++) {
		uint64_t looks, syncs = hooks.syncs;

		hooks.hold_at = i % 8; /* 0 and 7: none */
		errors += commit() != 0;
		more += hooks.syncs - syncs > 3;
		looks = run.looks;
		if (i % 2)
			(void)hooks_wait(wait_looks, &looks);
	}
	hooks.hold_at = 0;
	ok(!errors && !run.wrong && run.settled > COMMITS / 4,
	   "%d commits, %" PRIu64 " looks: old or new key by key, and %" PRIu64
	   " behind a commit all the same",
	   COMMITS, (uint64_t)run.looks, (uint64_t)run.settled);
	ok(hooks.held > COMMITS / 8 && hooks.traps[SHUNT_TRAP_EMULATED] > COMMITS / 8,
	   "%" PRIu64 " waits for a thread within a commit (%" PRIu64 " given up), %" PRIu64
	   " traps, %" PRIu64 " times some of the keys were seen new and some old",
	   (uint64_t)hooks.held, (uint64_t)hooks.missed, (uint64_t)hooks.traps[SHUNT_TRAP_EMULATED],
	   (uint64_t)run.between);
	shunt_get_stats(&before);
	errors = commit() != 0;
	shunt_get_stats(&after);
	ok(!errors && !more && after.syncs - before.syncs == 3 &&
		   after.updates - before.updates == 1,
	   "one set of syncs for %zu sites: %" PRIu64, read_text().n, after.syncs - before.syncs);
}

/* The @nth write, or sync, of a commit fails. False where there is none any more. */
static bool fail_at(unsigned nth, bool sync, unsigned *wrong)
{
	struct text text = read_text();
	void *target = static_call_query(one), *target2 = static_call_query(two);
	int on = static_key_count(&three), ret;
	uint64_t looks;

	hooks.seen_writes = hooks.seen_syncs = 0;
	hooks.fail_write = sync ? 0 : nth;
	hooks.fail_sync = sync ? nth : 0;
	ret = commit();
	hooks.fail_write = hooks.fail_sync = 0;
	if (!ret)
		return false;
	*wrong += ret != -EIO || changed(&text) || static_call_query(one) != target ||
		  static_call_query(two) != target2 || static_key_count(&three) != on;
	looks = run.looks;
	(void)hooks_wait(wait_looks, &looks); /* which must see the old, or are counted wrong */
	return true;
}

static void test_failures(void)
{
	struct text text = read_text();

	for (unsigned sync = 0; sync < 2; sync++) {
		unsigned wrong = 0, errors = 0, n = 0;

		for (unsigned direction = 0; direction < 2; direction++)
			for (unsigned nth = 1; nth < 100 && fail_at(nth, sync, &wrong); nth++)
				n++;
		/* Where it did not fail, it went there. */
		/* The flips of the static key are a set of their own. */
		ok(n == (sync ? 6 : 8) && !wrong && !errors && !run.wrong,
		   "each of %u %s of a commit fails in turn: nothing has changed", n,
		   sync ? "syncs" : "sets of writes");
	}
	ok(!changed(&text), "at the end the text is what it was");
	/* Negative control: the comparison sees a commit. */
	ok(!commit() && changed(&text) == text.n, "a commit changes all %zu sites", text.n);
	ok(!commit() && !changed(&text), "and the next one changes them back");
}

static void test_refused(void)
{
	struct static_call_batch batch = STATIC_CALL_BATCH_INIT;
	struct text text = read_text();
	int ret = fill(&batch, true);

	/* Somebody else counts on the branch: the batch that is to switch it off fails whole. */
	if (!static_key_count(&three))
		(void)!commit();
	text = read_text();
	ret = ret ? ret : static_branch_inc(&three);
	ok(!ret && static_call_batch_commit(&batch) == -EBUSY && !changed(&text) &&
		   static_call_query(one) == (void *)one_old && static_key_count(&three) == 2,
	   "one key refuses: -EBUSY, none has changed");
	ok(!static_branch_dec(&three), "dec");
	ret = static_call_batch_add(&batch, one, one_old);
	ok(!ret && static_call_batch_commit(&batch) == -EINVAL && !changed(&text),
	   "a key twice: -EINVAL");
	static_call_batch_destroy(&batch);
	ok(static_call_batch_commit(&batch) == 0 && !changed(&text), "an empty batch");
	ok(static_call_batch_add(&batch, one, NULL) == -EINVAL, "NULL is refused early");
	static_call_batch_destroy(&batch);
	static_call_batch_destroy(NULL);
}

/* ------------------------------------------------------------------------- errno */

static void allow_memory(bool allow)
{
	static struct rlimit before;
	struct rlimit none;

	if (!before.rlim_max && getrlimit(RLIMIT_AS, &before))
		abort();
	none = (struct rlimit){1, before.rlim_max};
	if (setrlimit(RLIMIT_AS, allow ? &before : &none))
		abort();
}

/* Until it needs more room than it has: errno, or -1 where a call said otherwise than @wanted. */
static int errno_of_adds(struct static_call_batch *batch, int wanted)
{
	int ret = 0;

	errno = EXDEV;
	while (!ret && batch->n < 1000)
		ret = static_call_batch_add(batch, one, one_new);
	return ret == wanted ? errno : -1;
}

static void test_errno(void)
{
	struct static_call_batch batch = STATIC_CALL_BATCH_INIT;
	void *page;
	size_t n;

	ok(!static_call_batch_add(&batch, one, one_old), "a batch with room");
	allow_memory(false);
	page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ok(page == MAP_FAILED && errno == ENOMEM, "control: without memory mmap() changes errno");
	ok(errno_of_adds(&batch, -ENOMEM) == EXDEV, "adding without memory does not: %d", errno);
	allow_memory(true);
	n = batch.n;
	ok(n == batch.max && batch.changes, "the batch is as it was, %zu", n);
	ok(errno_of_adds(&batch, 0) == EXDEV && batch.n == 1000, "nor with memory: %d", errno);
	ok(static_call_batch_add(NULL, one, one_old) == -EINVAL &&
		   static_call_batch_add(&batch, one, NULL) == -EINVAL && errno == EXDEV,
	   "nor what is refused: %d", errno);
	static_call_batch_destroy(&batch);
	static_call_batch_destroy(&batch);
	static_call_batch_destroy(NULL);
	ok(errno == EXDEV && !batch.n && !batch.max, "nor does destroying: %d", errno);
}

int main(void)
{
	pthread_t thread;
	bool mixed;

	shunt_set_log(NULL, NULL);
	ok(look(&mixed) == 0 && !mixed, "from a known state");
	ok(!fill(&forth, true) && !fill(&back, false), "two batches");
	if (pthread_create(&thread, NULL, watch, NULL))
		return 1;
	test_commits();
	test_failures();
	run.stop = true;
	(void)pthread_join(thread, NULL);
	test_refused();
	test_errno();
	static_call_batch_destroy(&forth);
	static_call_batch_destroy(&back);
	return tap_done();
}
