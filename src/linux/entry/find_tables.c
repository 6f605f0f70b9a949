/* SPDX-License-Identifier: MIT */
/*
 * Entries that the compiler has listed.
 *
 * __patchable_function_entries, __mcount_loc: an address each. In a file that is not loaded where
 * it was linked for, the words are zero and relocations have them; or the words are right, for
 * RELR. A word that is neither belonged to a function that the linker has thrown away.
 *
 * xray_instr_map: 32 bytes a sled.
 */
#include <elf.h>
#include <errno.h>
#include <string.h>

#include <shunt/port.h>

#include "arch/arch.h"
#include "linux/elf/elf_read.h"
#include "linux/entry/finder.h"

/* ------------------------------------------------------------------ tables of words */

struct words {
	uint64_t vaddr;
	uint64_t n;
	uint64_t *word;
};

static int relocate(void *arg, uint64_t vaddr, uint64_t value)
{
	struct words *w = arg;
	uint64_t off = vaddr - w->vaddr;

	if (off % 8 == 0 && off / 8 < w->n)
		w->word[off / 8] = value;
	return 0;
}

/* Call @visit for each word of the section @sh. */
static int for_each_word(struct shunt_find *f, const Elf64_Shdr *sh,
			 void (*visit)(struct shunt_find *f, uint64_t word))
{
	struct words w = {.vaddr = sh->sh_addr, .n = sh->sh_size / 8};
	int ret;

	if (sh->sh_type == SHT_NOBITS || !in_range(sh->sh_offset, sh->sh_size, f->elf->size))
		return -EINVAL;
	if (!w.n)
		return 0;
	w.word = shunt_port_alloc(w.n * sizeof(*w.word));
	if (!w.word)
		return -ENOMEM;
	memcpy(w.word, f->elf->image + sh->sh_offset, w.n * sizeof(*w.word));
	ret = shunt_elf_for_each_relative(f->elf, relocate, &w);
	for (uint64_t i = 0; i < w.n; i++)
		if (w.word[i])
			visit(f, w.word[i]);
	shunt_port_free(w.word, w.n * sizeof(*w.word));
	return ret == -ENODATA ? 0 : ret;
}

/* -------------------------------------------------- -fpatchable-function-entry */

/* The longest M of N,M that is looked through. */
#define MAX_BEFORE 256u

/* Whether [from, to) holds nothing but nops. */
static bool are_nops(const struct shunt_find *f, uint64_t from, uint64_t to)
{
	while (from < to) {
		uint64_t avail;
		const uint8_t *code = shunt_find_text(f, from, &avail);
		struct shunt_insn insn;

		if (!code || shunt_insn_decode(code, avail, from, &insn) <= 0 ||
		    insn.op != SHUNT_OP_NOP)
			return false;
		from += insn.len;
	}
	return from == to;
}

/*
 * Where the function starts of which @at is the first nop: behind those that stand before it, or
 * there, or at the landing pad before it. False: it is not known.
 */
static bool start_of(const struct shunt_find *f, uint64_t at, uint64_t *start)
{
	if (shunt_find_starts_at(f, at)) {
		*start = at;
		return true;
	}
	if (shunt_find_landing_pad(f, at - SHUNT_LANDING_PAD) &&
	    shunt_find_starts_at(f, at - SHUNT_LANDING_PAD)) {
		*start = at - SHUNT_LANDING_PAD;
		return true;
	}
	return shunt_find_next_start(f, at, at + MAX_BEFORE, start) && are_nops(f, at, *start);
}

/* How the nops at @ip can be poked; or why not. */
static const char *room_at(const struct shunt_find *f, uint64_t ip, struct shunt_found_entry *e)
{
	uint64_t avail = 0;
	const uint8_t *code = shunt_find_text(f, ip, &avail);

	return shunt_entry_room(code, avail, ip, &e->len, &e->prepare);
}

static void add_patchable(struct shunt_find *f, uint64_t at)
{
	struct shunt_found_entry *e;
	uint64_t start, ip;

	if (!shunt_find_code(f, at, 1))
		return;
	if (!start_of(f, at, &start)) {
		e = shunt_find_add(f, at, at, SHUNT_ENTRY_PATCHABLE, SHUNT_FORM_HEAD);
		if (e)
			e->why = "where its function starts is not known (stripped)";
		return;
	}
	ip = start > at ? start : at;
	ip += shunt_find_landing_pad(f, ip);
	e = shunt_find_add(f, ip, start, SHUNT_ENTRY_PATCHABLE, SHUNT_FORM_HEAD);
	if (e)
		e->why = room_at(f, ip, e);
}

/* ------------------------------------------------------------- -mrecord-mcount */

