/* SPDX-License-Identifier: MIT */
/*
 * unit/elf: damaged and shortened files, each of which ends at a page that cannot be read; and how
 * long a large one takes. SHUNT_ELF_MUTATIONS sets how many copies of each file are damaged.
 */
#include <elf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "linux/elf/elf.h"

#include "elf_images.h"
#include "test_elf.h"

/* ---- damage ---- */

/* Read all that can be read at what the reader hands out. */
static int touch_reference(void *arg, const struct shunt_elf_ref *ref,
			   const struct shunt_elf_sym *sym)
{
	size_t *sum = arg;

	*sum += strlen(sym->name) + shunt_elf_name_len(sym->name);
	if (ref->bytes != NULL) {
		*sum += ref->bytes[0];
		*sum += ref->bytes[ref->after - 1];
		*sum += *(ref->bytes - ref->before);
	}
	return 0;
}

static int touch_symbol(void *arg, const struct shunt_elf_sym *sym)
{
	size_t *sum = arg;

	*sum += strlen(sym->name);
	return 0;
}

static int touch_slot(void *arg, uint64_t slot, const struct shunt_elf_sym *sym)
{
	size_t *sum = arg;

	*sum += strlen(sym->name) + (size_t)slot;
	return 0;
}

static size_t touch_everything(const uint8_t *bytes, size_t size)
{
	struct shunt_elf_func_index index;
	struct shunt_elf elf;
	const uint8_t *id;
	const char *name;
	uint64_t value;
	size_t sum = 0;
	size_t len;
	int ret = shunt_elf_open(&elf, bytes, size);

	if (ret != 0) {
		assert_true(ret == -ENOEXEC || ret == -EINVAL);
		return 0;
	}
	if (shunt_elf_build_id(&elf, &id, &len) == 0) {
		sum += id[0];
		sum += id[len - 1];
	}
	ret = shunt_elf_for_each_ref(&elf, PREFIX, touch_reference, &sum);
	assert_true(ret == 0 || ret == -EINVAL || ret == -ENODATA);
	assert_true((ret == -ENODATA) == (shunt_elf_lack(&elf) != SHUNT_ELF_LACKS_NOTHING));
	ret = shunt_elf_for_each_sym(&elf, "", touch_symbol, &sum);
	assert_true(ret == 0 || ret == -ENODATA);
	ret = shunt_elf_for_each_slot(&elf, "", touch_slot, &sum);
	assert_true(ret == 0 || ret == -EINVAL || ret == -ENODATA);
	if (shunt_elf_symbol_value(&elf, "elf_plain", &value) == 0) {
		name = shunt_elf_function_at(&elf, value, NULL);
		sum += name != NULL ? strlen(name) : 0;
	}
	if (random_below(8) == 0) {
		assert_int_equal(shunt_elf_func_index_build(&index, &elf), 0);
		for (size_t i = 0; i < index.count; i++) {
			name = shunt_elf_func_index_at(&index, index.spans[i].begin, NULL);
			sum += name != NULL ? strlen(name) : 0;
		}
		shunt_elf_func_index_free(&index);
	}
	return sum;
}

/* The parts of a file that the reader believes something in. */
struct part {
	size_t offset;
	size_t size;
};

#define PARTS 64

static size_t parts_of(const struct image *image, struct part parts[PARTS])
{
	size_t count = 0;
	Elf64_Ehdr eh;

	memcpy(&eh, image->bytes, sizeof(eh));
	parts[count++] = (struct part){0, sizeof(eh)};
	parts[count++] = (struct part){eh.e_phoff, eh.e_phnum * sizeof(Elf64_Phdr)};
	parts[count++] = (struct part){eh.e_shoff, eh.e_shnum * sizeof(Elf64_Shdr)};
	for (size_t i = 0; i < eh.e_shnum && count < PARTS; i++) {
		Elf64_Shdr sh;

		memcpy(&sh, image->bytes + eh.e_shoff + i * sizeof(sh), sizeof(sh));
		if (sh.sh_size != 0 && (sh.sh_type == SHT_SYMTAB || sh.sh_type == SHT_DYNSYM ||
					sh.sh_type == SHT_STRTAB || sh.sh_type == SHT_RELA ||
					sh.sh_type == SHT_DYNAMIC || sh.sh_type == SHT_NOTE)) {
			parts[count++] = (struct part){sh.sh_offset, sh.sh_size};
		}
	}
	return count;
}

