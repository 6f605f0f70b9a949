/* SPDX-License-Identifier: MIT */
/*
 * What the ELF reader (linux/elf) asks of a CPU: the code that compilers and linkers make of
 * static calls and static keys, by its bytes in a file or in memory. A folder of src/arch defines
 * it, in elf_code.c. The library has that of its own CPU; a tool reads files of any, and has the
 * others' under other names (foreign.h).
 *
 * All of it is without state; the bytes are unchecked, and need not be aligned. Addresses are those
 * that the caller gives for the bytes: link-time ones in a file.
 */
#ifndef SHUNT_ARCH_ELF_CODE_H
#define SHUNT_ARCH_ELF_CODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A reference from text to a symbol. */
struct shunt_elf_ref {
	uint64_t field;       /* address that the relocation names, as it stands in the file */
	int64_t addend;       /* x86-64: -4 at an instruction that ends with the field */
	uint32_t type;        /* R_*, of the CPU */
	uint32_t sym;         /* index in .symtab, less than elf->symtab.symbols.count */
	const uint8_t *bytes; /* the field in the image; NULL where the file lacks the text */
	uint64_t before;      /* bytes[-before] is the first byte of the field's section ... */
	uint64_t after;       /* ... and bytes[after - 1] the last, at least the field's fourth */
};

/* The instruction of a site, as its file or memory has it. */
struct shunt_elf_site {
	uint64_t addr;    /* of its first byte */
	uint64_t operand; /* what it calls or jumps to, or the slot that it goes through */
	uint8_t kind;     /* as struct shunt_site.kind */
};

/* The instruction of a static branch. */
struct shunt_elf_branch {
	uint8_t kind; /* SHUNT_KIND_BRANCH, SHUNT_KIND_BRANCH2 */
	bool jumps;
	bool tests;  /* the off form of a jmp; neither: it is a nop */
	uint64_t by; /* how far from its first byte the target is, modulo 2^64; of a nop 0 */
};

/* The most bytes of a PLT entry, or of a linker's stub, that are looked at; of any CPU. */
#define SHUNT_ELF_PLT_MAX 28

/* The most stubs that stand one behind the other between a call and its target. */
#define SHUNT_ELF_STUBS 3

/*
 * Decode the instruction that @ref's field is, or is the operand of. @bytes: the field, at @field,
 * in the file or in memory; there are four bytes from there on, and min(ref->before, 2) before
 * it. Whether the symbol is a trampoline, and the operand leads there, is for the caller to see.
 *
 * Returns NULL and @site, or why the reference is no site, in words.
 */
const char *shunt_elf_site_at(const struct shunt_elf_ref *ref, const uint8_t *bytes, uint64_t field,
			      struct shunt_elf_site *site) __attribute__((warn_unused_result));

/*
 * Find what the SHUNT_TRAMP_SIZE bytes (of the CPU) at @code, which stand at @vaddr, jump through,
 * if they are those of a trampoline: its key. A PLT entry may have them, too: whoever asks sees to
 * it that there is a key.
 */
bool shunt_elf_tramp_key(const uint8_t *code, uint64_t vaddr, uint64_t *key);

/*
 * Find the slot that the PLT entry of the @len bytes at @code, which stand at @vaddr, jumps
 * through. x86-64: an optional endbr64, mold's mov $index,%r11d, an optional bnd, jmp
 * *slot(%rip). aarch64: an optional bti c; adrp; ldr; an optional add and autia1716; br. False
 * where it is none. (A static call's trampoline looks the same, and jumps through its key: whoever
 * asks holds the slot against shunt_elf_for_each_slot.)
 */
bool shunt_elf_plt_slot(const uint8_t *code, size_t len, uint64_t vaddr, uint64_t *slot);

/*
 * Find where a stub leads that a linker has put in the way of a call which does not reach
 * its target (a veneer, a thunk): the @len bytes at @code, which stand at @vaddr. It may be
 * another one, or a PLT entry. False where it is none: x86-64 has none.
 */
bool shunt_elf_stub_target(const uint8_t *code, size_t len, uint64_t vaddr, uint64_t *target);

/*
 * Decode the branch in the @len bytes at @code: a jmp, the off form of one, or a nop. False where
 * it is none, with @branch as for a nop.
 */
bool shunt_elf_branch_at(const uint8_t *code, size_t len, struct shunt_elf_branch *branch);

/*
 * A call that is passed an address of the file, or what stands there: what a module's own last
 * function does with __dso_handle.
 */
struct shunt_elf_passing {
	uint64_t argument, callee;
	bool argument_is_slot, callee_is_slot; /* the word at the address is meant */
};

/* Decode the load of the first argument and the call behind it at @code. False: they are none. */
bool shunt_elf_passing_at(const uint8_t *code, size_t len, uint64_t vaddr,
			  struct shunt_elf_passing *passing);

/* The same for who has several CPUs, with what else differs in their files. */
struct shunt_elf_cpu {
	uint16_t machine; /* EM_* */
	uint16_t tramp_size;
	uint32_t site_lengths; /* by kind, four bits each */
	/* Relocations of text that may be sites: bit i stands for type first_ref + i. */
	uint32_t first_ref;
	uint64_t refs;
	/* Dynamic relocations of words. */
	uint32_t relative, absolute, glob_dat, jump_slot;
	const char *reach; /* of a call, in words */
	bool (*reaches)(uint64_t ip, uint64_t target);
	const char *(*site_at)(const struct shunt_elf_ref *ref, const uint8_t *bytes,
			       uint64_t field, struct shunt_elf_site *site);
	bool (*tramp_key)(const uint8_t *code, uint64_t vaddr, uint64_t *key);
	bool (*plt_slot)(const uint8_t *code, size_t len, uint64_t vaddr, uint64_t *slot);
	bool (*stub_target)(const uint8_t *code, size_t len, uint64_t vaddr, uint64_t *target);
	bool (*branch_at)(const uint8_t *code, size_t len, struct shunt_elf_branch *branch);
	/*
	 * Why a reference by a relocation of @type, from @text or from data, is no site, in words;
	 * NULL: it may be one, or it does not matter.
	 */
	const char *(*why_no_site)(uint32_t type, bool text);
};

/* That of the folder. */
extern const struct shunt_elf_cpu shunt_elf_native;

static inline bool shunt_elf_is_ref(const struct shunt_elf_cpu *cpu, uint32_t type)
{
	return type - cpu->first_ref < 64 && (cpu->refs >> (type - cpu->first_ref) & 1) != 0;
}

/* The length in bytes of the instruction at a site of @kind, a condition aside. */
static inline unsigned shunt_elf_site_len(const struct shunt_elf_cpu *cpu, unsigned kind)
{
	return cpu->site_lengths >> 4 * (kind & 0xf) & 0xf;
}

#endif
