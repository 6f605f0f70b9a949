/* SPDX-License-Identifier: MIT */
/*
 * Looks at the program's own text in memory, with a disassembler that is not ours
 * (Zydis): once the program runs, no instruction refers to a trampoline any more,
 * and each site is a plain "call rel32" or "jmp rel32" of the target. No
 * trampoline, no load.
 */
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <Zydis/Zydis.h>

#include "suite.h"
#include "tap.h"

struct options options;
volatile int zero;

/* ---------------------------------------------------- symbols of our own file */

static const char *image;
static const Elf64_Sym *symbols;
static size_t nr_symbols;
static const char *strings;
static uintptr_t bias;

static int first_module(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size, (void)arg;
	bias = info->dlpi_addr;
	return 1;
}

static bool read_symbols(void)
{
	int fd = open("/proc/self/exe", O_RDONLY);
	struct stat st;
	const Elf64_Ehdr *eh;
	const Elf64_Shdr *sh;

	if (fd < 0 || fstat(fd, &st))
		return false;
	image = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (image == MAP_FAILED)
		return false;
	eh = (const void *)image;
	sh = (const void *)(image + eh->e_shoff);
	for (size_t i = 0; i < eh->e_shnum; i++) {
		if (sh[i].sh_type != SHT_SYMTAB)
			continue;
		symbols = (const void *)(image + sh[i].sh_offset);
		nr_symbols = sh[i].sh_size / sizeof(*symbols);
		strings = image + sh[sh[i].sh_link].sh_offset;
	}
	dl_iterate_phdr(first_module, NULL);
	return nr_symbols > 0;
}

static const char *name_of(const Elf64_Sym *sym)
{
	return strings + sym->st_name;
}

static bool is_trampoline(uintptr_t addr)
{
	for (size_t i = 0; i < nr_symbols; i++)
		if (!strncmp(name_of(&symbols[i]), "__SCT__", 7) && symbols[i].st_value &&
		    bias + symbols[i].st_value == addr)
			return true;
	return false;
}

static bool is_key(uintptr_t addr)
{
	for (size_t i = 0; i < nr_symbols; i++)
		if (!strncmp(name_of(&symbols[i]), "__SCK__", 7) && symbols[i].st_value &&
		    bias + symbols[i].st_value == addr)
			return true;
	return false;
}

/* --------------------------------------------------------------- the text */

static struct {
	unsigned functions, instructions, trampolines, loads, undecoded;
} seen;

/*
 * Sites that say themselves that they are on the trampoline, because the target is
 * out of reach (RET0 in tail position, where libshunt is far from the program).
 */
static struct {
	uintptr_t addr[8];
	unsigned n;
} far;

static int note_far(const struct shunt_site_info *site, void *arg)
{
	(void)arg;
	if (site->state == SHUNT_SITE_TRAMPOLINE && strstr(site->why, "2 GiB") && far.n < 8)
		far.addr[far.n++] = (uintptr_t)site->addr;
	return 0;
}

static bool is_far(uintptr_t addr)
{
	for (unsigned i = 0; i < far.n; i++)
		if (far.addr[i] == addr)
			return true;
	return false;
}

/* What an instruction refers to: a branch's target, or a rip-relative operand. */
static void look_at(const ZydisDecodedInstruction *insn, const ZydisDecodedOperand *ops,
		    uintptr_t at, const char *function)
{
	for (unsigned i = 0; i < insn->operand_count; i++) {
		ZyanU64 to;

		if (ops[i].type != ZYDIS_OPERAND_TYPE_MEMORY &&
		    (ops[i].type != ZYDIS_OPERAND_TYPE_IMMEDIATE || !ops[i].imm.is_relative))
			continue;
		if (!ZYAN_SUCCESS(ZydisCalcAbsoluteAddress(insn, &ops[i], at, &to)))
			continue;
		if (is_trampoline(to)) {
			seen.trampolines += !is_far(at);
			diag("%s: %#lx refers to a trampoline%s", function, at,
			     is_far(at) ? ": its target is out of reach" : "");
		}
		/* An address (lea) is what an update takes; a load of the target is not. */
		if (is_key(to) && insn->mnemonic != ZYDIS_MNEMONIC_LEA) {
			seen.loads++;
			diag("%s: %#lx reads a key", function, at);
		}
	}
}

