/* SPDX-License-Identifier: MIT */
/*
 * Copies of text, one file of the port alone: each byte that somebody else has changed is seen,
 * wherever it is and whatever the length, and what changes at a site is not taken for that;
 * and how many sites go into one run of pages. What somebody else stores beside a site between the
 * copy and its move is in the page then; at a site it makes the update fail; and no copy is
 * left behind, whatever fails. The thread is stopped in the middle of the sequence.
 *
 * Control: the bytes of the sites, which may differ; an update that nobody disturbs; and a
 * sequence that is none, of which the kernel kills whoever is stopped in it.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../src/linux/text/page_compare.c" /* NOLINT(bugprone-suspicious-include) */
#include "../../src/linux/text/page_copy.c"    /* NOLINT(bugprone-suspicious-include) */
#include "../../src/linux/text/remap.c"        /* NOLINT(bugprone-suspicious-include) */
#include "../../src/linux/text/restart.c"      /* NOLINT(bugprone-suspicious-include) */

/* ------------------------------------------------------- what remap.c asks for */

__thread const char *shunt_failed_call;

static struct shunt_mapping mapping = {.range = {0, UINTPTR_MAX}, .prot = PROT_READ, .fd = -1};

/* What happens between the copy and its move. */
static uint8_t *stored_to; /* by somebody else; NULL: nowhere */
static unsigned stores;    /* how often more */
static long move_error;
static bool stays_writable; /* a filter says that mprotect() was done */
static bool stopped;        /* the thread, in the sequence */
static uint64_t seen_begun; /* behind that */

static void *copies[8]; /* as they were seen */
static size_t nr_copies;

static void see_copy(void *copy)
{
	if (nr_copies < sizeof(copies) / sizeof(copies[0]))
		copies[nr_copies++] = copy;
}

/* Until the kernel has looked at @begun, which it does when it goes on with another thread. */
static void be_stopped(const uint64_t *begun)
{
	const struct timespec moment = {0, 100000};

	for (int i = 0; i < 1000 && __atomic_load_n(begun, __ATOMIC_RELAXED); i++)
		(void)nanosleep(&moment, NULL);
}

/* (Of remap.S the sequence alone is used: the kernel reads it where this thread is stopped.) */
long __wrap_shunt_remap_move(void *copy, size_t len, uintptr_t start, const uint64_t *begun);
long __wrap_shunt_remap_move(void *copy, size_t len, uintptr_t start, const uint64_t *begun)
{
	see_copy(copy);
	if (stopped)
		be_stopped(begun);
	seen_begun = __atomic_load_n(begun, __ATOMIC_RELAXED);
	if (move_error)
		return move_error;
	memcpy((void *)start, copy, len); /* NOLINT(performance-no-int-to-ptr) */
	(void)munmap(copy, len);
	return (long)start;
}

int shunt_mapping_find(uintptr_t addr, size_t len, const struct shunt_mapping **found)
{
	(void)addr;
	(void)len;
	*found = &mapping;
	return 0;
}

int shunt_mapping_check(const struct shunt_mapping *m, uintptr_t start, size_t len, bool *anonymous,
			int *prot_cpu)
{
	(void)m;
	(void)start;
	(void)len;
	*anonymous = false;
	*prot_cpu = 0;
	if (stored_to && stores) {
		stores--;
		++*stored_to;
	}
	return 0;
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
	return -EPERM; /* then by stores */
}

int shunt_area_is_writable(uintptr_t addr)
{
	see_copy((void *)addr); /* NOLINT(performance-no-int-to-ptr) */
	return stays_writable;
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
	struct shunt_page_run run = {.start = (uintptr_t)page,
				     .len = sizeof(page),
				     .copy = copy_of_page,
				     .w = {(const char *)w, SITES, sizeof(w[0])}};
	uint64_t sites;

	(void)state;
	for (size_t i = 0, at = 0; i < SITES; at += 5 + i++) {
		w[i] = (struct shunt_write){.addr = page + at, .bytes = {1, 2, 3, 4, 5}, .len = 5};
		memset(is_site + at, true, 5);
	}
	sites = shunt_sum_of_sites(run.w);
	for (size_t at = 0; at < sizeof(page); at++) {
		copy_of_page[at] ^= 0x10; /* that somebody has stored meanwhile */
		assert_int_equal(shunt_is_true_copy(&run), is_site[at]);
		copy_of_page[at] ^= 0x10;
		page[at] ^= 0x10;
		assert_int_equal(shunt_sum_of_sites(run.w) == sites, !is_site[at]);
		page[at] ^= 0x10;
	}
}

static size_t run_length(const struct shunt_mapping *m, const size_t *pages, size_t n)
{
	static uint8_t *const text = (uint8_t *)(uintptr_t)0x10000000;
	struct shunt_write w[8];
	uintptr_t end;

	for (size_t i = 0; i < n; i++)
		w[i] = (struct shunt_write){.addr = text + SHUNT_PAGE * pages[i] + 16, .len = 5};
	return length_of_run(m, (struct shunt_writes){(const char *)w, n, sizeof(w[0])}, &end);
}

