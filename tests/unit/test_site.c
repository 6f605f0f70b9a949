/* SPDX-License-Identifier: MIT */
/*
 * The site tables: every boundary of the search, many tables, tables that come
 * back with other sites, and readers in whose middle that happens, at each single
 * load and at random.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/site_table.h"
#include "core/text_site.h"

#include "site_table_hooked.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* What the last shunt_table.insn was called with. Once for each site found. */
static _Thread_local const struct shunt_table *asked_table;
static _Thread_local const struct shunt_site *asked_site;

/* Sites of this owner have lost their key: there is nothing that they do. */
#define KEYLESS 0xdead

static bool insn(const struct shunt_table *table, const struct shunt_site *site,
		 struct shunt_insn *out)
{
	if (site->owner == KEYLESS)
		return false;
	asked_table = table;
	asked_site = site;
	*out = (struct shunt_insn){.op = SHUNT_OP_CALL, .len = 5, .target = site->owner};
	return true;
}

/* The sites that are in no table (core/text_poke.c): here one, or none. */
static struct shunt_site text_site;
static uintptr_t text_site_at;

struct shunt_site *shunt_text_site_find(uintptr_t addr, struct shunt_insn *out)
{
	if (!text_site_at || addr != text_site_at)
		return NULL;
	*out = (struct shunt_insn){.op = SHUNT_OP_RET, .len = 1};
	return &text_site;
}

/* The tables are in the list for good, so they are static. */
static struct shunt_table table = {.insn = insn};
static struct shunt_table many[200];

/* The site at @addr; checks that its table was asked what it does, and is @from. */
static struct shunt_site *find(uintptr_t addr, const struct shunt_table *from)
{
	struct shunt_insn out = {.op = 0xee};
	struct shunt_site *site;

	asked_table = NULL;
	asked_site = NULL;
	site = shunt_site_find(addr, &out);
	assert_ptr_equal(asked_site, site);
	if (site) {
		assert_ptr_equal(asked_table, from);
		assert_int_equal(out.target, site->owner);
	} else {
		assert_null(asked_table);
		assert_int_equal(out.op, 0xee);
	}
	return site;
}

static void lengths(void **state)
{
	(void)state;
	assert_int_equal(shunt_site_len(SHUNT_KIND_CALL), 5);
	assert_int_equal(shunt_site_len(SHUNT_KIND_JMP), 5);
	assert_int_equal(shunt_site_len(SHUNT_KIND_CALL_GOT), 6);
	assert_int_equal(shunt_site_len(SHUNT_KIND_JMP_GOT), 6);
	assert_int_equal(shunt_site_len(SHUNT_KIND_JCC), 6);
	assert_int_equal(shunt_site_len(SHUNT_KIND_BRANCH), 5);
	assert_int_equal(shunt_site_len(SHUNT_KIND_BRANCH2), 2);
}

static void nothing_published(void **state)
{
	(void)state;
	assert_null(find(0, NULL));
	assert_null(find(0x1000, NULL));
	assert_null(find(UINTPTR_MAX, NULL));
}

/* How often @wanted is in the list that starts at the newest table; in a ring, very often. */
static size_t times_listed(const struct shunt_table *newest, const struct shunt_table *wanted)
{
	size_t n = 0, left = 10 * ARRAY_SIZE(many);

	for (const struct shunt_table *t = newest; t && left; t = t->next, left--)
		n += t == wanted;
	return n;
}

/* Before all tests that look for an address: in a ring that has no end. */
static void published_again(void **state)
{
	struct shunt_site site = {.off = 0};

	(void)state;
	for (unsigned n = 0; n < 3; n++) {
		shunt_table_publish(&table, 0x1000, &site, 1);
		assert_int_equal(times_listed(&table, &table), 1);
		shunt_table_withdraw(&table);
	}
}

/* Each size from 0 on: each site is found at its address, and nowhere else. */
static void boundaries(void **state)
{
	static const uintptr_t bases[] = {0x400000, 0x555555554000, 0};
	struct shunt_site sites[67];

	(void)state;
	for (size_t b = 0; b < ARRAY_SIZE(bases); b++)
		for (uint32_t n = 0; n <= ARRAY_SIZE(sites); n++) {
			for (uint32_t i = 0; i < n; i++)
				sites[i] = (struct shunt_site){.off = 7 * i, .owner = i};
			shunt_table_publish(&table, bases[b], sites, n);
			for (uint32_t off = 0; off < 7 * n + 7; off++)
				assert_ptr_equal(find(bases[b] + off, &table),
						 off % 7 || off / 7 >= n ? NULL : &sites[off / 7]);
			assert_null(find(bases[b] - 1, &table));
			assert_null(find(bases[b] - 7, &table));
		}
	shunt_table_withdraw(&table);
}

