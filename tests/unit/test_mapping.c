/* SPDX-License-Identifier: MIT */
/*
 * Mappings of text that are kept, one file of the port alone: of what the kernel lists, shared
 * memory, a site over the end of its mapping and text of another file than the one that is there
 * are refused; a descriptor that has become the program's is not closed, and what is forgotten is
 * looked up again. Controls: each as it should be, which is accepted; mutants mapping-over-end,
 * mapping-next, mapping-shared, mapping-other-file, mapping-file-unknown, mapping-closes-foreign,
 * mapping-forget-not
 * (tests/mutation).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../src/linux/text/mapping.c" /* NOLINT(bugprone-suspicious-include) */

/* ---------------------------------------------------- what mapping.c asks for */

#define TEXT 0x10000000ul

__thread const char *shunt_failed_call;

static struct shunt_maps_line listed; /* what the kernel lists, at each address */
static bool is_programs;              /* the descriptor is the program's by now */
static bool is_replaced;              /* what is mapped elsewhere is another file */
static int elsewhere;                 /* what looking there fails with */
static unsigned lookups, opened, closed;

int shunt_area_ask_prot_cpu(uintptr_t addr, struct shunt_range *range)
{
	(void)addr;
	(void)range;
	return 0;
}

int shunt_area_find(uintptr_t addr, struct shunt_area *area)
{
	(void)addr;
	*area = (struct shunt_area){
		.range = listed.range,
		.ino = listed.ino,
		.prot = listed.prot,
		.is_private = listed.is_private,
		.is_listed = true,
	};
	return 0;
}

bool shunt_area_has_key(uintptr_t addr)
{
	(void)addr;
	return false;
}

int shunt_maps_find(uintptr_t addr, struct shunt_maps_line *line)
{
	lookups++;
	*line = listed;
	line->ino += is_replaced && addr - TEXT >= PAGE;
	if (!elsewhere || addr - TEXT < PAGE)
		return 0;
	shunt_failed_call = "the list";
	return elsewhere;
}

int shunt_fd_open_kept(const char *path, int flags, int64_t *mark)
{
	opened++;
	*mark = 1;
	return open(path, flags | O_CLOEXEC);
}

bool shunt_fd_is_kept(int fd, int64_t mark)
{
	(void)fd;
	(void)mark;
	return !is_programs;
}

void shunt_fd_close(int fd)
{
	closed++;
	(void)close(fd);
}

void shunt_format(char *to, size_t room, const char *format, ...)
{
	(void)format;
	(void)snprintf(to, room, "/nowhere");
}

struct shunt_loaded *shunt_first_loaded(void)
{
	return NULL;
}

/* ------------------------------------------------------------------- the tests */

/* A page of this program's file. */
static int set_up(void **state)
{
	struct stat st;

	(void)state;
	if (stat("/proc/self/exe", &st))
		return -1;
	listed = (struct shunt_maps_line){
		.range = {TEXT, TEXT + PAGE},
		.ino = st.st_ino,
		.major = major(st.st_dev),
		.minor = minor(st.st_dev),
		.prot = PROT_READ | PROT_EXEC,
		.is_private = true,
		.path = "/proc/self/exe",
	};
	is_programs = is_replaced = false;
	elsewhere = 0;
	shunt_mappings_forget((struct shunt_range){0, UINTPTR_MAX});
	lookups = opened = closed = 0;
	return 0;
}

static int find(uintptr_t addr)
{
	const struct shunt_mapping *mapping;

	return shunt_mapping_find(addr, 5, &mapping);
}

static void over_the_end(void **state)
{
	(void)state;
	for (unsigned i = 1; i < 5; i++)
		assert_int_equal(find(TEXT + PAGE - i), -EFAULT);
	assert_int_equal(find(TEXT + PAGE - 5), 0);
	assert_int_equal(find(TEXT + PAGE - 4), -EFAULT); /* though the rest is known by now */
}

