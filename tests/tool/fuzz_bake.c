/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes what reads ELF files: the reader of the library, `shunt sites`'s view of a
 * file, and the baking of it. For libFuzzer; without it (FUZZ_MAIN) a plain program
 * that mutates the files it is given: fuzz_bake [-runs=N] FILE [-runs=N FILE...]
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <elf.h>

#include "bake.h"
#include "core/key.h"
#include "inventory.h"
#include "linux/base/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What the core's static_call.c calls and this program never gets to. */
int shunt_change_keys(struct shunt_key_change *changes, size_t n)
{
	(void)changes;
	(void)n;
	abort();
}

int shunt_port_watch(uintptr_t target)
{
	(void)target;
	return 0;
}

int shunt_port_is_trampoline(uintptr_t func)
{
	(void)func;
	abort();
}

void *shunt_port_alloc(size_t size)
{
	return calloc(1, size);
}

void *shunt_memory_grow(void *p, size_t from, size_t to)
{
	char *more = realloc(p, to);

	if (more)
		memset(more + from, 0, to - from);
	return more;
}

void shunt_port_free(void *p, size_t size)
{
	(void)size;
	free(p);
}

int shunt_refuse(const char *what, const char *key)
{
	(void)what;
	(void)key;
	abort();
}

int shunt_batch_add(struct static_call_batch *batch, const struct shunt_kind *kind, void *key,
		    uintptr_t value)
{
	(void)batch;
	(void)kind;
	(void)key;
	(void)value;
	abort();
}

static int on_slot(void *arg, uint64_t slot, const struct shunt_elf_sym *sym)
{
	*(uint64_t *)arg += slot + strlen(sym->name);
	return 0;
}

/* What the library asks of a file; the answers do not matter. */
static void read_it(const struct shunt_elf *elf)
{
	const uint8_t *id;
	uint64_t sum = 0;
	size_t len;

	if (!shunt_elf_build_id(elf, &id, &len) && len)
		sum += id[0] + id[len - 1];
	if (!shunt_elf_for_each_slot(elf, "__SCT__", on_slot, &sum))
		sum += (uint64_t)shunt_elf_lack(elf);
	if (shunt_elf_got_slot(elf, "__SCT__call", &sum) == 0 && !sum)
		sum++;
}

static void name_it(const struct inventory *inv)
{
	static volatile uint64_t sum; /* so that nothing is left out */
	struct shunt_elf_func_index index;
	const char *symbol = "";
	uint64_t target;

	if (shunt_elf_func_index_build(&index, &inv->elf))
		return;
	for (size_t i = 0; i < inv->sites.n; i++)
		if (shunt_elf_func_index_at(&index, inventory_site(inv, i)->addr, &target))
			sum = sum + target +
			      strlen(inventory_kind_name(inv, inventory_site(inv, i)));
	for (size_t i = 0; i < inv->keys.n; i++)
		if (inventory_initial(inv, inventory_key(inv, i), &target, &symbol) ==
		    INITIAL_FOREIGN)
			sum = sum + strlen(symbol);
	shunt_elf_func_index_free(&index);
}

/* Every program header, and all bytes of text and data but few, are as they were. */
static void compare(const uint8_t *in, const uint8_t *out, size_t out_size)
{
	struct shunt_elf elf;

	if (shunt_elf_open(&elf, out, out_size))
		abort();
	if (elf.segments.count && memcmp(elf.segments.data, in + (elf.segments.data - out),
					 elf.segments.count * sizeof(Elf64_Phdr)) != 0) {
		/* Only where a crafted file has its sites or keys within the headers. */
		return;
	}
	for (uint64_t i = 0; i < elf.segments.count; i++) {
		Elf64_Phdr ph;

		memcpy(&ph, elf.segments.data + i * sizeof(ph), sizeof(ph));
		if (ph.p_offset > out_size || ph.p_filesz > out_size - ph.p_offset)
			abort();
	}
}

static void bake_it(const uint8_t *in, size_t size)
{
	struct bake_result result;
	size_t out_size, again_size;
	void *out, *again;
	int ret;

	if (shunt_bake(in, size, &out, &out_size, &result)) {
		if (out)
			abort();
		return;
	}
	compare(in, out, out_size);
	/* Of a file without static calls only entries are changed, and it has no table. */
	ret = shunt_bake(out, out_size, &again, &again_size, &result);
	if (ret != -EALREADY && (ret != -ENODATA || out_size != size))
		abort();
	free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* A copy of just the size: what lies behind it must not be read. */
	uint8_t *image = malloc(size ? size : 1);
	struct inventory inv;

	if (!image)
		return 0;
	memcpy(image, data, size);
	if (!inventory_open(&inv, image, size)) {
		read_it(&inv.elf);
		name_it(&inv);
	}
	inventory_close(&inv);
	bake_it(image, size);
	if (memcmp(image, data, size) != 0)
		abort(); /* the input is not to be changed */
	free(image);
	return 0;
}

#ifdef FUZZ_MAIN

static uint64_t random_state = 88172645463325252u;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* Change a few bytes, most of them in headers: of the file, its segments, its sections. */
static size_t mutate(uint8_t *image, size_t size)
{
	static const uint64_t odd[] = {0, 1, 0xff, 0x7fffffff, 0xffffffff, UINT64_MAX, 1u << 16};
	Elf64_Ehdr eh;

	memcpy(&eh, image, sizeof(eh));
	for (unsigned n = 1 + (unsigned)(next_random() % 8); n; n--) {
		size_t headers = eh.e_shoff < size && next_random() % 2 ? eh.e_shoff : 0;
		size_t at = headers + next_random() % (next_random() % 4 ? 4096 : size);
		uint64_t value = next_random() % 2 ? odd[next_random() % 7] : next_random();
		size_t len = (size_t)1 << next_random() % 4;

		if (at + len <= size)
			memcpy(image + at, &value, len);
	}
	return next_random() % 8 ? size : next_random() % (size + 1);
}

static long run_file(const char *path, long runs)
{
	FILE *file = fopen(path, "rb");
	uint8_t *seed = malloc(1 << 22), *image;
	size_t size;

	if (!file || !seed) {
		perror(path);
		exit(2);
	}
	size = fread(seed, 1, 1 << 22, file);
	(void)fclose(file);
	image = malloc(size);
	for (long i = 0; i < runs && image && size >= sizeof(Elf64_Ehdr); i++) {
		memcpy(image, seed, size);
		(void)LLVMFuzzerTestOneInput(image, i ? mutate(image, size) : size);
	}
	free(image);
	free(seed);
	return runs;
}

int main(int argc, char **argv)
{
	long runs = 1000, done = 0;

	for (int i = 1; i < argc; i++) {
		if (!strncmp(argv[i], "-runs=", 6))
			runs = strtol(argv[i] + 6, NULL, 10);
		else
			done += run_file(argv[i], runs);
	}
	printf("%ld inputs\n", done);
	return 0;
}

#endif