/* Offsets up to 4 GiB, and no address beyond them is taken for one of them. */
static void far_offsets(void **state)
{
	const uintptr_t base = 0x7f0000000000, turn = (uintptr_t)1 << 32;
	struct shunt_site sites[] = {
		{.off = 0}, {.off = 0x7fffffff}, {.off = 0x80000000u}, {.off = UINT32_MAX}};

	(void)state;
	shunt_table_publish(&table, base, sites, ARRAY_SIZE(sites));
	for (size_t i = 0; i < ARRAY_SIZE(sites); i++) {
		assert_ptr_equal(find(base + sites[i].off, &table), &sites[i]);
		assert_ptr_equal(shunt_site_addr(&table, &sites[i]),
				 (uint8_t *)base + sites[i].off);
		assert_null(find(base + sites[i].off + turn, &table));
		assert_null(find(base + sites[i].off - turn, &table));
	}
	shunt_table_withdraw(&table);
}

static void many_tables(void **state)
{
	static struct shunt_site sites[ARRAY_SIZE(many)][3];
	struct shunt_table *newest = &many[ARRAY_SIZE(many) - 1];

	(void)state;
	for (size_t t = 0; t < ARRAY_SIZE(many); t++) {
		for (uint32_t i = 0; i < 3; i++)
			sites[t][i] = (struct shunt_site){.off = 16 * i, .owner = (uint32_t)t};
		many[t].insn = insn;
		shunt_table_publish(&many[t], 0x10000 * (t + 1), sites[t], 3);
	}
	for (unsigned round = 0; round < 3; round++) {
		for (size_t t = 0; t < ARRAY_SIZE(many); t++) {
			bool gone = round == 1 && t % 3 == 0;

			for (uint32_t off = 0; off <= 48; off++)
				assert_ptr_equal(
					find(0x10000 * (t + 1) + off, &many[t]),
					gone || off % 16 || off == 48 ? NULL : &sites[t][off / 16]);
		}
		/* Every third one goes, and comes back. */
		for (size_t t = 0; t < ARRAY_SIZE(many); t += 3)
			if (round == 0)
				shunt_table_withdraw(&many[t]);
			else
				shunt_table_publish(&many[t], 0x10000 * (t + 1), sites[t], 3);
		for (size_t t = 0; t < ARRAY_SIZE(many); t++)
			assert_int_equal(times_listed(newest, &many[t]), 1);
	}
	for (size_t t = 0; t < ARRAY_SIZE(many); t++)
		shunt_table_withdraw(&many[t]);
	for (size_t t = 0; t < ARRAY_SIZE(many); t++)
		assert_null(find(0x10000 * (t + 1), &many[t]));
}

/* Tables come first; the sites of others are asked for where no table has one. */
static void sites_in_no_table(void **state)
{
	struct shunt_site sites[] = {{.off = 0, .owner = 1}, {.off = 8, .owner = KEYLESS}};
	struct shunt_insn out;

	(void)state;
	shunt_table_publish(&table, 0x5000, sites, ARRAY_SIZE(sites));
	text_site_at = 0x5004;
	assert_null(shunt_site_find_key(0x5004, &out));
	assert_ptr_equal(shunt_site_find(0x5004, &out), &text_site);
	assert_int_equal(out.op, SHUNT_OP_RET);
	text_site_at = 0x5000;
	assert_ptr_equal(shunt_site_find_key(0x5000, &out), &sites[0]);
	assert_ptr_equal(shunt_site_find(0x5000, &out), &sites[0]);
	assert_int_equal(out.op, SHUNT_OP_CALL);
	/* A site without a key is none, and may be another's. */
	text_site_at = 0;
	assert_null(shunt_site_find_key(0x5008, &out));
	assert_null(shunt_site_find(0x5008, &out));
	text_site_at = 0x5008;
	assert_null(shunt_site_find_key(0x5008, &out));
	assert_ptr_equal(shunt_site_find(0x5008, &out), &text_site);
	text_site_at = 0;
	shunt_table_withdraw(&table);
}

