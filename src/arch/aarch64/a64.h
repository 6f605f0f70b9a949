/* SPDX-License-Identifier: MIT */
/*
 * Instructions of aarch64 (A64) as words, both ways: what sites, trampolines, veneers and a
 * linker's PLT entries are made of. It knows nothing of the machine that it is compiled for: tools
 * on another CPU read and write files by it. Each instruction is one little-endian word of 4 bytes,
 * aligned.
 *
 * The encodings are those of the Arm Architecture Reference Manual (DDI 0487), section C6.2.
 */
#ifndef SHUNT_ARCH_AARCH64_A64_H
#define SHUNT_ARCH_AARCH64_A64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define A64_LEN 4

#define A64_NOP       0xd503201fu
#define A64_BTI_C     0xd503245fu
#define A64_AUTIA1716 0xd503219fu /* authenticates x17: in a PLT with pointer authentication */
#define A64_RET       0xd65f03c0u /* ret x30 */

/* Registers that a call may change on its way: IP0 and IP1 of the procedure call standard. */
#define A64_X16 16u
#define A64_X17 17u

/* The word at @bytes, which may be in a file; and back. */
static inline uint32_t a64_load(const uint8_t *bytes)
{
	return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
	       (uint32_t)bytes[3] << 24;
}

static inline void a64_store(uint8_t *bytes, uint32_t word)
{
	/* Volatile, lest the compiler make a memcpy of it. */
	for (unsigned i = 0; i < A64_LEN; i++)
		((volatile uint8_t *)bytes)[i] = (uint8_t)(word >> 8 * i);
}

static inline uint64_t a64_sign_extend(uint64_t value, unsigned bits)
{
	uint64_t sign = (uint64_t)1 << (bits - 1);

	return ((value & ((sign << 1) - 1)) ^ sign) - sign;
}

/* Whether a signed number of @bits bits can be @value, modulo 2^64. */
static inline bool a64_fits(uint64_t value, unsigned bits)
{
	uint64_t sign = (uint64_t)1 << (bits - 1);

	return value + sign < sign << 1;
}

/* ------------------------------------------------------------------ branches */

static inline bool a64_is_b(uint32_t w)
{
	return w >> 26 == 0x05;
}

static inline bool a64_is_bl(uint32_t w)
{
	return w >> 26 == 0x25;
}

/* Where a B or BL at @ip leads. */
static inline uint64_t a64_branch_target(uint32_t w, uint64_t ip)
{
	return ip + (a64_sign_extend(w, 26) << 2);
}

/* Whether a B or BL at @ip reaches @target: 128 MiB, less 4 forward. */
static inline bool a64_branch_reaches(uint64_t ip, uint64_t target)
{
	return !((target - ip) & 3) && a64_fits(target - ip, 28);
}

/* A B or BL; a64_branch_reaches() is for the caller to ask. */
static inline uint32_t a64_branch(bool link, uint64_t ip, uint64_t target)
{
	return (link ? 0x94000000u : 0x14000000u) | ((uint32_t)((target - ip) >> 2) & 0x03ffffffu);
}

static inline bool a64_is_nop(uint32_t w)
{
	return w == A64_NOP;
}

/* b.cond, cbz, cbnz, tbz, tbnz: a linker may have put one in front of a stub. */
static inline bool a64_is_conditional(uint32_t w)
{
	return (w & 0xff000010u) == 0x54000000u || (w & 0x7e000000u) == 0x34000000u ||
	       (w & 0x7e000000u) == 0x36000000u;
}

static inline bool a64_is_ret(uint32_t w)
{
	return w == A64_RET;
}

/* br xN */
static inline bool a64_is_br(uint32_t w, unsigned reg)
{
	return w == (0xd61f0000u | reg << 5);
}

static inline uint32_t a64_br(unsigned reg)
{
	return 0xd61f0000u | reg << 5;
}

/* bti, bti c, bti j, bti jc: a landing pad, and nothing else. */
static inline bool a64_is_bti(uint32_t w)
{
	return (w & ~0xc0u) == 0xd503241fu;
}

