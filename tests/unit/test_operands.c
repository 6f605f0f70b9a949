/* SPDX-License-Identifier: MIT */
/*
 * What compilers write around calls of handlers (arch.h): each form that sets a register to an
 * address, in exactly the room that it has and in less; the moves to the first argument; calls and
 * jumps by where they lead. Their bytes stand here as an assembler writes them.
 *
 * Control: without the line of a form, it is not known.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "arch/arch.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R15 = 15 };

/* ------------------------------------------------------------------ an address */

#define AT 0x400100u

static const struct {
	unsigned reg;
	size_t len;
	uint64_t value;
	uint8_t code[10];
} addresses[] = {
	{RDI, 7, AT + 7 + 0x10, {0x48, 0x8d, 0x3d, 0x10}},                  /* lea 0x10(%rip) */
	{RDI, 7, AT + 7 - 2, {0x48, 0x8d, 0x3d, 0xfe, 0xff, 0xff, 0xff}},   /* lea -2(%rip) */
	{R15, 7, AT + 7 + 0x10, {0x4c, 0x8d, 0x3d, 0x10}},                  /* lea 0x10(%rip) */
	{RDI, 7, 0x401000, {0x48, 0xc7, 0xc7, 0x00, 0x10, 0x40}},           /* movq $ */
	{RBX, 7, ~UINT64_C(0), {0x48, 0xc7, 0xc3, 0xff, 0xff, 0xff, 0xff}}, /* movq $-1 */
	{R15, 7, 0x401000, {0x49, 0xc7, 0xc7, 0x00, 0x10, 0x40}},           /* movq $ */
	{RDI, 5, 0x401000, {0xbf, 0x00, 0x10, 0x40}},                       /* movl $ */
	{RAX, 5, 0xffffffff, {0xb8, 0xff, 0xff, 0xff, 0xff}},               /* movl $-1 */
	{R8, 6, 0x401000, {0x41, 0xb8, 0x00, 0x10, 0x40}},                  /* movl $ */
	{R15, 6, 0xffffffff, {0x41, 0xbf, 0xff, 0xff, 0xff, 0xff}},         /* movl $-1 */
	{RSI,
	 10,
	 UINT64_C(0x7f00112233445566), /* movabs $ */
	 {0x48, 0xbe, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x00, 0x7f}},
	{R15,
	 10,
	 UINT64_C(0x7f00112233445566),
	 {0x49, 0xbf, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x00, 0x7f}},
};

static void sets_address(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(addresses); i++)
		for (unsigned reg = 0; reg < 16; reg++)
			for (size_t room = 0; room <= 16; room++) {
				uint8_t code[16] = {0};
				uint64_t value = 1;
				bool is = reg == addresses[i].reg && room >= addresses[i].len;

				memcpy(code, addresses[i].code, sizeof(addresses[i].code));
				assert_int_equal(shunt_sets_address(code, room, AT, reg, &value),
						 is);
				assert_true(value == (is ? addresses[i].value : 1));
			}
}

/* Loads, another displacement, another group of opcodes: none sets a register to an address. */
static void sets_no_address(void **state)
{
	static const uint8_t others[][7] = {
		{0x48, 0x8b, 0x3d, 0x10},
		{0x48, 0x8d, 0x7d, 0x10},
		{0x48, 0xc7, 0x07, 0x10},
		{0x40, 0xbf, 0x10},
		{0xbe, 0x10},
		{0x48, 0x8d, 0x35, 0x10},
		{0x4c, 0x8d, 0x3d, 0x10},
		{0x49, 0xc7, 0xc7, 0x10},
		{0x8d, 0x3d, 0x10},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		uint8_t code[16] = {0};
		uint64_t value = 1;

		memcpy(code, others[i], sizeof(others[i]));
		assert_false(shunt_sets_address(code, sizeof(code), AT, RDI, &value));
		assert_true(value == 1);
	}
}

/* ----------------------------------------------------------- the first argument */