/* The bytes are there, but in two mappings: other ways than remap can write them. */
static void into_the_next(void **state)
{
	void *next = (void *)(TEXT + PAGE);

	(void)state;
	assert_ptr_equal(mmap(next, PAGE, PROT_READ,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
			 next);
	for (unsigned i = 1; i < 5; i++) {
		shunt_failed_call = NULL;
		assert_int_equal(find(TEXT + PAGE - i), -EOPNOTSUPP);
		assert_non_null(shunt_failed_call);
		assert_non_null(strstr(shunt_failed_call, "over the end of its mapping"));
	}
	assert_int_equal(opened, 0);
	assert_int_equal(find(TEXT + PAGE - 5), 0);
	assert_int_equal(munmap(next, PAGE), 0);
	assert_int_equal(find(TEXT + PAGE - 4), -EFAULT);
}

static void shared(void **state)
{
	(void)state;
	listed.is_private = false;
	assert_int_equal(find(TEXT), -EACCES);
	assert_int_equal(opened, 0);
	listed.is_private = true;
	assert_int_equal(find(TEXT), 0);
}

static void of_another_file(void **state)
{
	(void)state;
	listed.ino++; /* the file's, before it was replaced */
	is_replaced = true;
	shunt_failed_call = NULL;
	assert_int_equal(find(TEXT), -ESTALE);
	assert_non_null(shunt_failed_call);
	assert_non_null(strstr(shunt_failed_call, "has been replaced"));
	assert_int_equal(closed, 2); /* by its name, and as the program's */
	listed.ino--;
	assert_int_equal(find(TEXT), 0);
}

/* Whether it is another file cannot be seen: that is the error, and not that it is. */
static void of_no_known_file(void **state)
{
	static const struct {
		int error, ret;
		const char *why;
	} cases[] = {
		{-EPERM, -EPERM, "the list"},
		{-ENOMEM, -ENOMEM, "the list"},
		{-EFAULT, -EPERM, "mmap"}, /* what has just been mapped is not there */
	};

	(void)state;
	listed.ino++;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		elsewhere = cases[i].error;
		shunt_failed_call = NULL;
		assert_int_equal(find(TEXT), cases[i].ret);
		assert_non_null(shunt_failed_call);
		assert_non_null(strstr(shunt_failed_call, cases[i].why));
	}
	assert_int_equal(closed, opened);
	elsewhere = 0;
	assert_int_equal(find(TEXT), 0); /* the same file, as it is listed */
}

static void done_with(bool by_program)
{
	assert_int_equal(find(TEXT), 0);
	is_programs = by_program;
	shunt_mappings_done();
}

static void of_the_program(void **state)
{
	(void)state;
	done_with(true);
	assert_int_equal(closed, 0);
	is_programs = false;
	done_with(false);
	assert_int_equal(closed, 1);
}

/* The module's own text, as it registers. */
static void forgotten(void **state)
{
	const ElfW(Phdr) text = {.p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_filesz = PAGE};
	const struct shunt_segments segments = {&text, 1, TEXT};

	(void)state;
	shunt_mappings_open(&segments, "/proc/self/exe", false);
	assert_int_equal(find(TEXT), 0);
	shunt_mappings_done();
	shunt_mappings_forget((struct shunt_range){TEXT + PAGE, TEXT + 2 * PAGE}); /* another's */
	assert_int_equal(find(TEXT), 0);
	assert_int_equal(lookups, 0);
	assert_int_equal(closed, 0);
	shunt_mappings_forget((struct shunt_range){TEXT, TEXT + PAGE});
	assert_int_equal(closed, 1);
	assert_int_equal(find(TEXT), 0);
	assert_int_equal(lookups, 1);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(over_the_end, set_up),
		cmocka_unit_test_setup(into_the_next, set_up),
		cmocka_unit_test_setup(shared, set_up),
		cmocka_unit_test_setup(of_another_file, set_up),
		cmocka_unit_test_setup(of_no_known_file, set_up),
		cmocka_unit_test_setup(of_the_program, set_up),
		cmocka_unit_test_setup(forgotten, set_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