/* A value that a reader may trip over. */
static uint64_t nasty(size_t size)
{
	switch (random_below(6)) {
	case 0:
		return 0;
	case 1:
		return UINT64_MAX - random_below(64);
	case 2:
		return size - random_below(64);
	case 3:
		return size + random_below(64);
	case 4:
		return UINT64_C(1) << random_below(64);
	default:
		return random_below(UINT64_MAX);
	}
}

/* (A file ends at a page that is not there: AddressSanitizer sees little more, and takes long.) */
#ifdef __SANITIZE_ADDRESS__
#define MUTATIONS 4000
#else
#define MUTATIONS 20000
#endif

static long mutations(size_t size)
{
	const char *text = getenv("SHUNT_ELF_MUTATIONS");

	if (text != NULL) {
		return atol(text);
	}
	return size > 200000 ? 500 : MUTATIONS;
}

/* Damage up to four fields at once, look, and put them back. */
static void check_mutations(const struct fixture *fixture, struct image *image)
{
	struct part parts[PARTS];
	size_t nparts = parts_of(image, parts);

	(void)fixture;
	for (long i = mutations(image->size); i > 0; i--) {
		size_t nfields = 1 + random_below(4);
		uint8_t saved[4][8];
		size_t at[4];
		size_t len[4];

		for (size_t j = 0; j < nfields; j++) {
			/* Half of all damage goes to the three tables of headers. */
			const struct part *part =
				&parts[random_below(random_below(2) == 0 ? 3 : nparts)];
			uint64_t value = nasty(image->size);

			len[j] = (size_t)1 << random_below(4);
			at[j] = part->offset + random_below(part->size);
			at[j] &= ~(len[j] - 1);
			memcpy(saved[j], image->bytes + at[j], len[j]);
			memcpy(image->bytes + at[j], &value, len[j]);
		}
		touch_everything(image->bytes, image->size);
		for (size_t j = nfields; j-- > 0;) {
			memcpy(image->bytes + at[j], saved[j], len[j]);
		}
	}
}

void test_mutations(void **state)
{
	(void)state;
	for_each_fixture(check_mutations);
}

static void check_truncations(const struct fixture *fixture, struct image *image)
{
	size_t stride = image->size > 200000 ? 8191 : 37;
	struct image cut = image_new(image->bytes, image->size);

	(void)fixture;
	for (size_t size = 0; size <= image->size; size += stride) {
		uint8_t *start = cut.bytes + cut.size - size;

		memcpy(start, image->bytes, size);
		touch_everything(start, size);
	}
	image_free(&cut);
}

void test_truncations(void **state)
{
	(void)state;
	for_each_fixture(check_truncations);
}

/* ---- speed ---- */

static double now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

/* 100,000 sites of 1,000 trampolines among 1,000,000 relocations. */
static void scan_large(size_t nsymbols)
{
	struct made made = made_new(nsymbols, 1000000, 8000000);
	struct shunt_elf_func_index index;
	struct shunt_elf elf;
	double best = 1e9;
	double start;

	for (size_t i = 1; i < nsymbols; i++) {
		char name[MADE_NAME];

		snprintf(name, sizeof(name), i % (nsymbols / 1000) == 1 ? "__SCT__%zu" : "fun_%zu",
			 i);
		made_symbol(&made, i, name, MADE_BASE + 8 * i, 8);
	}
	for (size_t i = 0; i < made.nrelas; i++) {
		size_t site = 1 + random_below(1000) * (nsymbols / 1000);
		size_t other = 2 + random_below(1000) * (nsymbols / 1000);

		made_rela(&made, i, i % 10 == 0 ? site : other, 8 * i);
	}
	assert_int_equal(shunt_elf_open(&elf, made.bytes, made.size), 0);
	for (int round = 0; round < 5; round++) {
		size_t count = 0;
		double ms;

		start = now_ms();
		assert_int_equal(shunt_elf_for_each_ref(&elf, PREFIX, count_only, &count), 0);
		ms = now_ms() - start;
		assert_int_equal(count, 100000);
		best = ms < best ? ms : best;
	}
	start = now_ms();
	assert_int_equal(shunt_elf_func_index_build(&index, &elf), 0);
	print_message("1000000 relocations, 100000 references, %zu symbols: %.2f ms; "
		      "function index: %.2f ms\n",
		      nsymbols, best, now_ms() - start);
	shunt_elf_func_index_free(&index);
	free(made.bytes);
}

void test_speed(void **state)
{
	(void)state;
	scan_large(10000);
	scan_large(200000);
}
