/* SPDX-License-Identifier: MIT */
/*
 * The same as unit/elf_code, for aarch64, on any machine: what is a site, a trampoline, a PLT
 * entry, a linker's stub, a branch, and what only looks like one. On what linkers make of it:
 * tool/arm64_files. Controls: mutants a64-code-* (tests/mutation).
 */
#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "arch/elf_code.h"
#include "core/site.h"

#define NOP        0xd503201fu
#define BTI_C      0xd503245fu
#define RET        0xd65f03c0u
#define BR_X16     0xd61f0200u
#define BR_X17     0xd61f0220u
#define AUTIA1716  0xd503219fu
#define ADRP_X16   0xb0000010u              /* adrp x16, . + 0x1000 */
#define LDR_X16    0xf9400a10u              /* ldr x16, [x16, #16] */
#define LDR_X17    0xf9400a11u              /* ldr x17, [x16, #16] */
#define ADD_X16    0x91004210u              /* add x16, x16, #16 */
#define LITERAL(n) (0x58000010u | (n) << 5) /* ldr x16, . + 4 * n */
#define ADR_X17    0x10000011u              /* adr x17, . */
#define ADD_X17    0x8b110210u              /* add x16, x16, x17 */

static const char *site_of(uint32_t word, uint64_t field, uint32_t type, int64_t addend,
			   struct shunt_elf_site *site)
{
	struct shunt_elf_ref ref = {.addend = addend, .type = type, .after = 4};
	uint8_t bytes[4];

	memcpy(bytes, &word, sizeof(word));
	*site = (struct shunt_elf_site){0};
	return shunt_elf_site_at(&ref, bytes, field, site);
}

static void references(void **state)
{
	struct shunt_elf_site site;

	(void)state;
	assert_null(site_of(0x94000004, 0x1000, R_AARCH64_CALL26, 0, &site));
	assert_int_equal(site.kind, SHUNT_KIND_CALL);
	assert_int_equal(site.addr, 0x1000);
	assert_int_equal(site.operand, 0x1010);
	assert_null(site_of(0x17ffffff, 0x1000, R_AARCH64_JUMP26, 0, &site));
	assert_int_equal(site.kind, SHUNT_KIND_JMP);
	assert_int_equal(site.operand, 0xffc);
	/* The ends of its reach. */
	assert_null(site_of(0x95ffffff, 0x10000000, R_AARCH64_CALL26, 0, &site));
	assert_int_equal(site.operand, 0x10000000 + 0x7fffffc);
	assert_null(site_of(0x96000000, 0x10000000, R_AARCH64_CALL26, 0, &site));
	assert_int_equal(site.operand, 0x10000000 - 0x8000000);
	/* Neither; by another relocation; behind the symbol; not where an instruction is. */
	assert_non_null(site_of(NOP, 0x1000, R_AARCH64_CALL26, 0, &site));
	assert_non_null(site_of(RET, 0x1000, R_AARCH64_JUMP26, 0, &site));
	assert_non_null(site_of(0x54000020, 0x1000, R_AARCH64_JUMP26, 0, &site)); /* b.eq */
	assert_non_null(site_of(0x94000004, 0x1000, R_AARCH64_ADR_PREL_PG_HI21, 0, &site));
	assert_non_null(site_of(0x94000004, 0x1000, R_AARCH64_CALL26, 4, &site));
	assert_non_null(site_of(0x94000004, 0x1002, R_AARCH64_CALL26, 0, &site));
	for (uint32_t type = 0; type < 2048; type++)
		assert_int_equal(shunt_elf_is_ref(&shunt_elf_native, type),
				 type == R_AARCH64_CALL26 || type == R_AARCH64_JUMP26);
}

static void trampolines(void **state)
{
	static const uint32_t tramp[] = {BTI_C, ADRP_X16, LDR_X16, BR_X16};
	uint32_t other[4];
	uint64_t key = 0;

	(void)state;
	assert_true(shunt_elf_tramp_key((const uint8_t *)tramp, 0x1ffc, &key));
	assert_int_equal(key, 0x3010); /* its adrp stands on the next page */
	for (size_t i = 0; i < 4; i++)
		for (unsigned bit = 0; bit < 32; bit++) {
			uint32_t operand = i == 1 ? 0x60ffffe0u : i == 2 ? 0x003ffc00u : 0;

			if (operand >> bit & 1)
				continue;
			memcpy(other, tramp, sizeof(other));
			other[i] ^= 1u << bit;
			assert_false(shunt_elf_tramp_key((const uint8_t *)other, 0x1ffc, &key));
		}
}

/* Sequences, cut off at each length. */
struct sequence {
	uint32_t words[7];
	size_t len;    /* that is enough, bytes */
	uint64_t slot; /* or target */
};

