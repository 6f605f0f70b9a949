/* SPDX-License-Identifier: MIT */
/* The forms that the self-test pokes (selftest.S): name, function, site, instruction for 1 and 2.
 */
static const struct form forms[] = {
	{"call",
	 shunt_selftest_call,
	 shunt_selftest_call_site,
	 {{SHUNT_OP_CALL, 4, 0, 0}, {SHUNT_OP_CALL, 4, 0, 0}}},
	{"tail call",
	 shunt_selftest_jmp,
	 shunt_selftest_jmp_site,
	 {{SHUNT_OP_JMP, 4, 0, 0}, {SHUNT_OP_JMP, 4, 0, 0}}},
	{"static branch",
	 shunt_selftest_nop,
	 shunt_selftest_nop_site,
	 {{SHUNT_OP_NOP, 4, 0, 0}, {SHUNT_OP_JMP, 4, 0, 0}}},
};
