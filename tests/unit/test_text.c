/* SPDX-License-Identifier: MIT */
/*
 * How text is written, one file of the port alone: shared memory is not written, in no way; what
 * is between sites is written with them only where nobody can be changing it, and where there
 * are sites on each page. Controls: private memory, no debugger, pages next to each other;
 * mutants text-otherwise-shared, text-runs-traced, text-runs-gap (tests/mutation).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../src/linux/text/mem_writes.c" /* NOLINT(bugprone-suspicious-include) */
#include "../../src/linux/text/open_pages.c" /* NOLINT(bugprone-suspicious-include) */
#include "../../src/linux/text/proc_file.c"  /* NOLINT(bugprone-suspicious-include) */
#include "../../src/linux/text/proc_mem.c"   /* NOLINT(bugprone-suspicious-include) */
#include "../../src/linux/text/text.c"       /* NOLINT(bugprone-suspicious-include) */

/* The first thread has not ended. */
bool shunt_first_thread_has_ended(void)
{
	return false;
}

/* ------------------------------------------------------- what text.c asks for */

__thread const char *shunt_failed_call;

static struct shunt_process own;
struct shunt_process *_Atomic shunt_process_page = &own;
static const char *status_file = ""; /* NULL: it cannot be opened */
static bool is_private;
static bool may_run = true;
static unsigned opened_mem;
static unsigned readable_asked;
static uint64_t alone_batch;
static unsigned kept_asked;

struct shunt_process *shunt_make_process(void)
{
	return &own;
}

int shunt_fd_open(const char *path, int flags)
{
	int fds[2];

	(void)path;
	(void)flags;
	if (!status_file || pipe(fds))
		return -ENOENT;
	if (write(fds[1], status_file, strlen(status_file)) < 0)
		return -EIO;
	(void)close(fds[1]);
	return fds[0];
}

bool shunt_is_memory_of_libshunt(uintptr_t addr)
{
	(void)addr;
	return false;
}

uint64_t shunt_alone_batch(void)
{
	return alone_batch;
}

void shunt_fd_close(int fd)
{
	(void)close(fd);
}

int shunt_fd_open_kept(const char *path, int flags, int64_t *mark)
{
	opened_mem++;
	*mark = 1;
	return open(path, flags | O_CLOEXEC);
}

bool shunt_fd_is_kept(int fd, int64_t mark)
{
	(void)fd;
	(void)mark;
	kept_asked++;
	return true;
}

int shunt_environment_value(enum shunt_variable which)
{
	(void)which;
	return -1;
}

int shunt_area_ask_prot_cpu(uintptr_t addr, struct shunt_range *range)
{
	(void)addr;
	(void)range;
	return 0;
}

int shunt_area_find(uintptr_t addr, struct shunt_area *a)
{
	*a = (struct shunt_area){
		.range = {addr & -4096ul, (addr & -4096ul) + 4096},
		.prot = PROT_READ | PROT_EXEC,
		.is_private = is_private,
		.is_listed = true,
		.ino = 1,
	};
	return 0;
}

int shunt_area_is_writable(uintptr_t addr)
{
	(void)addr;
	return 1;
}

bool shunt_area_are_readable(uintptr_t addr, size_t len)
{
	readable_asked += (unsigned)((addr % 4096 + len + 4095) / 4096);
	return true;
}

bool shunt_area_has_key(uintptr_t addr)
{
	(void)addr;
	return false;
}

uint32_t shunt_area_open_keys(void)
{
	return 0;
}

void shunt_area_close_keys(uint32_t rights)
{
	(void)rights;
}

void shunt_mapping_is_written(uintptr_t addr)
{
	(void)addr;
}

bool shunt_mapping_others_write(uintptr_t addr)
{
	(void)addr;
	return false;
}

void shunt_mappings_forget(struct shunt_range range)
{
	(void)range;
}

void shunt_maps_copied(void)
{
}

void shunt_maps_close(void)
{
}

bool shunt_fd_is_proc(int fd)
{
	(void)fd;
	return true;
}

/* In the middle of this many writes the thread is stopped, and somebody writes a byte. */
static unsigned stops;
static uint8_t *hit;

const char shunt_write_sequence[32];

uint64_t *shunt_begun(bool can_restart)
{
	static uint64_t word;

	(void)can_restart;
	return &word;
}

long shunt_write_undisturbed(long fd, const void *bytes, size_t len, uintptr_t offset,
			     const uint64_t *begun)
{
	assert_true(*begun == (uintptr_t)shunt_write_sequence);
	if (!stops)
		return pwrite((int)fd, bytes, len, (off_t)offset);
	stops--;
	if (hit)
		*hit = 0xcc;
	return SHUNT_WRITE_DISTURBED;
}

/* ------------------------------------------------------------------- the tests */

