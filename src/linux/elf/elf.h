/* SPDX-License-Identifier: MIT */
/*
 * Reads a module's own ELF file: where its text refers to trampolines (the
 * relocations that -Wl,--emit-relocs keeps), which function an address lies in,
 * where a symbol's GOT slot is, and whether the file is the one that is mapped.
 *
 * The image is bytes that nothing has checked: it may be cut off, damaged or
 * made to do harm. Every offset is checked against the image before it is used,
 * nothing is assumed to be aligned, and every walk takes time linear in the size
 * of the image. What the file says is still only a claim: whoever patches text
 * looks at the live bytes first.
 *
 * Nothing here changes or keeps anything but the structures that the caller
 * owns; two threads may read one struct shunt_elf at a time. Only the function
 * index allocates; all else is async-signal-safe (and takes 9 KiB of stack).
 *
 * All addresses are link-time virtual addresses: add the load bias.
 */
#ifndef SHUNT_LINUX_ELF_H
#define SHUNT_LINUX_ELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arch/elf_code.h"

/* A table of @count entries of one size, all of them within the image. */
struct shunt_elf_table {
	const uint8_t *data;
	uint64_t count;
};

/*
 * A symbol table and its strings. @strings ends in NUL, or @strings_size is 0:
 * a name that begins within it ends within it.
 */
struct shunt_elf_symtab {
	struct shunt_elf_table symbols;
	const char *strings;
	uint64_t strings_size;
	uint32_t section; /* index of its section, 0 where there is no such table */
};

struct shunt_elf {
	const uint8_t *image;
	size_t size;
	const struct shunt_elf_cpu *cpu; /* whose code it holds */
	struct shunt_elf_table segments; /* program headers */
	struct shunt_elf_table sections; /* section headers; count 0: none */
	struct shunt_elf_symtab symtab;  /* .symtab */
	struct shunt_elf_symtab dynsym;  /* .dynsym */
};

/*
 * Check the headers of the @size bytes at @image and fill in @elf, which refers
 * to the image from then on. There is nothing to close.
 *
 * A file without section headers is a good file (see shunt_elf_lack).
 *
 * Returns 0; -ENOEXEC where it is no executable or shared object for Linux on this
 * CPU (64-bit, little-endian); -EINVAL where it claims to be one, but its
 * headers or symbol tables are malformed or reach beyond the image.
 */
int shunt_elf_open(struct shunt_elf *elf, const void *image, size_t size)
	__attribute__((warn_unused_result));

/* The same for a file of @cpu. */
int shunt_elf_open_of(struct shunt_elf *elf, const struct shunt_elf_cpu *cpu, const void *image,
		      size_t size) __attribute__((warn_unused_result));

/*
 * The @len bytes that the file maps at @vaddr, or NULL where no one segment
 * has them all in the file. Takes time linear in the number of segments.
 */
const uint8_t *shunt_elf_at(const struct shunt_elf *elf, uint64_t vaddr, size_t len);

/*
 * Find the contents of the section @name.
 *
 * Returns 0 with the @size bytes at @data (in the image), -ENOENT where there is no
 * such section, -EINVAL where it reaches beyond the image.
 */
int shunt_elf_section(const struct shunt_elf *elf, const char *name, const uint8_t **data,
		      size_t *size) __attribute__((warn_unused_result));

/*
 * Find the build-id in the PT_NOTE segments of the file.
 *
 * Returns 0 with the @len bytes at @id (in the image), -ENOENT where there is
 * none, -EINVAL where a segment reaches beyond the image.
 */
int shunt_elf_build_id(const struct shunt_elf *elf, const uint8_t **id, size_t *len)
	__attribute__((warn_unused_result));

/*
 * The same in the mapped module whose program headers are the @count Elf64_Phdr
 * at @headers (dl_phdr_info's dlpi_phdr) and whose load bias is @bias. Reads
 * only notes that lie in a readable PT_LOAD segment; the caller keeps the module
 * from being unloaded meanwhile.
 *
 * Returns 0 with the @len bytes at @id (in the mapping), or -ENOENT.
 */
