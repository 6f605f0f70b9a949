/* SPDX-License-Identifier: MIT */
/*
 * What compilers and linkers make of static calls (elf_code.h) for x86-64. Which instruction a
 * reference belongs to, what a trampoline jumps through, and what a PLT entry does.
 */
#include <elf.h>
#include <string.h>

#include "arch/arch.h"
#include "arch/elf_code.h"
#include "core/site.h"

/* The bytes of a relocated field. */
#define FIELD 4u

/*
 * Whether @insn, which begins @before bytes before the field, has the field as its operand and
 * can be a site. @got: the reference was to the symbol's GOT slot.
 */
static bool is_site(const struct shunt_insn *insn, unsigned before, bool got, const uint8_t *bytes)
{
	switch (insn->op) {
	case SHUNT_OP_CALL:
		return before == 1;
	case SHUNT_OP_JMP:
		/* A relaxed jmp *slot(%rip): e9 rel32 90, one byte earlier than the field. */
		return insn->len == 5 && (before == 1 || (got && bytes[FIELD - 1] == 0x90));
	case SHUNT_OP_JCC:
		return insn->len == before + FIELD;
	case SHUNT_OP_CALL_MEM:
	case SHUNT_OP_JMP_MEM:
		return got;
	default:
		return false;
	}
}

static uint8_t site_kind(const struct shunt_insn *insn)
{
	switch (insn->op) {
	case SHUNT_OP_CALL:
		return SHUNT_KIND_CALL;
	case SHUNT_OP_JMP:
		return SHUNT_KIND_JMP;
	case SHUNT_OP_CALL_MEM:
		return SHUNT_KIND_CALL_GOT;
	case SHUNT_OP_JMP_MEM:
		return SHUNT_KIND_JMP_GOT;
	default:
		return (uint8_t)(SHUNT_KIND_JCC | insn->cc << 4);
	}
}

static bool is_got(const struct shunt_elf_ref *ref)
{
	return ref->type != R_X86_64_PC32 && ref->type != R_X86_64_PLT32;
}

static bool site_before(const struct shunt_elf_ref *ref, const uint8_t *bytes, uint64_t field,
			unsigned before, struct shunt_elf_site *site)
{
	bool got = is_got(ref);
	struct shunt_insn insn;

	if (ref->before < before ||
	    shunt_insn_decode(bytes - before, before + FIELD, field - before, &insn) <= 0 ||
	    !is_site(&insn, before, got, bytes)) {
		return false;
	}
	*site = (struct shunt_elf_site){field - before, insn.target, site_kind(&insn)};
	return true;
}

/* Whether the field is the operand of @opcode, by the two bytes before it: relative to %rip. */
static bool is_operand_of(uint8_t opcode, const struct shunt_elf_ref *ref, const uint8_t *bytes)
{
	return ref->before >= 2 && bytes[-2] == opcode && (bytes[-1] & 0xc7) == 0x05;
}

static const char no_call[] = "no call or jmp of the trampoline";

/* What else the field is: by its instruction, as far as compilers and linkers make such. */
static const char *why_none(const struct shunt_elf_ref *ref, const uint8_t *bytes)
{
	if (is_operand_of(0x8b, ref, bytes)) {
		return "loaded into a register (-fno-plt, hoisted by the compiler)";
	}
	/* lea; and mov $imm,reg, which the linker makes of a load of the slot. */
	if (is_operand_of(0x8d, ref, bytes) ||
	    (is_got(ref) && ref->before >= 2 && bytes[-2] == 0xc7 && (bytes[-1] & 0xf8) == 0xc0)) {
		return "address taken";
	}
	return no_call;
}

const char *shunt_elf_site_at(const struct shunt_elf_ref *ref, const uint8_t *bytes, uint64_t field,
			      struct shunt_elf_site *site)
{
	/* Where both fit, a relaxed jmp's operand may look like the opcode of a call. */
	unsigned first = is_got(ref) ? 2 : 1;

	if (ref->addend != -4) {
		return no_call;
	}
	if (site_before(ref, bytes, field, first, site) ||
	    site_before(ref, bytes, field, 3 - first, site)) {
		return NULL;
	}
	return why_none(ref, bytes);
}

static const uint8_t endbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};

static bool has_endbr64(const uint8_t *code, size_t len)
{
	return len >= sizeof(endbr64) && memcmp(code, endbr64, sizeof(endbr64)) == 0;
}

/* The word that a jmp *word(%rip) in the @len bytes at @code, which stand at @vaddr, goes through.
 */
static bool jumps_through(const uint8_t *code, size_t len, uint64_t vaddr, uint64_t *word)
{
	struct shunt_insn insn;

	if (shunt_insn_decode(code, len, vaddr, &insn) <= 0 || insn.op != SHUNT_OP_JMP_MEM) {
		return false;
	}
	*word = insn.target;
	return true;
}

