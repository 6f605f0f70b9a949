/* SPDX-License-Identifier: MIT */
/*
 * Copies of text, one file of the port alone: each byte that somebody else has changed is seen,
 * wherever it is and whatever the length, and what changes at a site is not taken for that;
 * and how many sites go into one run of pages.
 *
 * Control: the bytes of the sites, which may differ.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../../src/linux/text/swap.c" /* NOLINT(bugprone-suspicious-include) */

/* ------------------------------------------------------- what swap.c asks for */

__thread const char *shunt_failed_call;
const char shunt_swap_sequence[1];

long shunt_swap_move(void *copy, size_t len, uintptr_t start, const uint64_t *begun)
{
	(void)copy;
	(void)len;
	(void)begun;
	return (long)start;
}

int shunt_mapping_find(uintptr_t addr, size_t len, const struct shunt_mapping **mapping)
{
	(void)addr;
	(void)len;
	(void)mapping;
	return -EFAULT;
}

int shunt_mapping_check(const struct shunt_mapping *m, uintptr_t start, size_t len, bool *anonymous)
{
	(void)m;
	(void)start;
	(void)len;
	(void)anonymous;
	return -EFAULT;
}

bool shunt_mapping_has_file(const struct shunt_mapping *m)
{
	(void)m;
	return true;
}

void shunt_mappings_done(void)
{
}

int shunt_text_write_mem(const uint8_t *addr, const void *bytes, size_t len)
{
	(void)addr;
	(void)bytes;
	(void)len;
	return 0;
}

/* ------------------------------------------------------------------- the tests */

#define LONGEST_TEXT 300

static void each_byte_of_each_length(void **state)
{
	uint8_t text[LONGEST_TEXT], copy[LONGEST_TEXT];

	(void)state;
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (uint8_t)(i * 7);
	memcpy(copy, text, sizeof(copy));
	for (size_t len = 0; len < sizeof(text); len++) {
		assert_false(differ(text, copy, len));
		for (size_t at = 0; at < len; at++) {
			copy[at] ^= 0x40;
			assert_true(differ(text, copy, len));
			if (len <= 16)
				assert_true(few_differ(text, copy, len));
			copy[at] ^= 0x40;
		}
		copy[len] ^= 1; /* what follows does not matter */
		assert_false(differ(text, copy, len));
		copy[len] ^= 1;
	}
}

#define SITES 40

static _Alignas(4096) uint8_t page[4096], copy_of_page[4096];

/* Sites with gaps of each length from 0 on between them. */
static void all_but_the_sites(void **state)
{
	struct shunt_write w[SITES];
	bool is_site[sizeof(page)] = {false};
	struct run run = {.start = (uintptr_t)page,
			  .len = sizeof(page),
			  .copy = copy_of_page,
			  .w = {(const char *)w, SITES, sizeof(w[0])}};
	uint64_t sites;

	(void)state;
	for (size_t i = 0, at = 0; i < SITES; at += 5 + i++) {
		w[i] = (struct shunt_write){.addr = page + at, .bytes = {1, 2, 3, 4, 5}, .len = 5};
		memset(is_site + at, true, 5);
	}
	sites = sum_of(run.w);
	for (size_t at = 0; at < sizeof(page); at++) {
		copy_of_page[at] ^= 0x10; /* that somebody has stored meanwhile */
		assert_int_equal(is_true_copy(&run), is_site[at]);
		copy_of_page[at] ^= 0x10;
		page[at] ^= 0x10;
		assert_int_equal(sum_of(run.w) == sites, !is_site[at]);
		page[at] ^= 0x10;
	}
}

static size_t run_length(const struct shunt_mapping *m, const size_t *pages, size_t n)
{
	static uint8_t *const text = (uint8_t *)(uintptr_t)0x10000000;
	struct shunt_write w[8];
	uintptr_t end;

	for (size_t i = 0; i < n; i++)
		w[i] = (struct shunt_write){.addr = text + PAGE * pages[i] + 16, .len = 5};
	return run_of(m, (struct writes){(const char *)w, n, sizeof(w[0])}, &end);
}

static void what_is_near_goes_together(void **state)
{
	static const struct shunt_mapping all = {.range = {0, UINTPTR_MAX}},
					  some = {.range = {0x10000000, 0x10000000 + 3 * PAGE}};
	static const size_t near[] = {0, 1, 2, 3, 4}, far[] = {0, 3, 7, 8};

	(void)state;
	assert_int_equal(run_length(&all, near, 5), 5);
	assert_int_equal(run_length(&all, far, 4), 2);
	/* But not over the end of the mapping, which may go on as another one. */
	assert_int_equal(run_length(&some, near, 5), 3);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_byte_of_each_length),
		cmocka_unit_test(all_but_the_sites),
		cmocka_unit_test(what_is_near_goes_together),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