/* paciasp, pacibsp: what a function may begin with that signs its return address; a bti c too. */
static inline bool a64_is_paciasp(uint32_t w)
{
	return w == 0xd503233fu || w == 0xd503237fu;
}

/* A landing pad for a BR x16, BR x17 or BLR: what a target of a stub begins with under BTI. */
static inline bool a64_is_landing_pad(uint32_t w)
{
	return w == A64_BTI_C || w == 0xd50324dfu || a64_is_paciasp(w);
}

/*
 * Whether the CPU may execute the instruction while it is replaced by another one of which
 * that is so too: old or new is executed, with no more ado (DDI 0487, B2.2.5).
 */
static inline bool a64_is_patchable(uint32_t w)
{
	bool is_exception = (w & 0xffe0001cu) == 0xd4000000u && (w & 3); /* svc, hvc, smc */
	bool is_brk = (w & 0xffe0001fu) == 0xd4200000u;

	return a64_is_b(w) || a64_is_bl(w) || a64_is_nop(w) || is_brk || is_exception ||
	       (w & 0xfffff0ffu) == 0xd50330dfu; /* isb */
}

/* ---------------------------------------------------- addresses and loads of them */

static inline bool a64_is_adrp(uint32_t w, unsigned reg)
{
	return (w & 0x9f00001fu) == (0x90000000u | reg);
}

/* The page that an ADRP at @ip names. */
static inline uint64_t a64_adrp_page(uint32_t w, uint64_t ip)
{
	uint64_t imm = (w >> 29 & 3) | (uint64_t)(w >> 5 & 0x7ffff) << 2;

	return (ip & ~(uint64_t)0xfff) + (a64_sign_extend(imm, 21) << 12);
}

static inline bool a64_adrp_reaches(uint64_t ip, uint64_t target)
{
	return a64_fits((target >> 12) - (ip >> 12), 21);
}

static inline uint32_t a64_adrp(unsigned reg, uint64_t ip, uint64_t target)
{
	uint32_t pages = (uint32_t)((target >> 12) - (ip >> 12));

	return 0x90000000u | (pages & 3) << 29 | (pages >> 2 & 0x7ffff) << 5 | reg;
}

/* adr: of an ADRP whose page was near, as lld and the cure of erratum 843419 write it. */
static inline bool a64_is_adr(uint32_t w, unsigned reg)
{
	return (w & 0x9f00001fu) == (0x10000000u | reg);
}

/* adr xN, .: of itself. */
static inline uint32_t a64_adr_here(unsigned reg)
{
	return 0x10000000u | reg;
}

static inline uint64_t a64_adr_address(uint32_t w, uint64_t ip)
{
	uint64_t imm = (w >> 29 & 3) | (uint64_t)(w >> 5 & 0x7ffff) << 2;

	return ip + a64_sign_extend(imm, 21);
}

/* ldr xT, [xN, #offset]: 64 bits, unsigned offset. */
static inline bool a64_is_ldr(uint32_t w, unsigned to, unsigned base)
{
	return (w & 0xffc003ffu) == (0xf9400000u | base << 5 | to);
}

static inline unsigned a64_ldr_offset(uint32_t w)
{
	return (w >> 10 & 0xfff) * 8;
}

static inline uint32_t a64_ldr(unsigned to, unsigned base, unsigned offset)
{
	return 0xf9400000u | offset / 8 << 10 | base << 5 | to;
}

/* ldr xT, label: 64 bits, 1 MiB either way. */
static inline bool a64_is_ldr_literal(uint32_t w, unsigned to)
{
	return (w & 0xff00001fu) == (0x58000000u | to);
}

static inline uint64_t a64_ldr_literal_address(uint32_t w, uint64_t ip)
{
	return ip + (a64_sign_extend(w >> 5, 19) << 2);
}

static inline uint32_t a64_ldr_literal(unsigned to, uint64_t ip, uint64_t address)
{
	return 0x58000000u | ((uint32_t)((address - ip) >> 2) & 0x7ffff) << 5 | to;
}

/* add xD, xN, #imm: no shift. */
static inline bool a64_is_add(uint32_t w, unsigned to, unsigned base)
{
	return (w & 0xffc003ffu) == (0x91000000u | base << 5 | to);
}