/*
 * Whether text touches a key's site: by each byte of it, and at each end of the table,
 * beside the plain answer: byte by byte.
 */
static void text_that_touches_sites(void **state)
{
	static const unsigned len[] = {
		[SHUNT_KIND_CALL] = 5,    [SHUNT_KIND_CALL_GOT] = 6, [SHUNT_KIND_JMP] = 5,
		[SHUNT_KIND_JMP_GOT] = 6, [SHUNT_KIND_JCC] = 6,      [SHUNT_KIND_BRANCH] = 5,
		[SHUNT_KIND_BRANCH2] = 2};
	struct shunt_site sites[] = {
		{.off = 0, .kind = SHUNT_KIND_CALL, .owner = 1},
		{.off = 5, .kind = SHUNT_KIND_JCC, .owner = 1},
		{.off = 20, .kind = SHUNT_KIND_CALL, .owner = KEYLESS},
		{.off = 40, .kind = SHUNT_KIND_BRANCH2, .owner = 1},
		{.off = 50, .kind = SHUNT_KIND_JMP_GOT, .owner = 1},
	};
	bool taken[80] = {false}; /* from 16 bytes before the table's base on */
	unsigned touched = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sites); i++)
		for (unsigned b = 0; sites[i].owner != KEYLESS && b < len[sites[i].kind]; b++)
			taken[16 + sites[i].off + b] = true;
	shunt_table_publish(&table, 0x5000, sites, ARRAY_SIZE(sites));
	for (size_t from = 0; from < ARRAY_SIZE(taken); from++)
		for (size_t n = 1; n <= 16 && from + n <= ARRAY_SIZE(taken); n++) {
			bool expected = false;

			for (size_t b = from; b < from + n; b++)
				expected = expected || taken[b];
			assert_int_equal(shunt_site_overlaps(0x5000 - 16 + from, n), expected);
			touched += expected;
		}
	assert_true(touched > 500);
	shunt_table_withdraw(&table);
	assert_false(shunt_site_overlaps(0x5000, 5));
}

/* Two contents for one table: some addresses are sites in both, some in one. */
#define BASE_A 0x100000
#define BASE_B 0x100004

#define NR_A 40
#define NR_B 25

/* Each ends where a page begins that cannot be read: no search goes beyond. */
static struct shunt_site *array_a, *array_b;

static struct shunt_site *guarded_array(size_t n)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	uint8_t *area =
		mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(area, MAP_FAILED);
	assert_int_equal(mprotect(area + page, page, PROT_NONE), 0);
	return (struct shunt_site *)(area + page) - n;
}

static void fill_arrays(void)
{
	if (!array_a) {
		array_a = guarded_array(NR_A);
		array_b = guarded_array(NR_B);
	}
	for (uint32_t i = 0; i < NR_A; i++)
		array_a[i] = (struct shunt_site){.off = 8 * i, .owner = 1000 + i};
	for (uint32_t i = 0; i < NR_B; i++)
		array_b[i] = (struct shunt_site){.off = 12 * i, .owner = 2000 + i};
}

static void publish(bool b)
{
	if (b)
		shunt_table_publish(&table, BASE_B, array_b, NR_B);
	else
		shunt_table_publish(&table, BASE_A, array_a, NR_A);
}

/* What is right for @addr by one of the contents, in a plain way. */
static struct shunt_site *expected(bool b, uintptr_t addr)
{
	for (size_t i = 0; i < NR_A && !b; i++)
		if (BASE_A + array_a[i].off == addr)
			return &array_a[i];
	for (size_t i = 0; i < NR_B && b; i++)
		if (BASE_B + array_b[i].off == addr)
			return &array_b[i];
	return NULL;
}

static bool is_right(const struct shunt_site *site, uintptr_t addr)
{
	return site == expected(false, addr) || site == expected(true, addr);
}

