/* SPDX-License-Identifier: MIT */
/*
 * The code that compilers and linkers make of static calls, by its bytes: what is a site, a
 * trampoline, a PLT entry, a branch, and what only looks like one. On what linkers make
 * of it: unit/elf. Controls: mutants elf-code-* (tests/mutation).
 */
#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/site.h"
#include "linux/elf/elf.h"

/* Bytes around a field at 2, of which @before are the section's. */
static const char *site_in(const char *bytes, unsigned before, uint32_t type, int64_t addend,
			   struct shunt_elf_site *site)
{
	struct shunt_elf_ref ref = {.addend = addend, .type = type, .before = before, .after = 4};

	*site = (struct shunt_elf_site){0};
	return shunt_elf_site_at(&ref, (const uint8_t *)bytes + 2, 0x1002, site);
}

static const char no_call[] = "no call or jmp of the trampoline";

static void references_of_no_site(void **state)
{
	static const char call[] = "\x00\xe8\x10\x00\x00\x00", mem[] = "\xff\x15\x10\x00\x00\x00";
	static const char jmp[] = "\xe9\x10\x00\x00\x00\x90", load[] = "\x8b\x05\x10\x00\x00\x00";
	static const char lea[] = "\x8d\x05\x10\x00\x00\x00", mov[] = "\xc7\xc0\x10\x00\x00\x00";
	static const char nops[] = "\x90\x90\x90\x90\x90\x90", store[] = "\xc7\x05\x10\x00\x00\x00";
	static const char both[] = "\xe9\xe8\x00\x00\x00\x90", jcc[] = "\x0f\x8f\x10\x00\x00\x00";
	struct shunt_elf_site site;

	(void)state;
	assert_null(site_in(call, 1, R_X86_64_PLT32, -4, &site));
	assert_int_equal(site.addr, 0x1001);
	assert_int_equal(site.operand, 0x1016);
	assert_string_equal(site_in(call, 0, R_X86_64_PLT32, -4, &site), no_call);
	assert_string_equal(site_in(call, 1, R_X86_64_PLT32, 0, &site), no_call);
	/* Through a slot only where the relocation says that it is one. */
	assert_null(site_in(mem, 2, R_X86_64_GOTPCRELX, -4, &site));
	assert_int_equal(site.kind, SHUNT_KIND_CALL_GOT);
	assert_string_equal(site_in(mem, 2, R_X86_64_PC32, -4, &site), no_call);
	assert_string_equal(site_in(mem, 1, R_X86_64_GOTPCRELX, -4, &site), no_call);
	/* A relaxed jmp, even where its operand looks like an opcode. */
	assert_null(site_in(jmp, 2, R_X86_64_GOTPCRELX, -4, &site));
	assert_int_equal(site.addr, 0x1000);
	assert_int_equal(site.operand, 0x1015);
	assert_string_equal(site_in(jmp, 2, R_X86_64_PLT32, -4, &site), no_call);
	assert_null(site_in(both, 2, R_X86_64_GOTPCRELX, -4, &site));
	assert_int_equal(site.kind, SHUNT_KIND_JMP);
	assert_null(site_in(both, 2, R_X86_64_PLT32, -4, &site));
	assert_int_equal(site.kind, SHUNT_KIND_CALL);
	assert_null(site_in(jcc, 2, R_X86_64_PC32, -4, &site));
	assert_int_equal(site.kind, SHUNT_KIND_JCC | 0xf0);
	assert_non_null(strstr(site_in(load, 2, R_X86_64_REX_GOTPCRELX, -4, &site), "register"));
	assert_string_equal(site_in(lea, 2, R_X86_64_PC32, -4, &site), "address taken");
	assert_string_equal(site_in(mov, 2, R_X86_64_REX_GOTPCRELX, -4, &site), "address taken");
	/* What has been overwritten, or is not within the section, is not known to be that. */
	assert_string_equal(site_in(lea, 1, R_X86_64_PC32, -4, &site), no_call);
	assert_string_equal(site_in(nops, 2, R_X86_64_PLT32, -4, &site), no_call);
	assert_string_equal(site_in(mov, 2, R_X86_64_PLT32, -4, &site), no_call);
	assert_string_equal(site_in(store, 2, R_X86_64_PLT32, -4, &site), no_call);
}

