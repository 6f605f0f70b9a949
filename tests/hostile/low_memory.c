/* SPDX-License-Identifier: MIT */
/*
 * Programs that are low on memory: each allocation of the library fails in turn; mmap() and
 * mremap() say ENOMEM; the address space is at its limit, or the number of mappings is.
 * An update works, or says so and has changed nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <shunt/inspect.h>
#include <shunt/port.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>
#include <shunt/text_poke.h>

#include "forbid.h"
#include "hostile.h"
#include "site_threads.h"

/* ------------------------------------------------------------- each allocation */

void *__real_shunt_port_alloc(size_t size);
void *__wrap_shunt_port_alloc(size_t size);

static unsigned fail_at, seen; /* fail_at 0: never */

void *__wrap_shunt_port_alloc(size_t size)
{
	return fail_at && ++seen == fail_at ? NULL : __real_shunt_port_alloc(size);
}

#define KEYS  300 /* (a literal below) more than a batch begins with */
#define POKES 100 /* of sites that are not known: records, a table, an array */

static KEEP long memory_old(long x)
{
	return x + 10;
}

static KEEP long memory_new(long x)
{
	return x + 20;
}

DEFINE_STATIC_CALL(memory_call, memory_old);

static KEEP long call_memory(long x)
{
	return static_call(memory_call)(x) - 1;
}

DEFINE_STATIC_KEY_ARRAY_FALSE(memory_keys, 300);

/* For pokes to be more than have room without an allocation. */
static KEEP int branch_memory(void)
{
	int n = 0;

#define BRANCHES(i)                                         \
	n += static_branch_unlikely(&memory_keys[i]);       \
	n += static_branch_unlikely(&memory_keys[(i) + 1]); \
	n += static_branch_unlikely(&memory_keys[(i) + 2]); \
	n += static_branch_unlikely(&memory_keys[(i) + 3]); \
	n += static_branch_unlikely(&memory_keys[(i) + 4])
	BRANCHES(0);
	BRANCHES(5);
	BRANCHES(10);
	BRANCHES(15);
#undef BRANCHES
	return n;
}

/* The call, but by flip, and keys enough for the batch to grow. */
static int update_batch(const struct row *r, bool to_new)
{
	struct static_call_batch batch = {0};
	int ret = 0;

	if (r->way != FLIP)
		ret = to_new ? static_call_batch_add(&batch, memory_call, memory_new)
			     : static_call_batch_add(&batch, memory_call, memory_old);
	for (int i = 0; i < KEYS && !ret; i++)
		ret = to_new ? static_branch_batch_enable(&batch, &memory_keys[i])
			     : static_branch_batch_disable(&batch, &memory_keys[i]);
	if (!ret)
		ret = static_call_batch_commit(&batch);
	static_call_batch_destroy(&batch);
	return ret;
}

static bool are(bool on)
{
	for (int i = 0; i < KEYS; i++)
		if (static_key_count(&memory_keys[i]) != on)
			return false;
	return true;
}

#ifdef __aarch64__
#define JUMP_LEN 4
static const unsigned char jump[8] = {1, 0, 0, 0x14};
static const unsigned char nops[2][8] = {{0x1f, 0x20, 0x03, 0xd5, 0x1f, 0x20, 0x03, 0xd5},
					 {0x1f, 0x20, 0x03, 0xd5, 0x1f, 0x20, 0x03, 0xd5}};
#else
#define JUMP_LEN 5
static const unsigned char jump[8] = {0xe9};
static const unsigned char nops[2][8] = {{0x0f, 0x1f, 0x44, 0, 0, 0x90, 0x90, 0x90},
					 {0xa9, 0, 0, 0, 0, 0x90, 0x90, 0x90}};
#endif

/* The nops of a JIT; by flip the off form of a jump. */
static unsigned char *new_code(const struct row *r)
{
	unsigned char *p =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		abort();
	for (size_t i = 0; i < POKES; i++)
		memcpy(p + 8 * i, nops[r->way == FLIP], 8);
	if (mprotect(p, 4096, PROT_READ | PROT_EXEC))
		abort();
	return p;
}

static int poke_code(unsigned char *code)
{
	struct text_poke pokes[POKES];

	for (size_t i = 0; i < POKES; i++)
		pokes[i] = (struct text_poke){.addr = code + 8 * i, .insn = jump, .len = JUMP_LEN};
	return text_poke_bp_batch(pokes, POKES);
}

static bool is_poked(const unsigned char *code, bool all)
{
	for (size_t i = 0; i < POKES; i++)
		if (!memcmp(code + 8 * i, jump, JUMP_LEN) != all)
			return false;
	return true;
}

/* A batch of keys, with the allocation at @at failing: whether one did. */
static bool fail_batch(struct row *r, unsigned at)
{
	static bool is_new;
	int ret;

	fail_at = at;
	seen = 0;
	ret = update_batch(r, !is_new);
	fail_at = 0;
	is_new ^= !ret || r->is_control;
	MUST(r, !ret || (seen >= at && ret == -ENOMEM)); /* one is not needed */
	MUST(r, call_memory(1) == (is_new && r->way != FLIP ? 20 : 10) && are(is_new));
	MUST(r, branch_memory() == (is_new ? 20 : 0));
	return seen >= at;
}

static bool fail_pokes(struct row *r, unsigned at)
{
	unsigned char *code = new_code(r);
	int ret, without = r->way == REMAP ? -EOPNOTSUPP : 0; /* text of no file */

	fail_at = at;
	seen = 0;
	ret = poke_code(code);
	fail_at = 0;
	/* What auto looks at the threads with is not needed. */
	MUST(r, ret == without ? seen < at || r->way == AUTO : seen >= at && ret == -ENOMEM);
	MUST(r, is_poked(code, !ret));
	text_poke_forget(code, 4096); /* and it is not mapped again: other addresses each time */
	return seen >= at;
}