static void shared_memory(void **unused)
{
	static const enum shunt_way ways[] = {SHUNT_WAY_INT3, SHUNT_WAY_ALONE, SHUNT_WAY_ATOMIC};
	uint8_t *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct shunt_write w = {.addr = page, .len = 5, .bytes = {1, 2, 3, 4, 5}};

	(void)unused;
	assert_true(page != MAP_FAILED);
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		is_private = false;
		shunt_text_begin(1, ways[i], true);
		assert_int_equal(shunt_port_text_write(&w, 1), -EACCES);
		shunt_text_end();
		assert_int_equal(opened_mem, 0);
		assert_int_equal(page[0], 0);
	}
	is_private = true;
	shunt_text_begin(1, SHUNT_WAY_INT3, true);
	assert_int_equal(shunt_port_text_write(&w, 1), 0);
	shunt_text_end();
	assert_memory_equal(page, w.bytes, 5);
}

static bool goes_in_runs(const char *status, size_t n, enum shunt_way way)
{
	bool in_runs;

	status_file = status;
	shunt_text_begin(n, way, may_run);
	in_runs = state.in_runs;
	shunt_text_end();
	return in_runs;
}

static void beside_a_debugger(void **unused)
{
	(void)unused;
	assert_true(goes_in_runs("Name:\tx\nTracerPid:\t0\n", 64, SHUNT_WAY_INT3));
	assert_false(goes_in_runs("Name:\tx\nTracerPid:\t7\n", 64, SHUNT_WAY_INT3));
	assert_false(goes_in_runs("Name:\tx\n", 64, SHUNT_WAY_INT3)); /* not known */
	assert_false(goes_in_runs("", 64, SHUNT_WAY_INT3));
	assert_false(goes_in_runs(NULL, 64, SHUNT_WAY_ALONE));
	assert_false(goes_in_runs("TracerPid:\t0\n", 63, SHUNT_WAY_INT3));
	assert_false(goes_in_runs("TracerPid:\t0\n", 64, SHUNT_WAY_ATOMIC));
	may_run = false; /* by the policy, whatever the way */
	assert_false(goes_in_runs("TracerPid:\t0\n", 64, SHUNT_WAY_INT3));
	assert_false(goes_in_runs("TracerPid:\t0\n", 64, SHUNT_WAY_FLIP));
	may_run = true;
}

static size_t run_length(const size_t *pages, size_t n)
{
	static uint8_t *const text = (uint8_t *)(uintptr_t)0x10000000;
	struct shunt_write w[4];

	for (size_t i = 0; i < n; i++)
		w[i] = (struct shunt_write){.addr = text + 4096 * pages[i] + 16, .len = 5};
	return length_of_run(w, n, 1 << 16);
}

static void over_pages_without_sites(void **unused)
{
	static const size_t each[] = {0, 0, 1, 2}, gap[] = {0, 1, 3, 4}, far[] = {0, 2};

	(void)unused;
	assert_int_equal(run_length(each, 4), 4);
	assert_int_equal(run_length(gap, 4), 2);
	assert_int_equal(run_length(far, 2), 1);
}

/* From the start of the first write's page. */
static void as_much_as_the_buffer(void **unused)
{
	static uint8_t *const text = (uint8_t *)(uintptr_t)0x10000000;
	struct shunt_write w[17];

	(void)unused;
	for (size_t i = 0; i < 17; i++)
		w[i] = (struct shunt_write){.addr = text + 4096 * i + (i ? 91 : 4000), .len = 5};
	assert_ptr_equal(start_of_run(w), text);
	assert_int_equal(length_of_run(w, 17, 1 << 16), 16);
	assert_int_equal(length_of_run(w, 17, (1 << 16) + 95), 16);
	assert_int_equal(length_of_run(w, 17, (1 << 16) + 96), 17);
}

/* Of how many pages the kernel is asked for @n sites, @step bytes apart. */
static unsigned checks(size_t n, size_t step)
{
	static uint8_t text[64 * 4096] __attribute__((aligned(4096)));
	struct shunt_write w[64];

	for (size_t i = 0; i < n; i++)
		w[i] = (struct shunt_write){.addr = text + i * step, .len = 5};
	readable_asked = 0;
	assert_int_equal(shunt_port_text_check(w, n, sizeof(w[0])), 0);
	return readable_asked;
}

/* Control: sites on pages of their own, and one that crosses to the next page. */
static void one_question_a_page(void **unused)
{
	(void)unused;
	assert_int_equal(checks(64, 16), 1);
	assert_int_equal(checks(64, 4096), 64);
	assert_int_equal(checks(32, 8192), 32); /* not of those between them */
	assert_int_equal(checks(2, 4094), 2);
}

/* How often the descriptor is looked at in two writes of batch @first and one of @second. */
static unsigned looks(uint64_t first, uint64_t second)
{
	uint8_t byte = 0;

	alone_batch = first;
	assert_int_equal(shunt_proc_mem_write(&byte, &byte, 1), 0);
	kept_asked = 0;
	assert_int_equal(shunt_proc_mem_write(&byte, &byte, 1), 0);
	assert_int_equal(shunt_proc_mem_write(&byte, &byte, 1), 0);
	alone_batch = second;
	assert_int_equal(shunt_proc_mem_write(&byte, &byte, 1), 0);
	return kept_asked;
}

