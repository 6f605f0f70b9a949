/* SPDX-License-Identifier: MIT */
/* x86-64's recommended nop of each length that a site has, 1 to 6 bytes. */
#ifndef SHUNT_TESTS_NOPS_X86_64_H
#define SHUNT_TESTS_NOPS_X86_64_H

static const char *const nops[] = {
	"",
	"\x90",
	"\x66\x90",
	"\x0f\x1f\x00",
	"\x0f\x1f\x40\x00",
	"\x0f\x1f\x44\x00\x00",
	"\x66\x0f\x1f\x44\x00\x00",
};

#endif