/* Control: an error that is not looked at. */
static void row_allocations(struct row *r)
{
	static struct site_threads others;

	site_threads_start(&others, r);
	while (more(r)) {
		for (unsigned at = 1; fail_batch(r, at); at++)
			provoked(r, 1);
		for (unsigned at = 1; fail_pokes(r, at); at++)
			provoked(r, 1);
		update(r);
	}
	site_threads_end(&others);
}

/* -------------------------------------------------------- none from the system */

/* All of the process's mappings but a few: every other page is of another protection. */
static void fill_mappings(void)
{
	for (int i = 0;; i++)
		if (mmap(NULL, 4096, i % 2 ? PROT_READ : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			 0) == MAP_FAILED)
			return;
}

static void limit_memory(void)
{
	const struct rlimit limit = {1 << 20, 1 << 20}; /* less than there is */

	if (setrlimit(RLIMIT_AS, &limit))
		abort();
}

static bool can_map(void)
{
	void *p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return false;
	(void)munmap(p, 4096);
	return true;
}

/* Out of memory in the way that the row's name says. Where the threads run already. */
static const char *exhaust(const struct row *r)
{
	if (!strcmp(r->name, "mapping-limit"))
		fill_mappings();
	else if (!strcmp(r->name, "address-space"))
		limit_memory();
	else
		return forbid(!strcmp(r->name, "no-mmap") ? FORBID_MAP : FORBID_MEMORY);
	return NULL;
}

/*
 * Works; or, where the user has asked for remap alone, says so. Control: nothing else is
 * left; by remap alone, nothing is exhausted.
 */
static void row_exhausted(struct row *r)
{
	static struct site_threads others;
	bool must_say = r->way == REMAP;
	const char *why = NULL;

	update(r);
	site_threads_start(&others, r);
	if (!must_say || !r->is_control)
		why = exhaust(r);
	if (!why && !must_say && r->is_control)
		why = forbid(FORBID_PWRITE | FORBID_PROTECT);
	if (why)
		skip_row(r, why);
	if (!strcmp(r->name, "no-mremap-memory") == can_map() || r->is_control)
		provoked(r, 0);
	else
		failed(r, "there is memory");
	while (more(r)) {
		int was = try_site(), ret = try_update();

		if (must_say) {
			MUST(r, ret == -ENOMEM && shunt_last_error()[0]);
			MUST(r, try_site() == was);
		} else {
			MUST(r, !ret && try_site() != was);
		}
		provoked(r, 1);
	}
	site_threads_end(&others);
}

#define SPARE 24

/* Leaves @pages, every second one of which can be given back to make room for two mappings. */
static char *fill_and_leave(void)
{
	char *pages =
		mmap(NULL, (size_t)2 * SPARE * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (pages == MAP_FAILED)
		abort();
	for (size_t i = 0; i < SPARE; i++)
		if (mprotect(pages + 2 * i * 4096, 4096, PROT_READ))
			abort();
	fill_mappings();
	return pages;
}

/*
 * From no mapping that is left on to more than a poke needs, by two: it must be all or
 * nothing at each step, and both must be seen. Control: there are enough.
 */
static void row_near_limit(struct row *r)
{
	static struct site_threads others;
	bool by_writes = r->way == INT3 || (r->way == AUTO && !CPU_HAS_TRAPS);
	unsigned worked = 0, refused = 0;
	char *pages = NULL;

	update(r);
	site_threads_start(&others, r);
	if (!r->is_control)
		pages = fill_and_leave();
	for (size_t i = 0; i < SPARE; i++) {
		int was = try_site(), ret;
		struct shunt_ways ways;

		if (pages && mprotect(pages + 2 * i * 4096, 4096, PROT_NONE))
			failed(r, "the mappings cannot be joined");
		ret = try_update();
		shunt_get_ways(&ways);
		MUST(r, !ret || (r->way == REMAP && ret == -ENOMEM));
		MUST(r, try_site() == (ret ? was : !was));
		if (!ret && (by_writes || r->way == FLIP || !strcmp(ways.poke, "remap")))
			worked++;
		else
			refused++;
		provoked(r, 1);
	}
	site_threads_end(&others);
	/* These need no mapping. */
	MUST(r, worked && (refused || r->way == FLIP || (by_writes && !r->is_control)));
}

#define EXHAUSTED(n, t)                                                                       \
	{                                                                                     \
		.name = n, .title = t, .unit = "updates", .run = row_exhausted, .times = 100, \
		.not_asan = true, .not_tsan = true, .flip = true,                             \
		.control = "nothing else left; by remap: enough memory"                       \
	}

static struct row rows[] = {
	{.name = "allocations",
	 .title = "has each allocation of an update fail in turn",
	 .unit = "failed allocations",
	 .run = row_allocations,
	 .times = 200,
	 .flip = true,
	 .control = "the error is not looked at"},
	EXHAUSTED("no-mmap", "gets no memory from mmap()"),
	EXHAUSTED("no-mremap-memory", "gets ENOMEM from mremap()"),
	EXHAUSTED("address-space", "is at its limit of address space"),
	EXHAUSTED("mapping-limit", "is at its limit of mappings"),
	{.name = "near-mapping-limit",
	 .title = "is near its limit of mappings",
	 .unit = "updates",
	 .run = row_near_limit,
	 .times = SPARE,
	 .flip = true,
	 .not_asan = true,
	 .not_tsan = true,
	 .control_not_flip = true,
	 .control = "it is not near it"},
	{0},
};

int main(int argc, char **argv)
{
	return hostile_main(argc, argv, rows);
}