static void reuse(void **state)
{
	(void)state;
	fill_arrays();
	for (unsigned round = 0; round < 10; round++) {
		unsigned seq = table.seq;

		assert_int_equal(seq % 2, 0);
		publish(round & 1);
		assert_int_equal(table.seq, seq + 2);
		for (uintptr_t addr = BASE_A - 8; addr < BASE_A + 400; addr++)
			assert_ptr_equal(find(addr, &table), expected(round & 1, addr));
		if (round % 3)
			continue;
		shunt_table_withdraw(&table);
		assert_int_equal(table.seq, seq + 4);
		for (uintptr_t addr = BASE_A - 8; addr < BASE_A + 400; addr++)
			assert_null(find(addr, &table));
	}
	shunt_table_withdraw(&table);
}

/* A writer that stops half-way, with the sequence count odd, keeps nobody waiting. */
static void reader_within_a_change(void **state)
{
	(void)state;
	fill_arrays();
	publish(false);
	assert_non_null(find(BASE_A, &table));
	table.seq++;
	assert_null(find(BASE_A, &table));
	table.seq++;
	assert_non_null(find(BASE_A, &table));
	shunt_table_withdraw(&table);
}

/* ---------------------------------------- the change under the reader's eyes */

static size_t loads, change_before;
static bool now_b;

static void maybe_change(void)
{
	if (++loads != change_before)
		return;
	site_before_load = NULL; /* not in the writer */
	now_b = !now_b;
	publish(now_b);
	site_before_load = maybe_change;
}

/* The table changes before each load of a look-up in turn, from either to the other. */
static size_t change_while_looking_up(uintptr_t addr, bool from)
{
	for (change_before = 1;; change_before++) {
		struct shunt_site *site;

		now_b = from;
		publish(now_b);
		loads = 0;
		site_before_load = maybe_change;
		site = find(addr, &table);
		site_before_load = NULL;
		if (!is_right(site, addr))
			fail_msg("a wrong site for %#zx, change before load %zu", (size_t)addr,
				 change_before);
		if (now_b == from)
			return change_before - 1; /* there are no more loads */
	}
}

static void change_before_each_load(void **state)
{
	(void)state;
	fill_arrays();
	for (uintptr_t addr = BASE_A - 4; addr < BASE_A + 330; addr++)
		for (unsigned from = 0; from < 2; from++)
			assert_true(change_while_looking_up(addr, from) >= 6);
	shunt_table_withdraw(&table);
}

/* And before every load from the k-th on, as long as it takes. */
static size_t changes_left;

static void change_again(void)
{
	if (!changes_left)
		return;
	changes_left--;
	site_before_load = NULL;
	now_b = !now_b;
	publish(now_b);
	site_before_load = change_again;
}

static void change_before_all_loads(void **state)
{
	(void)state;
	fill_arrays();
	for (uintptr_t addr = BASE_A - 4; addr < BASE_A + 330; addr++)
		for (size_t n = 0; n < 20; n++) {
			struct shunt_site *site;

			changes_left = n;
			site_before_load = change_again;
			site = find(addr, &table);
			site_before_load = NULL;
			assert_true(is_right(site, addr));
		}
	shunt_table_withdraw(&table);
}

/* The array itself is used again for other sites: what was found in it is void. */
static void refill(void)
{
	if (++loads != change_before)
		return;
	site_before_load = NULL;
	now_b = !now_b;
	shunt_table_withdraw(&table);
	for (uint32_t i = 0; i < NR_A; i++)
		array_a[i].off = 8 * i + (now_b ? 8 : 0);
	shunt_table_publish(&table, BASE_A, array_a, NR_A);
	site_before_load = refill;
}

static void array_refilled_before_each_load(void **state)
{
	(void)state;
	fill_arrays();
	now_b = false;
	publish(false);
	for (uintptr_t addr = BASE_A - 8; addr < BASE_A + 330; addr++)
		for (change_before = 1;; change_before++) {
			bool was_b = now_b;
			struct shunt_site *site;

			loads = 0;
			site_before_load = refill;
			site = find(addr, &table);
			site_before_load = NULL;
			assert_ptr_equal(site, expected(false, addr));
			if (was_b == now_b)
				break;
		}
	shunt_table_withdraw(&table);
}

/*
 * The array is used again in the middle of a search of it. It lies in a page that cannot
 * be read, so that the reader stops within the search and the change is made there.
 */
static size_t page_size;

static void change_within_the_search(int sig)
{
	(void)sig;
	(void)mprotect((void *)((uintptr_t)array_a & -page_size), page_size,
		       PROT_READ | PROT_WRITE);
	shunt_table_withdraw(&table);
	for (uint32_t i = 0; i < NR_A; i++)
		array_a[i].off = 8 * i;
	if (now_b)
		shunt_table_publish(&table, BASE_A + 0x10000, array_a, NR_A);
}

