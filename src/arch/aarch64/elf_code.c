/* SPDX-License-Identifier: MIT */
/*
 * What compilers and linkers make of static calls (elf_code.h) for aarch64. A site is a BL or B
 * that R_AARCH64_CALL26 or JUMP26 names: its relocation's field is the instruction itself. It leads
 * to the trampoline, to a PLT entry, or to a stub of the linker's that leads there.
 */
#include <elf.h>

#include "arch/aarch64/a64.h"
#include "arch/arch.h"
#include "arch/elf_code.h"
#include "core/site.h"

const char *shunt_elf_site_at(const struct shunt_elf_ref *ref, const uint8_t *bytes, uint64_t field,
			      struct shunt_elf_site *site)
{
	uint32_t word = a64_load(bytes);
	bool links = a64_is_bl(word);

	if ((ref->type != R_AARCH64_CALL26 && ref->type != R_AARCH64_JUMP26) ||
	    (!links && !a64_is_b(word)) || field % A64_LEN)
		return "not a bl or b";
	if (ref->addend != 0)
		return "leads to what is behind the trampoline's start";
	*site = (struct shunt_elf_site){
		.addr = field,
		.operand = a64_branch_target(word, field),
		.kind = links ? SHUNT_KIND_CALL : SHUNT_KIND_JMP,
	};
	return NULL;
}

/* bti c; adrp x16, key; ldr x16, [x16, #:lo12:key]; br x16 */
bool shunt_elf_tramp_key(const uint8_t *code, uint64_t vaddr, uint64_t *key)
{
	if (a64_load(code) != A64_BTI_C ||
	    !a64_is_br(a64_load(code + (size_t)3 * A64_LEN), A64_X16))
		return false;
	*key = a64_jump_slot(code, SHUNT_TRAMP_SIZE, vaddr);
	return *key != 0;
}

bool shunt_elf_plt_slot(const uint8_t *code, size_t len, uint64_t vaddr, uint64_t *slot)
{
	*slot = a64_jump_slot(code, len, vaddr);
	return *slot != 0;
}

bool shunt_elf_stub_target(const uint8_t *code, size_t len, uint64_t vaddr, uint64_t *target)
{
	*target = a64_stub_target(code, len, vaddr);
	return *target != 0;
}

bool shunt_elf_branch_at(const uint8_t *code, size_t len, struct shunt_elf_branch *branch)
{
	*branch = (struct shunt_elf_branch){.kind = SHUNT_KIND_BRANCH};
	if (len < A64_LEN)
		return false;
	branch->jumps = a64_is_b(a64_load(code));
	branch->by = branch->jumps ? a64_branch_target(a64_load(code), 0) : 0;
	return branch->jumps || a64_is_nop(a64_load(code));
}

/* adrp x0, page; ldr x0, [x0, #offset] or add; bl */
bool shunt_elf_passing_at(const uint8_t *code, size_t len, uint64_t vaddr,
			  struct shunt_elf_passing *passing)
{
	uint32_t part, call;

	if (len < (size_t)3 * A64_LEN || !a64_is_adrp(a64_load(code), 0))
		return false;
	part = a64_load(code + A64_LEN);
	call = a64_load(code + (size_t)2 * A64_LEN);
	passing->argument_is_slot = a64_is_ldr(part, 0, 0);
	if ((!passing->argument_is_slot && !a64_is_add(part, 0, 0)) || !a64_is_bl(call))
		return false;
	passing->argument =
		a64_adrp_page(a64_load(code), vaddr) +
		(passing->argument_is_slot ? a64_ldr_offset(part) : a64_add_immediate(part));
	passing->callee_is_slot = false;
	passing->callee = a64_branch_target(call, vaddr + (size_t)2 * A64_LEN);
	return true;
}

/*
 * What several instructions make of an address is one reference: that of the instruction which
 * nothing else can take the place of (of adrp and ldr or add the second, for the first may serve
 * several; of movz and movk the lowest part).
 */
static const char *why_no_site(uint32_t type, bool text)
{
	switch (type) {
	case R_AARCH64_ABS64:
	case R_AARCH64_ABS32:
	case R_AARCH64_PREL64:
	case R_AARCH64_PREL32:
		return text ? "address taken" : "address stands in data";
	case R_AARCH64_CONDBR19:
	case R_AARCH64_TSTBR14:
		return "a conditional branch, which cannot be replaced while it runs";
	case R_AARCH64_LD64_GOT_LO12_NC:
	case R_AARCH64_LD64_GOTPAGE_LO15:
	case R_AARCH64_LD64_GOTOFF_LO15:
	case R_AARCH64_GOT_LD_PREL19:
		return "loaded into a register (-fno-plt, or its address taken)";
	case R_AARCH64_ADR_PREL_LO21:
	case R_AARCH64_ADD_ABS_LO12_NC:
	case R_AARCH64_LD_PREL_LO19:
		return "address taken";
	case R_AARCH64_MOVW_UABS_G0:
	case R_AARCH64_MOVW_UABS_G0_NC:
		return "moved into a register (-mcmodel=large)";
	default:
		return NULL;
	}
}

#define REF(type) (UINT64_C(1) << ((type)-R_AARCH64_JUMP26))

const struct shunt_elf_cpu shunt_elf_native = {
	.machine = EM_AARCH64,
	.tramp_size = SHUNT_TRAMP_SIZE,
	.site_lengths = SHUNT_SITE_LENGTHS,
	.first_ref = R_AARCH64_JUMP26,
	.refs = REF(R_AARCH64_JUMP26) | REF(R_AARCH64_CALL26),
	.relative = R_AARCH64_RELATIVE,
	.absolute = R_AARCH64_ABS64,
	.glob_dat = R_AARCH64_GLOB_DAT,
	.jump_slot = R_AARCH64_JUMP_SLOT,
	.reach = SHUNT_REACH_NAME,
	.reaches = a64_branch_reaches,
	.site_at = shunt_elf_site_at,
	.tramp_key = shunt_elf_tramp_key,
	.plt_slot = shunt_elf_plt_slot,
	.stub_target = shunt_elf_stub_target,
	.branch_at = shunt_elf_branch_at,
	.why_no_site = why_no_site,
};