bool shunt_elf_tramp_key(const uint8_t *code, uint64_t vaddr, uint64_t *key)
{
	return has_endbr64(code, SHUNT_TRAMP_SIZE) &&
	       jumps_through(code + sizeof(endbr64), SHUNT_TRAMP_SIZE - sizeof(endbr64),
			     vaddr + sizeof(endbr64), key);
}

bool shunt_elf_plt_slot(const uint8_t *code, size_t len, uint64_t vaddr, uint64_t *slot)
{
	size_t at = has_endbr64(code, len) ? sizeof(endbr64) : 0;

	/* mold: mov $index,%r11d */
	if (len - at >= 6 && code[at] == 0x41 && code[at + 1] == 0xbb) {
		at += 6;
	}
	/* bnd */
	if (at < len && code[at] == 0xf2) {
		at++;
	}
	return jumps_through(code + at, len - at, vaddr + at, slot);
}

bool shunt_elf_branch_at(const uint8_t *code, size_t len, struct shunt_elf_branch *branch)
{
	struct shunt_insn insn;

	*branch = (struct shunt_elf_branch){.kind = SHUNT_KIND_BRANCH};
	if (shunt_insn_decode(code, len, 0, &insn) <= 0) {
		return false;
	}
	branch->jumps = insn.op == SHUNT_OP_JMP;
	branch->tests = insn.op == SHUNT_OP_TEST;
	branch->by = branch->jumps || branch->tests ? insn.target : 0;
	if ((branch->jumps || branch->tests) && insn.len == 2) {
		branch->kind = SHUNT_KIND_BRANCH2;
	}
	return branch->jumps || branch->tests || (insn.op == SHUNT_OP_NOP && insn.len == 5);
}

bool shunt_elf_stub_target(const uint8_t *code, size_t len, uint64_t vaddr, uint64_t *target)
{
	(void)code;
	(void)len;
	(void)vaddr;
	(void)target;
	return false;
}

/* Where a displacement of 32 bits at @field, the end of its instruction, leads to. */
static uint64_t relative(const uint8_t *code, size_t field, uint64_t vaddr)
{
	int32_t rel;

	memcpy(&rel, code + field, sizeof(rel));
	return vaddr + field + sizeof(rel) + (uint64_t)(int64_t)rel;
}

/* mov word(%rip),%rdi or lea; call rel32 or call *word(%rip) */
bool shunt_elf_passing_at(const uint8_t *code, size_t len, uint64_t vaddr,
			  struct shunt_elf_passing *passing)
{
	if (len < 13) {
		return false;
	}
	passing->argument_is_slot = memcmp(code, "\x48\x8b\x3d", 3) == 0;
	if (!passing->argument_is_slot && memcmp(code, "\x48\x8d\x3d", 3) != 0) {
		return false;
	}
	passing->argument = relative(code, 3, vaddr);
	passing->callee_is_slot = code[7] != 0xe8;
	if (passing->callee_is_slot && (code[7] != 0xff || code[8] != 0x15)) {
		return false;
	}
	passing->callee = relative(code, passing->callee_is_slot ? 9 : 8, vaddr);
	return true;
}

static const char *why_no_site(uint32_t type, bool text)
{
	switch (type) {
	case R_X86_64_64:
	case R_X86_64_32:
	case R_X86_64_32S:
		if (!text) {
			return "address stands in data";
		}
		return type == R_X86_64_64 ? "moved into a register (-mcmodel=large)"
					   : "address taken";
	case R_X86_64_PC32:
	case R_X86_64_PLT32:
		return text ? NULL : "address stands in data";
	case R_X86_64_GOTOFF64:
	case R_X86_64_PLTOFF64:
	case R_X86_64_GOT64:
	case R_X86_64_GOTPCREL64:
		return "moved into a register (-mcmodel=large)";
	default:
		return NULL;
	}
}

static bool reaches(uint64_t ip, uint64_t target)
{
	return shunt_insn_reach(ip + SHUNT_PLAIN_LEN, target);
}

#define REF(type) (UINT64_C(1) << (type))

const struct shunt_elf_cpu shunt_elf_native = {
	.machine = EM_X86_64,
	.tramp_size = SHUNT_TRAMP_SIZE,
	.site_lengths = SHUNT_SITE_LENGTHS,
	.refs = REF(R_X86_64_PC32) | REF(R_X86_64_PLT32) | REF(R_X86_64_GOTPCREL) |
		REF(R_X86_64_GOTPCRELX) | REF(R_X86_64_REX_GOTPCRELX),
	.relative = R_X86_64_RELATIVE,
	.absolute = R_X86_64_64,
	.glob_dat = R_X86_64_GLOB_DAT,
	.jump_slot = R_X86_64_JUMP_SLOT,
	.reach = SHUNT_REACH_NAME,
	.reaches = reaches,
	.site_at = shunt_elf_site_at,
	.tramp_key = shunt_elf_tramp_key,
	.plt_slot = shunt_elf_plt_slot,
	.stub_target = shunt_elf_stub_target,
	.branch_at = shunt_elf_branch_at,
	.why_no_site = why_no_site,
};