static void array_refilled_within_the_search(void **state)
{
	struct sigaction ours = {.sa_handler = change_within_the_search}, before;

	(void)state;
	page_size = (size_t)sysconf(_SC_PAGESIZE);
	fill_arrays();
	assert_int_equal(sigaction(SIGSEGV, &ours, &before), 0);
	for (unsigned i = 0; i < 2 * NR_A; i++) {
		struct shunt_insn out;

		/* Gone; or there for text that is elsewhere. */
		now_b = i & 1;
		publish(false);
		assert_int_equal(
			mprotect((void *)((uintptr_t)array_a & -page_size), page_size, PROT_NONE),
			0);
		assert_null(shunt_site_find(BASE_A + 8 * (i / 2), &out));
	}
	assert_int_equal(sigaction(SIGSEGV, &before, NULL), 0);
	publish(false);
	assert_ptr_equal(find(BASE_A + 8, &table), &array_a[1]);
	shunt_table_withdraw(&table);
}

#define LOOKUPS 3000000

static struct {
	_Atomic bool stop;
	unsigned long found, none, wrong;
} reader;
static _Atomic unsigned long changes;

static void *look_up(void *arg)
{
	(void)arg;
	/* On a busy machine the writer may stand still in mid-change for long. */
	for (unsigned long i = 0; i < LOOKUPS || !reader.found || !changes; i++) {
		uintptr_t addr = BASE_A + i * 4 % 330;
		struct shunt_insn out = {0};
		struct shunt_site *site = shunt_site_find(addr, &out);

		/* NULL is right in the middle of a change, too. */
		if (!site)
			reader.none++;
		else if (is_right(site, addr) && out.target == site->owner)
			reader.found++;
		else
			reader.wrong++;
	}
	reader.stop = true;
	return NULL;
}

static void reader_beside_a_writer(void **state)
{
	pthread_t thread;

	(void)state;
	fill_arrays();
	publish(false);
	assert_int_equal(pthread_create(&thread, NULL, look_up, NULL), 0);
	while (!reader.stop)
		publish(++changes & 1);
	pthread_join(thread, NULL);
	print_message("%d look-ups, %lu changes: %lu found, %lu not, %lu wrong\n", LOOKUPS,
		      (unsigned long)changes, reader.found, reader.none, reader.wrong);
	assert_int_equal(reader.wrong, 0);
	assert_true(reader.found > 0 && changes > 0);
	shunt_table_withdraw(&table);
}

/*
 * Negative control: a reader that does without the sequence count. With the change
 * between its loads it finds a site that is none, and is_right() says so.
 */
static struct shunt_site *find_torn(uintptr_t addr)
{
	uintptr_t base = table.base;
	struct shunt_site *sites;
	uint32_t n;

	publish(true);
	sites = table.sites;
	n = table.nr_sites;
	for (uint32_t i = 0; i < n; i++)
		if (base + sites[i].off == addr)
			return &sites[i];
	return NULL;
}

static void torn_reader_is_seen(void **state)
{
	size_t wrong = 0;

	(void)state;
	fill_arrays();
	for (uintptr_t addr = BASE_A; addr < BASE_A + 330; addr += 4) {
		publish(false);
		wrong += !is_right(find_torn(addr), addr);
	}
	assert_true(wrong >= NR_B);
	shunt_table_withdraw(&table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lengths),
		cmocka_unit_test(nothing_published),
		cmocka_unit_test(published_again),
		cmocka_unit_test(boundaries),
		cmocka_unit_test(far_offsets),
		cmocka_unit_test(sites_in_no_table),
		cmocka_unit_test(reuse),
		cmocka_unit_test(reader_within_a_change),
		cmocka_unit_test(change_before_each_load),
		cmocka_unit_test(change_before_all_loads),
		cmocka_unit_test(array_refilled_before_each_load),
		cmocka_unit_test(array_refilled_within_the_search),
		cmocka_unit_test(reader_beside_a_writer),
		cmocka_unit_test(torn_reader_is_seen),
		/* Last: its tables stay in the list, and every look-up goes through them. */
		cmocka_unit_test(many_tables),
		cmocka_unit_test(text_that_touches_sites),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
