/* SPDX-License-Identifier: MIT */
/*
 * The sites of the torture test, for sites.S and for C: a call at each of the 64
 * offsets of a cache line, calls that straddle a page in each way, and tail calls
 * (jmp, jne) at the offsets where they straddle a line, and one before. On aarch64, where no
 * instruction straddles anything, each word of a line.
 *
 * Each entry stands for two sites, X(number, kind, alignment, offset): one of the
 * key torture, which all of them share, and one of a key of its own.
 */
#ifndef TORTURE_SITES_H
#define TORTURE_SITES_H

/* What a target returns, with the argument xored in: its number is added. */
#define TORTURE_MAGIC     0x5a17c0de5eed0000
#define TORTURE_BAD       0x0badca11
#define TORTURE_CLOBBERED 0x0badc10b
#define TORTURE_NOT_TAKEN 0x0077a4e0

#define TORTURE_CALL 0
#define TORTURE_JMP  1
#define TORTURE_JCC  2

/* clang-format off */
#ifdef __aarch64__ /* bl and b, at each word of a line; the last of a page */
#define TORTURE_SITES 33
#define TORTURE_EACH_SITE(X) \
	X(0, call, 64, 0) X(1, call, 64, 4) X(2, call, 64, 8) X(3, call, 64, 12) \
	X(4, call, 64, 16) X(5, call, 64, 20) X(6, call, 64, 24) X(7, call, 64, 28) \
	X(8, call, 64, 32) X(9, call, 64, 36) X(10, call, 64, 40) X(11, call, 64, 44) \
	X(12, call, 64, 48) X(13, call, 64, 52) X(14, call, 64, 56) X(15, call, 64, 60) \
	X(16, jmp, 64, 0) X(17, jmp, 64, 4) X(18, jmp, 64, 8) X(19, jmp, 64, 12) \
	X(20, jmp, 64, 16) X(21, jmp, 64, 20) X(22, jmp, 64, 24) X(23, jmp, 64, 28) \
	X(24, jmp, 64, 32) X(25, jmp, 64, 36) X(26, jmp, 64, 40) X(27, jmp, 64, 44) \
	X(28, jmp, 64, 48) X(29, jmp, 64, 52) X(30, jmp, 64, 56) X(31, jmp, 64, 60) \
	X(32, call, 4096, 4092)
#else
#define TORTURE_SITES 79
#define TORTURE_EACH_SITE(X) \
	X(0, call, 64, 0) X(1, call, 64, 1) X(2, call, 64, 2) X(3, call, 64, 3) \
	X(4, call, 64, 4) X(5, call, 64, 5) X(6, call, 64, 6) X(7, call, 64, 7) \
	X(8, call, 64, 8) X(9, call, 64, 9) X(10, call, 64, 10) X(11, call, 64, 11) \
	X(12, call, 64, 12) X(13, call, 64, 13) X(14, call, 64, 14) X(15, call, 64, 15) \
	X(16, call, 64, 16) X(17, call, 64, 17) X(18, call, 64, 18) X(19, call, 64, 19) \
	X(20, call, 64, 20) X(21, call, 64, 21) X(22, call, 64, 22) X(23, call, 64, 23) \
	X(24, call, 64, 24) X(25, call, 64, 25) X(26, call, 64, 26) X(27, call, 64, 27) \
	X(28, call, 64, 28) X(29, call, 64, 29) X(30, call, 64, 30) X(31, call, 64, 31) \
	X(32, call, 64, 32) X(33, call, 64, 33) X(34, call, 64, 34) X(35, call, 64, 35) \
	X(36, call, 64, 36) X(37, call, 64, 37) X(38, call, 64, 38) X(39, call, 64, 39) \
	X(40, call, 64, 40) X(41, call, 64, 41) X(42, call, 64, 42) X(43, call, 64, 43) \
	X(44, call, 64, 44) X(45, call, 64, 45) X(46, call, 64, 46) X(47, call, 64, 47) \
	X(48, call, 64, 48) X(49, call, 64, 49) X(50, call, 64, 50) X(51, call, 64, 51) \
	X(52, call, 64, 52) X(53, call, 64, 53) X(54, call, 64, 54) X(55, call, 64, 55) \
	X(56, call, 64, 56) X(57, call, 64, 57) X(58, call, 64, 58) X(59, call, 64, 59) \
	X(60, call, 64, 60) X(61, call, 64, 61) X(62, call, 64, 62) X(63, call, 64, 63) \
	X(64, call, 4096, 4092) X(65, call, 4096, 4093) X(66, call, 4096, 4094) X(67, call, 4096, 4095) \
	X(68, jmp, 64, 59) X(69, jmp, 64, 60) X(70, jmp, 64, 61) X(71, jmp, 64, 62) \
	X(72, jmp, 64, 63) X(73, jcc, 64, 58) X(74, jcc, 64, 59) X(75, jcc, 64, 60) \
	X(76, jcc, 64, 61) X(77, jcc, 64, 62) X(78, jcc, 64, 63)
#endif
/* clang-format on */

#endif