/* A nop in the place of a call: -mnop-mcount. The calls are found with all others (find_calls.c).
 */
static void add_mcount(struct shunt_find *f, uint64_t at)
{
	uint64_t start = at;
	uint64_t avail;
	const uint8_t *code = shunt_find_text(f, at, &avail);
	struct shunt_found_entry *e;
	struct shunt_insn insn;

	if (!code || shunt_insn_decode(code, avail, at, &insn) <= 0 || insn.op != SHUNT_OP_NOP ||
	    (insn.len != 5 && insn.len != 6))
		return;
	if (shunt_find_landing_pad(f, at - SHUNT_LANDING_PAD))
		start = at - SHUNT_LANDING_PAD;
	if (shunt_find_knows_starts(f) && !shunt_find_starts_at(f, start))
		return; /* the nop of a call of mcount(), which is no entry */
	e = shunt_find_add(f, at, start, SHUNT_ENTRY_FENTRY, SHUNT_FORM_HEAD);
	if (e)
		e->len = insn.len;
}

/* ------------------------------------------------------------------------- XRay */

#define SLED_SIZE 11u /* at least, of any CPU */

/* A sled as LLVM's AsmPrinter writes it. Version 2: from where each word stands. */
struct sled {
	uint64_t address, function;
	uint8_t kind, always, version, padding[13];
};

_Static_assert(sizeof(struct sled) == 32, "a format on disk");

enum { XRAY_ENTER = 0, XRAY_EXIT = 1, XRAY_TAIL = 2, XRAY_ENTER_ARGS = 3 };

static void add_sled(struct shunt_find *f, const struct sled *sled)
{
	const uint8_t *code = shunt_find_code(f, sled->address, SLED_SIZE);
	enum shunt_entry_form form = sled->kind == XRAY_EXIT   ? SHUNT_FORM_RETURN
				     : sled->kind == XRAY_TAIL ? SHUNT_FORM_TAIL
							       : SHUNT_FORM_HEAD;
	struct shunt_found_entry *e;

	if (!code || sled->kind > XRAY_ENTER_ARGS || !shunt_find_code(f, sled->function, 1))
		return;
	e = shunt_find_add(f, sled->address, sled->function, SHUNT_ENTRY_XRAY, form);
	if (!e)
		return;
	e->why = shunt_sled_room(code, SLED_SIZE, sled->kind == XRAY_EXIT, &e->len, &e->prepare);
}

static int add_sleds(struct shunt_find *f, const Elf64_Shdr *sh)
{
	if (sh->sh_type == SHT_NOBITS || !in_range(sh->sh_offset, sh->sh_size, f->elf->size))
		return -EINVAL;
	for (uint64_t at = 0; at + sizeof(struct sled) <= sh->sh_size; at += sizeof(struct sled)) {
		struct sled sled;

		memcpy(&sled, f->elf->image + sh->sh_offset + at, sizeof(sled));
		if (sled.version > 2)
			continue;
		if (sled.version == 2) {
			sled.address += sh->sh_addr + at + offsetof(struct sled, address);
			sled.function += sh->sh_addr + at + offsetof(struct sled, function);
		}
		add_sled(f, &sled);
	}
	return 0;
}

/* --------------------------------------------------------------------------- all */

static int add_table(struct shunt_find *f, const Elf64_Shdr *sh, const char *name)
{
	if (!strcmp(name, "__patchable_function_entries"))
		return for_each_word(f, sh, add_patchable);
	if (!strcmp(name, "__mcount_loc"))
		return for_each_word(f, sh, add_mcount);
	if (!strcmp(name, "xray_instr_map"))
		return add_sleds(f, sh);
	return 0;
}

/* Many sections of one name, as a linker script may leave them; their sum is bounded. */
#define MAX_TABLES 64

int shunt_find_tables(struct shunt_find *f)
{
	uint64_t budget = f->elf->size;
	unsigned tables = 0;

	for (uint64_t i = 1; i < f->elf->sections.count && tables < MAX_TABLES; i++) {
		Elf64_Shdr sh = load_section(f->elf, i);
		const char *name = shunt_elf_section_name(f->elf, &sh);
		int ret;

		if (!name || !(sh.sh_flags & SHF_ALLOC))
			continue;
		if (strcmp(name, "__patchable_function_entries") != 0 &&
		    strcmp(name, "__mcount_loc") != 0 && strcmp(name, "xray_instr_map") != 0)
			continue;
		if (sh.sh_size > budget)
			return -EINVAL;
		budget -= sh.sh_size;
		tables++;
		ret = add_table(f, &sh, name);
		if (ret)
			return ret;
	}
	return 0;
}