int shunt_elf_loaded_build_id(const void *headers, size_t count, uintptr_t bias, const uint8_t **id,
			      size_t *len) __attribute__((warn_unused_result));

/*
 * The same in the @size bytes of notes at @notes, each padded to @align bytes
 * (p_align of their segment: 8 means 8, all else means 4).
 *
 * Returns 0 or -ENOENT. A malformed note ends the walk.
 */
int shunt_elf_note_build_id(const void *notes, size_t size, uint64_t align, const uint8_t **id,
			    size_t *len) __attribute__((warn_unused_result));

/* A symbol of .symtab or .dynsym. */
struct shunt_elf_sym {
	const char *name; /* in the image, NUL-terminated; see shunt_elf_name_len */
	uint64_t value;
	uint64_t size;
	uint32_t index;  /* in its table */
	uint16_t shndx;  /* as in the file: may be SHN_ABS, SHN_XINDEX... */
	uint8_t type;    /* STT_* */
	uint8_t binding; /* STB_* */
	uint8_t other;   /* st_other */
	bool undefined;
};

/* Called for each item found; anything but 0 ends the walk, which returns it. */
typedef int (*shunt_elf_sym_fn)(void *arg, const struct shunt_elf_sym *sym);
typedef int (*shunt_elf_ref_fn)(void *arg, const struct shunt_elf_ref *ref,
				const struct shunt_elf_sym *sym);
typedef int (*shunt_elf_slot_fn)(void *arg, uint64_t slot, const struct shunt_elf_sym *sym);

/*
 * The length of a symbol's name without the version that ld.bfd puts behind it
 * in .symtab ("__SCT__foo@VERS_1", "__SCT__foo@@VERS_1").
 */
size_t shunt_elf_name_len(const char *name);

/*
 * Call @fn for each symbol of .symtab whose name begins with @prefix, defined or
 * not, in the order of the table.
 *
 * Returns 0, what @fn returned, or -ENODATA where there is no .symtab.
 */
int shunt_elf_for_each_sym(const struct shunt_elf *elf, const char *prefix, shunt_elf_sym_fn fn,
			   void *arg) __attribute__((warn_unused_result));

/*
 * Call @fn for each relocation of text (SHF_ALLOC and SHF_EXECINSTR), kept by
 * -Wl,--emit-relocs, against a symbol of .symtab whose name begins with @prefix,
 * in the order of the file. Types: R_X86_64_PC32, PLT32, GOTPCREL, GOTPCRELX and
 * REX_GOTPCRELX; R_AARCH64_CALL26 and JUMP26.
 *
 * Not every reference is a site: the caller decodes the bytes. By type and
 * linker, with the field at @bytes:
 *
 *   PC32, PLT32       the opcode ends before the field: e8, e9 or 0f 8x. A 67
 *                     before the e8 may be a prefix (ld.bfd's relaxation of
 *                     ff 15) or the last byte of another instruction.
 *   CALL26, JUMP26    a bl or b, which is the field; it may lead to the linker's stub.
 *   *GOTPCREL*        ff 15 / ff 25 / REX 8b: still through the GOT; or relaxed
 *                     with the type kept (lld, gold): 67 e8 before the field;
 *                     e9 two bytes before the field, whose displacement begins
 *                     at bytes[-1] and is followed by 90; REX 8d (lea).
 *
 * Returns 0; what @fn returned; -ENODATA where the file has no relocations of
 * text (shunt_elf_lack says why); -EINVAL where they are malformed (@fn may have
 * been called by then).
 */
int shunt_elf_for_each_ref(const struct shunt_elf *elf, const char *prefix, shunt_elf_ref_fn fn,
			   void *arg) __attribute__((warn_unused_result));

/* What the symbol of a static call's trampoline begins with; its key's name follows. */
#define SHUNT_TRAMP_PREFIX "__SCT__"

/*
 * Why nothing is known of the sites of a file whose code has been moved behind the linker: it has
 * left the old code, which nobody runs, and the relocations of it. In words; NULL: it has not been.
 */
const char *shunt_elf_rearranged(const struct shunt_elf *elf);