static void what_is_near_goes_together(void **state)
{
	static const struct shunt_mapping all = {.range = {0, UINTPTR_MAX}},
					  some = {.range = {0x10000000, 0x10000000 + 3 * 4096ul}};
	static const size_t near[] = {0, 1, 2, 3, 4}, far[] = {0, 3, 7, 8};

	(void)state;
	assert_int_equal(run_length(&all, near, 5), 5);
	assert_int_equal(run_length(&all, far, 4), 2);
	/* But not over the end of the mapping, which may go on as another one. */
	assert_int_equal(run_length(&some, near, 5), 3);
}

/* ------------------------------------------------------------- a whole update */

static int quiet(void **state)
{
	(void)state;
	memset(page, 0x90, sizeof(page));
	stored_to = NULL;
	stores = 0;
	move_error = 0;
	stays_writable = false;
	stopped = false;
	seen_begun = 0;
	nr_copies = 0;
	shunt_remap_broadcast = -1;
	return 0;
}

/* One site, at the start of the page, gets 1 2 3 4 5. */
static int update(void)
{
	const struct shunt_write w = {.addr = page, .len = 5, .bytes = {1, 2, 3, 4, 5}};

	return shunt_port_text_remap(&w, 1, sizeof(w));
}

static bool is_updated(void)
{
	return !memcmp(page, "\1\2\3\4\5", 5);
}

static bool is_mapped(void *p)
{
	unsigned char in_core;

	return !mincore(p, SHUNT_PAGE, &in_core);
}

static bool a_copy_is_left(void)
{
	for (size_t i = 0; i < nr_copies; i++)
		if (is_mapped(copies[i]))
			return true;
	return false;
}

static void undisturbed(void **state)
{
	(void)state;
	assert_int_equal(update(), 0);
	assert_true(is_updated());
	assert_int_equal(page[5], 0x90);
	assert_true(nr_copies && !a_copy_is_left());
}

static void stored_beside(void **state)
{
	(void)state;
	stored_to = &page[100];
	stores = TRIES - 1;
	assert_int_equal(update(), 0);
	assert_true(is_updated());
	assert_int_equal(page[100], 0x90 + TRIES - 1);
	assert_false(a_copy_is_left());
	stores = TRIES; /* and goes on */
	assert_int_equal(update(), -EBUSY);
	assert_int_equal(page[100], 0x90 + 2 * TRIES - 1);
	assert_false(a_copy_is_left());
}

static void stored_at_site(void **state)
{
	(void)state;
	for (size_t i = 0; i < 5; i++) {
		(void)quiet(state);
		stored_to = &page[i];
		stores = 1;
		assert_int_equal(update(), -EBUSY);
		assert_int_equal(page[i], 0x91);
		assert_false(is_updated());
		assert_false(a_copy_is_left());
	}
}

static void not_moved(void **state)
{
	(void)state;
	move_error = -ENOMEM;
	assert_int_equal(update(), -ENOMEM);
	assert_int_equal(page[0], 0x90);
	assert_true(nr_copies && !a_copy_is_left());
}

static void not_protected(void **state)
{
	(void)state;
	stays_writable = true;
	assert_int_equal(update(), -EPERM);
	assert_int_equal(page[0], 0x90);
	assert_true(nr_copies && !a_copy_is_left());
}

/* Whether the kernel looks at what is named as a sequence. */
static bool has_sequences(void)
{
	return &__rseq_size && &__rseq_offset && __rseq_size;
}

static void stopped_in_it(void **state)
{
	(void)state;
	stopped = true;
	assert_int_equal(update(), 0);
	assert_true(is_updated());
	if (has_sequences())
		assert_int_equal(seen_begun, 0); /* the kernel has looked */
	/* Control: it was named. (Who is stopped all the same finds that it is not.) */
	for (int i = 0; i < 1000 && seen_begun != (uintptr_t)shunt_remap_sequence; i++) {
		(void)quiet(state);
		assert_int_equal(update(), 0);
	}
	assert_true(seen_begun == (uintptr_t)shunt_remap_sequence);
}

/* Control: with another one named. */
static void stopped_in_none(void **state)
{
	static const _Alignas(32) uint64_t none[4];
	int status = 0;
	pid_t pid;

	(void)state;
	if (!has_sequences())
		skip();
	pid = fork();
	if (!pid) {
		(void)signal(SIGSEGV, SIG_DFL);
		__atomic_store_n(shunt_begun(true), (uintptr_t)none, __ATOMIC_RELAXED);
		be_stopped(shunt_begun(true));
		_exit(0);
	}
	assert_true(pid > 0 && waitpid(pid, &status, 0) == pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_byte_of_each_length),
		cmocka_unit_test(all_but_the_sites),
		cmocka_unit_test(what_is_near_goes_together),
		cmocka_unit_test_setup(undisturbed, quiet),
		cmocka_unit_test_setup(stored_beside, quiet),
		cmocka_unit_test_setup(stored_at_site, quiet),
		cmocka_unit_test_setup(not_moved, quiet),
		cmocka_unit_test_setup(not_protected, quiet),
		cmocka_unit_test_setup(stopped_in_it, quiet),
		cmocka_unit_test(stopped_in_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