static inline unsigned a64_add_immediate(uint32_t w)
{
	return w >> 10 & 0xfff;
}

/* add xD, xN, xM: a long branch of a linker's (ldr x16, 8; adr x17; add; br). */
static inline bool a64_is_add_register(uint32_t w, unsigned to, unsigned a, unsigned b)
{
	return w == (0x8b000000u | b << 16 | a << 5 | to);
}

/* ------------------------------------------------------------ sequences of them */

/*
 * The address that is loaded from and jumped through by
 *
 *	[bti c]; adrp x16, slot; ldr xT, [x16, #:lo12:slot]; [add x16, x16, ...]; [autia1716]; br xT
 *
 * at @ip, of which @len bytes are at @bytes: a trampoline (T = 16), a module's veneer (16), an
 * entry of a PLT (17; or 16). 0 where it is something else.
 */
static inline uint64_t a64_jump_slot(const uint8_t *bytes, size_t len, uint64_t ip)
{
	size_t at = 0, end;
	uint64_t slot;
	uint32_t load;
	unsigned to;

	if (len >= A64_LEN && a64_is_bti(a64_load(bytes)))
		at = A64_LEN;
	if (len < at + 3 * (size_t)A64_LEN || !a64_is_adrp(a64_load(bytes + at), A64_X16))
		return 0;
	load = a64_load(bytes + at + 4);
	to = load & 31;
	if ((to != A64_X16 && to != A64_X17) || !a64_is_ldr(load, to, A64_X16))
		return 0;
	slot = a64_adrp_page(a64_load(bytes + at), ip + at) + a64_ldr_offset(load);
	end = at + 8;
	if (to != A64_X16 && a64_is_add(a64_load(bytes + end), A64_X16, A64_X16))
		end += A64_LEN;
	if (to != A64_X16 && len >= end + A64_LEN && a64_load(bytes + end) == A64_AUTIA1716)
		end += A64_LEN;
	return len >= end + A64_LEN && a64_is_br(a64_load(bytes + end), to) ? slot : 0;
}

/*
 * Where a linker's stub at @ip leads that takes no word of memory that is written:
 *
 *	adrp x16, target; add x16, x16, #:lo12:target; br x16       (ld.bfd and lld, 4 GiB)
 *	ldr x16, 1f; br x16; 1: .quad target                        (lld, not position-independent)
 *	ldr x16, 1f; adr x17, .; add x16, x16, x17; br x16; 1: .quad target - "adr"     (ld.bfd)
 *	b target
 *
 * perhaps behind a bti c. 0: it is something else.
 */
static inline uint64_t a64_stub_target(const uint8_t *bytes, size_t len, uint64_t ip)
{
	uint32_t w[4] = {0};
	uint64_t literal;
	unsigned n;

	if (len >= A64_LEN && a64_is_bti(a64_load(bytes))) {
		bytes += A64_LEN;
		len -= A64_LEN;
		ip += A64_LEN;
	}
	for (n = 0; n < 4 && (n + 1) * (size_t)A64_LEN <= len; n++)
		w[n] = a64_load(bytes + n * (size_t)A64_LEN);
	if (n && a64_is_b(w[0]))
		return a64_branch_target(w[0], ip);
	if (a64_is_adrp(w[0], A64_X16) && a64_is_add(w[1], A64_X16, A64_X16) &&
	    a64_is_br(w[2], A64_X16))
		return a64_adrp_page(w[0], ip) + a64_add_immediate(w[1]);
	if (!a64_is_ldr_literal(w[0], A64_X16))
		return 0;
	literal = a64_ldr_literal_address(w[0], ip) - ip;
	if (literal > len || len - literal < 8)
		return 0;
	literal = a64_load(bytes + literal) | (uint64_t)a64_load(bytes + literal + 4) << 32;
	if (a64_is_br(w[1], A64_X16))
		return literal;
	if (a64_is_adr(w[1], A64_X17) && a64_is_add_register(w[2], A64_X16, A64_X16, A64_X17) &&
	    a64_is_br(w[3], A64_X16))
		return literal + a64_adr_address(w[1], ip + 4);
	return 0;
}

#endif