/* mov %reg,%rdi: of both encodings, by all registers; of the two for other registers none. */
static void sets_argument(void **state)
{
	(void)state;
	for (unsigned from = 0; from < 16; from++)
		for (unsigned to = 0; to < 16; to++)
			for (unsigned room = 0; room < 5; room++) {
				const unsigned high_from = from >> 3, high_to = to >> 3;
				const uint8_t store[5] = {
					(uint8_t)(0x48 | high_from << 2 | high_to), 0x89,
					(uint8_t)(0xc0 | (from & 7) << 3 | (to & 7))};
				const uint8_t load[5] = {
					(uint8_t)(0x48 | high_to << 2 | high_from), 0x8b,
					(uint8_t)(0xc0 | (to & 7) << 3 | (from & 7))};
				bool is = to == RDI && room >= 3;
				unsigned reg = 99;

				assert_int_equal(shunt_sets_argument(store, room, &reg), is);
				assert_int_equal(reg, is ? from : 99);
				reg = 99;
				assert_int_equal(shunt_sets_argument(load, room, &reg), is);
				assert_int_equal(reg, is ? from : 99);
			}
}

/* --------------------------------------------------------------- calls and jumps */

static void instruction_of_an_operand(void **state)
{
	static const struct {
		uint8_t bytes[2];
		bool is_slot, is;
		struct shunt_operand_insn insn;
	} forms[] = {
		{{0x90, 0xe8}, false, true, {1, 5, false}},
		{{0x67, 0xe8}, false, true, {2, 6, false}},
		{{0x90, 0xe9}, false, true, {1, 5, true}},
		{{0x67, 0xe9}, false, true, {1, 5, true}},
		{{0xff, 0x15}, true, true, {2, 6, false}},
		{{0xff, 0x25}, true, true, {2, 6, true}},
		{{0xff, 0x15}, false, false, {0}},
		{{0xff, 0x25}, false, false, {0}},
		{{0xff, 0x35}, true, false, {0}},
		{{0x90, 0x15}, true, false, {0}},
		{{0x90, 0xe8}, true, false, {0}},
		{{0x90, 0xeb}, false, false, {0}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(forms); i++)
		for (uint64_t before = 1; before <= 2; before++) {
			/* The byte before the first one of the text is nobody's. */
			bool is = forms[i].is && before >= (forms[i].is_slot ? 2 : 1);
			struct shunt_operand_insn insn = {0}, wanted = forms[i].insn;

			if (before == 1 && forms[i].bytes[0] == 0x67 && !wanted.jumps)
				wanted = (struct shunt_operand_insn){1, 5, false};
			assert_int_equal(shunt_operand_insn(forms[i].bytes + 2, before,
							    forms[i].is_slot, &insn),
					 is);
			if (!is)
				continue;
			assert_int_equal(insn.before, wanted.before);
			assert_int_equal(insn.len, wanted.len);
			assert_int_equal(insn.jumps, wanted.jumps);
		}
}

/* Each place of a displacement, from the second byte to the last four; both ends of the span. */
static void next_operand(void **state)
{
	enum { SIZE = 16 };

	(void)state;
	for (size_t place = 0; place <= SIZE - 4; place++)
		for (int32_t by = -3; by <= 3; by++) {
			const uint64_t low = AT + 0x1000, span = 2;
			const int32_t lead =
				(int32_t)(low + (uint64_t)(int64_t)by - (AT + place + 4));
			uint8_t code[SIZE];
			uint64_t at = 0, to = 0;
			bool is = place >= 1 && by >= 0 && by <= (int32_t)span;

			memset(code, 0x90, sizeof(code));
			memcpy(code + place, &lead, sizeof(lead));
			assert_int_equal(shunt_operand_next(code, SIZE, AT, low, span, &at, &to),
					 is);
			if (!is)
				continue;
			assert_int_equal(at, place);
			assert_true(to == low + (uint64_t)by);
			assert_true(shunt_operand_next(code, SIZE, AT, low, span, &at, &to));
			at++;
			assert_false(shunt_operand_next(code, SIZE, AT, low, span, &at, &to));
			at = 0;
			assert_false(shunt_operand_next(code, place + 3, AT, low, span, &at, &to));
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sets_address),  cmocka_unit_test(sets_no_address),
		cmocka_unit_test(sets_argument), cmocka_unit_test(instruction_of_an_operand),
		cmocka_unit_test(next_operand),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