/* Behind a tail call that is off, a ret, the rest of the site is not reached and no instruction. */
struct off_tail {
	uintptr_t addr;
	unsigned len;
};

static int rest_of_site(const struct shunt_site_info *site, void *arg)
{
	struct off_tail *tail = arg;

	if ((uintptr_t)site->addr == tail->addr)
		tail->len = site->len;
	return 0;
}

static uintptr_t behind(const ZydisDecodedInstruction *insn, uintptr_t at)
{
	struct off_tail tail = {at, insn->length};

	if (insn->mnemonic == ZYDIS_MNEMONIC_RET)
		(void)shunt_for_each_site(NULL, rest_of_site, &tail);
	return at + tail.len;
}

static void disassemble(const ZydisDecoder *decoder, const Elf64_Sym *function)
{
	uintptr_t at = bias + function->st_value, end = at + function->st_size;
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];

	seen.functions++;
	while (at < end) {
		if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(decoder, (const void *)at, end - at, &insn,
							 ops))) {
			seen.undecoded++;
			diag("%s: cannot decode %#lx", name_of(function), at);
			return;
		}
		seen.instructions++;
		look_at(&insn, ops, at, name_of(function));
		at = behind(&insn, at);
	}
}

static void disassemble_all(const ZydisDecoder *decoder)
{
	memset(&seen, 0, sizeof(seen));
	for (size_t i = 0; i < nr_symbols; i++)
		if (ELF64_ST_TYPE(symbols[i].st_info) == STT_FUNC && symbols[i].st_shndx &&
		    strncmp(name_of(&symbols[i]), "__SCT__", 7) != 0)
			disassemble(decoder, &symbols[i]);
}

/* --------------------------------------------------------------- the sites */

struct count {
	const ZydisDecoder *decoder;
	uintptr_t target;
	unsigned sites, right;
};

static int check_site(const struct shunt_site_info *site, void *arg)
{
	struct count *c = arg;
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	ZyanU64 to = 0;

	c->sites++;
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(c->decoder, site->addr, 15, &insn, ops)))
		return 0;
	(void)ZydisCalcAbsoluteAddress(&insn, &ops[0], (ZyanU64)(uintptr_t)site->addr, &to);
	if (site->state == SHUNT_SITE_INLINE)
		c->right += insn.mnemonic == ZYDIS_MNEMONIC_CALL && insn.length == 5 &&
			    *(unsigned char *)site->addr == 0xe8 && to == c->target;
	else if (site->state == SHUNT_SITE_TAIL)
		c->right += insn.mnemonic == ZYDIS_MNEMONIC_JMP && insn.length == 5 &&
			    *(unsigned char *)site->addr == 0xe9 && to == c->target;
	else if (site->state == SHUNT_SITE_CONDITIONAL)
		c->right +=
			insn.mnemonic == ZYDIS_MNEMONIC_JS && insn.length == 6 && to == c->target;
	return 0;
}

static void test_sites(const ZydisDecoder *decoder, int (*target)(int), const char *name)
{
	struct count c = {.decoder = decoder, .target = (uintptr_t)target};
	int ret = shunt_for_each_site("st_add", check_site, &c);

	ok(ret == 0 && c.sites >= 6 && c.right == c.sites,
	   "%u of %u sites of st_add are direct calls of %s", c.right, c.sites, name);
	far.n = 0;
	ret = shunt_for_each_site(NULL, note_far, NULL);
	ok(ret == 0 && far.n <= 1, "%u sites are out of reach of their targets", far.n);
	disassemble_all(decoder);
	ok(seen.instructions > 1000 && !seen.undecoded,
	   "%u instructions in %u functions disassembled", seen.instructions, seen.functions);
	ok(seen.trampolines == 0, "none of the others refers to a trampoline");
	ok(seen.loads == 0, "none loads from a key");
}

int main(void)
{
	ZydisDecoder decoder;
	int ret;

	if (!ok(read_symbols(), "our own symbols"))
		return tap_done();
	(void)ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	test_sites(&decoder, add1, "add1");
	ret = static_call_update(st_add, add3);
	ok(ret == 0, "update");
	test_sites(&decoder, add3, "add3");
	return tap_done();
}