/* Where others may run, before each write; where nobody does, once in each batch. */
static void looks_at_the_descriptor(void **unused)
{
	(void)unused;
	assert_int_equal(looks(0, 0), 3);
	assert_int_equal(looks(1, 1), 0);
	assert_int_equal(looks(2, 3), 1);
	assert_int_equal(looks(4, 0), 1);
	assert_int_equal(looks(0, 5), 3);
}

/* Up to the end of a mapping the kernel writes, and says how much: no success. Control: before it.
 */
static void half_a_write(void **unused)
{
	const uint8_t bytes[8] = {1, 2, 3, 4, 5, 6, 7, 8};
	uint8_t *page =
		mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)unused;
	assert_true(page != MAP_FAILED);
	assert_int_equal(munmap(page + 4096, 4096), 0);
	for (size_t behind = 0; behind < sizeof(bytes); behind++) {
		uint8_t *at = page + 4096 - sizeof(bytes) + behind;

		memset(page, 0, 4096);
		shunt_failed_call = NULL;
		assert_int_equal(shunt_proc_mem_write(at, bytes, sizeof(bytes)), behind ? -EIO : 0);
		assert_memory_equal(at, bytes, sizeof(bytes) - behind);
		assert_int_equal(shunt_failed_call != NULL, behind > 0);
	}
	(void)munmap(page, 4096);
}

/* ------------------------------------------------------ bytes that others have changed */

#define FLIPS 80

static uint8_t *flip_page;
static struct shunt_write flips[FLIPS];

/* From 1 to 2, each with a byte of others' behind it. */
static void make_flips(enum writer writer, bool in_runs)
{
	if (!flip_page)
		flip_page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				 -1, 0);
	assert_true(flip_page != MAP_FAILED);
	assert_int_equal(mprotect(flip_page, 4096, PROT_READ | PROT_WRITE), 0); /* it was closed */
	for (size_t i = 0; i < FLIPS; i++) {
		flip_page[16 * i] = 1;
		flip_page[16 * i + 8] = 0x90;
		flips[i] = (struct shunt_write){
			.addr = flip_page + 16 * i, .len = 1, .bytes = {2, 1, SHUNT_WRITE_OVER}};
	}
	is_private = true;
	status_file = "TracerPid:\t0\n";
	state.writer = writer;
	shunt_text_begin(in_runs ? FLIPS : 1, SHUNT_WAY_FLIP, true);
	assert_int_equal(state.in_runs, in_runs);
}

/* All but @other are new. */
static void assert_flipped(size_t other, uint8_t there)
{
	for (size_t i = 0; i < FLIPS; i++)
		assert_int_equal(flip_page[16 * i], i == other ? there : 2);
}

static const struct {
	enum writer writer;
	bool in_runs;
} writers[] = {{MEM, false}, {MEM, true}, {MPROTECT, false}};

/* A breakpoint stays, the other sites are written, and it is told. Control: none is there. */
static void others_bytes_stay(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < sizeof(writers) / sizeof(writers[0]); i++) {
		make_flips(writers[i].writer, writers[i].in_runs);
		flip_page[16 * 7] = 0xcc;
		assert_int_equal(shunt_port_text_write(flips, FLIPS), -EBUSY);
		assert_flipped(7, 0xcc);
		shunt_text_end();

		make_flips(writers[i].writer, writers[i].in_runs);
		assert_int_equal(shunt_port_text_write(flips, FLIPS), 0);
		assert_flipped(FLIPS, 0);
		/* Done already: by the writer that has failed after some. */
		assert_int_equal(shunt_port_text_write(flips, FLIPS), 0);
		shunt_text_end();
	}
}

/* It comes between the look and the write. */
static void comes_in_between(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < 2; i++)
		for (unsigned n = 1; n < 2 * RESTARTS; n++) {
			make_flips(MEM, writers[i].in_runs);
			stops = n;
			hit = &flip_page[0];
			assert_int_equal(shunt_port_text_write(flips, FLIPS), -EBUSY);
			assert_flipped(0, 0xcc);
			shunt_text_end();

			make_flips(MEM, writers[i].in_runs);
			stops = n;
			hit = &flip_page[16 * 3 + 8];
			assert_int_equal(shunt_port_text_write(flips, FLIPS), 0);
			assert_flipped(FLIPS, 0);
			assert_int_equal(*hit, 0xcc);
			shunt_text_end();
		}
	stops = 0;
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(shared_memory),
		cmocka_unit_test(beside_a_debugger),
		cmocka_unit_test(over_pages_without_sites),
		cmocka_unit_test(as_much_as_the_buffer),
		cmocka_unit_test(one_question_a_page),
		cmocka_unit_test(looks_at_the_descriptor),
		cmocka_unit_test(half_a_write),
		cmocka_unit_test(others_bytes_stay),
		cmocka_unit_test(comes_in_between),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