static void plt_entries(void **state)
{
	static const struct sequence entries[] = {
		{{ADRP_X16, LDR_X17, ADD_X16, BR_X17}, 16, 0x2010},
		{{BTI_C, ADRP_X16, LDR_X17, ADD_X16, BR_X17}, 20, 0x2010},
		{{ADRP_X16, LDR_X17, ADD_X16, AUTIA1716, BR_X17}, 20, 0x2010},
		{{BTI_C, ADRP_X16, LDR_X17, ADD_X16, AUTIA1716, BR_X17}, 24, 0x2010},
		{{BTI_C, ADRP_X16, LDR_X16, BR_X16}, 16, 0x2010},
		/* Through another register; none at all. */
		{{ADRP_X16, LDR_X17, ADD_X16, BR_X16}, 0, 0},
		{{ADRP_X16, LDR_X16, AUTIA1716, BR_X16}, 0, 0},
		{{ADRP_X16, ADD_X16, BR_X16}, 0, 0},
		{{NOP, ADRP_X16, LDR_X17, ADD_X16, BR_X17}, 0, 0},
		{{RET}, 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++)
		for (size_t len = 0; len <= sizeof(entries[i].words); len++) {
			uint64_t slot;
			bool is_one = shunt_elf_plt_slot((const uint8_t *)entries[i].words, len,
							 0x1000, &slot);

			assert_int_equal(is_one, entries[i].len && len >= entries[i].len);
			if (is_one)
				assert_int_equal(slot, entries[i].slot);
		}
}

static void stubs(void **state)
{
	static const struct sequence all[] = {
		{{ADRP_X16, ADD_X16, BR_X16}, 12, 0x2010},
		{{BTI_C, ADRP_X16, ADD_X16, BR_X16}, 16, 0x2010},
		{{LITERAL(2), BR_X16, 0x12345678, 9}, 16, 0x912345678},
		{{LITERAL(4), ADR_X17, ADD_X17, BR_X16, 0x100, 1}, 24, 0x100001104},
		{{0x14000100}, 4, 0x1400},
		{{BTI_C, 0x14000100}, 8, 0x1404},
		/* A call; a word beyond what there is; another register. */
		{{0x94000100}, 0, 0},
		{{LITERAL(8), BR_X16, 0x12345678, 9}, 0, 0},
		{{ADRP_X16, ADD_X16, BR_X17}, 0, 0},
		{{ADRP_X16, LDR_X16, BR_X16}, 0, 0},
		{{RET}, 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		for (size_t len = 0; len <= sizeof(all[i].words); len++) {
			uint64_t target;
			bool is_one = shunt_elf_stub_target((const uint8_t *)all[i].words, len,
							    0x1000, &target);

			assert_int_equal(is_one, all[i].len && len >= all[i].len);
			if (is_one)
				assert_int_equal(target, all[i].slot);
		}
}

static void branches(void **state)
{
	static const struct {
		uint32_t word;
		size_t len;
		bool good, jumps;
		uint64_t by;
	} forms[] = {
		{NOP, 4, true, false, 0},           {0x14000001, 4, true, true, 4},
		{0x17ffffff, 6, true, true, -4ull}, {NOP, 3, false, false, 0},
		{0x94000001, 4, false, false, 0},   {BTI_C, 4, false, false, 0},
		{RET, 4, false, false, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		uint8_t bytes[8] = {0};
		struct shunt_elf_branch branch;

		memcpy(bytes, &forms[i].word, 4);
		assert_int_equal(shunt_elf_branch_at(bytes, forms[i].len, &branch), forms[i].good);
		assert_int_equal(branch.kind, SHUNT_KIND_BRANCH);
		assert_int_equal(branch.jumps, forms[i].jumps);
		assert_int_equal(branch.by, forms[i].by);
		assert_false(branch.tests);
	}
}

/* adrp x0, . + 0x1000; ldr x0, [x0, #16] or add x0, x0, #16; bl . + 0x40 */
static void handles(void **state)
{
	static const uint32_t load[] = {0xb0000000, 0xf9400800, 0x94000010};
	static const uint32_t add[] = {0xb0000000, 0x91004000, 0x94000010};
	static const uint32_t jump[] = {0xb0000000, 0x91004000, 0x14000010};
	static const uint32_t other[] = {0xb0000000, 0xf9400821, 0x94000010};
	struct shunt_elf_passing p;

	(void)state;
	assert_true(shunt_elf_passing_at((const uint8_t *)load, sizeof(load), 0x1000, &p));
	assert_true(p.argument_is_slot && !p.callee_is_slot);
	assert_int_equal(p.argument, 0x2010);
	assert_int_equal(p.callee, 0x1048);
	assert_true(shunt_elf_passing_at((const uint8_t *)add, sizeof(add), 0x1000, &p));
	assert_false(p.argument_is_slot);
	assert_int_equal(p.argument, 0x2010);
	for (size_t len = 0; len < sizeof(add); len++)
		assert_false(shunt_elf_passing_at((const uint8_t *)add, len, 0x1000, &p));
	assert_false(shunt_elf_passing_at((const uint8_t *)jump, sizeof(jump), 0x1000, &p));
	assert_false(shunt_elf_passing_at((const uint8_t *)other, sizeof(other), 0x1000, &p));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(references),  cmocka_unit_test(trampolines),
		cmocka_unit_test(plt_entries), cmocka_unit_test(stubs),
		cmocka_unit_test(branches),    cmocka_unit_test(handles),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