/* What a file lacks that a scan for references would need. */
enum shunt_elf_lack {
	SHUNT_ELF_LACKS_NOTHING = 0,
	SHUNT_ELF_LACKS_SECTIONS,    /* no section headers */
	SHUNT_ELF_LACKS_SYMBOLS,     /* no .symtab: stripped */
	SHUNT_ELF_LACKS_RELOCATIONS, /* not linked with --emit-relocs, or dropped since */
};

enum shunt_elf_lack shunt_elf_lack(const struct shunt_elf *elf);

/* The same in words, as the end of a message: "has no symbol table (stripped)". */
const char *shunt_elf_lack_text(enum shunt_elf_lack lack);

/*
 * Find the value of the defined symbol @name in .symtab, else in .dynsym. A
 * global or weak symbol goes before a local one of the same name, and a default
 * version ("name@@VERS") counts as the name.
 *
 * Returns 0 or -ENOENT.
 */
int shunt_elf_symbol_value(const struct shunt_elf *elf, const char *name, uint64_t *value)
	__attribute__((warn_unused_result));

/*
 * Call @fn with the address of each GOT slot that the dynamic linker fills with
 * a symbol whose name begins with @prefix: R_*_JUMP_SLOT of DT_JMPREL, then
 * R_*_GLOB_DAT of DT_RELA. Needs no section headers.
 *
 * Returns 0, what @fn returned, -ENODATA where the file has no PT_DYNAMIC (a
 * static executable), or -EINVAL where it is malformed.
 */
int shunt_elf_for_each_slot(const struct shunt_elf *elf, const char *prefix, shunt_elf_slot_fn fn,
			    void *arg) __attribute__((warn_unused_result));

/*
 * Find the GOT slot of @symbol: what its PLT entry jumps through, else what
 * code without PLT loads. lld and gold may give a symbol one of each: whoever
 * asks whether a slot is a symbol's compares with all (shunt_elf_for_each_slot).
 *
 * Returns 0, -ENOENT where it has none, or an error of shunt_elf_for_each_slot.
 */
int shunt_elf_got_slot(const struct shunt_elf *elf, const char *symbol, uint64_t *slot)
	__attribute__((warn_unused_result));

/*
 * The name of the function (STT_FUNC, STT_GNU_IFUNC) that covers @vaddr, in
 * .symtab or .dynsym; with @start not NULL, also its address. Where functions
 * are nested, the one that begins last; then the shortest; then the first, and
 * .symtab's before .dynsym's. A function of size 0 covers one byte.
 *
 * Returns NULL where no function covers it. Linear in the number of symbols.
 */
const char *shunt_elf_function_at(const struct shunt_elf *elf, uint64_t vaddr, uint64_t *start);

typedef int (*shunt_elf_relative_fn)(void *arg, uint64_t vaddr, uint64_t value);

/*
 * Call @fn for each word that the dynamic linker sets to an address in the file itself
 * (R_*_RELATIVE): where it is, and the address. Those of DT_RELR have theirs in place
 * and are not among them.
 *
 * Returns 0, what @fn returned, -ENODATA (no dynamic section) or -EINVAL.
 */
int shunt_elf_for_each_relative(const struct shunt_elf *elf, shunt_elf_relative_fn fn, void *arg)
	__attribute__((warn_unused_result));

/* From @begin to the next one's begin, the function @name (NULL: none) is in force. */
struct shunt_elf_span {
	uint64_t begin;
	uint64_t start; /* of the function */
	const char *name;
};

/* Answers as shunt_elf_function_at does, by bisection. */
struct shunt_elf_func_index {
	struct shunt_elf_span *spans;
	size_t count;
};

/*
 * Build the index. It refers to the image; free it with shunt_elf_func_index_free.
 *
 * Returns 0 (also where there are no functions) or -ENOMEM. Not async-signal-safe.
 */
int shunt_elf_func_index_build(struct shunt_elf_func_index *index, const struct shunt_elf *elf)
	__attribute__((warn_unused_result));

const char *shunt_elf_func_index_at(const struct shunt_elf_func_index *index, uint64_t vaddr,
				    uint64_t *start);

void shunt_elf_func_index_free(struct shunt_elf_func_index *index);

#endif