static void trampolines_and_plt_entries(void **state)
{
	static const uint8_t tramp[] = {0xf3, 0x0f, 0x1e, 0xfa, 0xff, 0x25, 0x10, 0, 0, 0};
	static const uint8_t mold[] = {0xf3, 0x0f, 0x1e, 0xfa, 0x41, 0xbb, 7, 0,
				       0,    0,    0xff, 0x25, 0x10, 0,    0, 0};
	static const uint8_t bnd[] = {0xf2, 0xff, 0x25, 0xf0, 0xff, 0xff, 0xff};
	uint8_t other[sizeof(tramp)];
	uint64_t word = 0;

	(void)state;
	assert_true(shunt_elf_tramp_key(tramp, 0x1000, &word));
	assert_int_equal(word, 0x101a);
	assert_false(shunt_elf_tramp_key(mold, 0x1000, &word));
	for (size_t i = 0; i < 6; i++) {
		memcpy(other, tramp, sizeof(tramp));
		other[i] ^= 1;
		assert_false(shunt_elf_tramp_key(other, 0x1000, &word));
	}
	assert_true(shunt_elf_plt_slot(tramp, sizeof(tramp), 0x1000, &word));
	assert_int_equal(word, 0x101a);
	assert_true(shunt_elf_plt_slot(mold, sizeof(mold), 0x1000, &word));
	assert_int_equal(word, 0x1020);
	assert_true(shunt_elf_plt_slot(bnd, sizeof(bnd), 0x1000, &word));
	assert_int_equal(word, 0xff7);
	for (size_t i = 0; i < sizeof(mold); i++)
		assert_false(shunt_elf_plt_slot(mold, i, 0x1000, &word));
}

static void branches_of_static_keys(void **state)
{
	static const struct {
		uint8_t bytes[5];
		size_t len;
		int kind; /* -1: it is none */
		bool jumps, tests;
		uint64_t by;
	} forms[] = {
		{{0x0f, 0x1f, 0x44, 0, 0}, 5, SHUNT_KIND_BRANCH, false, false, 0},
		{{0xe9, 1, 2, 3, 4}, 5, SHUNT_KIND_BRANCH, true, false, 0x4030206},
		{{0xeb, 1}, 2, SHUNT_KIND_BRANCH2, true, false, 3},
		{{0xeb, 1, 0xe9, 0, 0}, 5, SHUNT_KIND_BRANCH2, true, false, 3},
		{{0xa9, 1, 2, 3, 4}, 5, SHUNT_KIND_BRANCH, false, true, 0x4030206},
		{{0xa8, 1}, 2, SHUNT_KIND_BRANCH2, false, true, 3},
		{{0xa9, 1, 2, 3, 4}, 4, -1, false, false, 0},       /* cut off */
		{{0x66, 0xa9, 1, 2}, 5, -1, false, false, 0},       /* of 16 bits */
		{{0x0f, 0x1f, 0x44, 0, 0}, 4, -1, false, false, 0}, /* cut off */
		{{0xe9, 1, 2, 3, 4}, 2, -1, false, false, 0},
		{{0x66, 0x90, 0x90, 0x90, 0x90}, 5, -1, false, false, 0},
		{{0xcc, 0x1f, 0x44, 0, 0}, 5, -1, false, false, 0},
		{{0xe8, 1, 2, 3, 4}, 5, -1, false, false, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		struct shunt_elf_branch branch;
		bool good = shunt_elf_branch_at(forms[i].bytes, forms[i].len, &branch);

		assert_int_equal(good, forms[i].kind >= 0);
		assert_int_equal(branch.kind, good ? forms[i].kind : SHUNT_KIND_BRANCH);
		assert_int_equal(branch.jumps, forms[i].jumps);
		assert_int_equal(branch.tests, forms[i].tests);
		assert_int_equal(branch.by, forms[i].by);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(references_of_no_site),
		cmocka_unit_test(trampolines_and_plt_entries),
		cmocka_unit_test(branches_of_static_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
