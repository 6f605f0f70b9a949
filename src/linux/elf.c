/* SPDX-License-Identifier: MIT */
/*
 * The ELF reader of elf.h. Headers are copied out of the image with memcpy, as
 * nothing says that they are aligned; ranges are compared by subtraction, as a
 * sum may wrap.
 */
#include "linux/elf.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "headers are read as they stand");

/* Whether @len bytes at @offset lie within @size. */
static bool in_range(uint64_t offset, uint64_t len, uint64_t size)
{
	return offset <= size && len <= size - offset;
}

static Elf64_Phdr load_segment(const struct shunt_elf *elf, uint64_t i)
{
	Elf64_Phdr ph;

	memcpy(&ph, elf->segments.data + i * sizeof(ph), sizeof(ph));
	return ph;
}

static Elf64_Shdr load_section(const struct shunt_elf *elf, uint64_t i)
{
	Elf64_Shdr sh;

	memcpy(&sh, elf->sections.data + i * sizeof(sh), sizeof(sh));
	return sh;
}

/* A prefix of names, ready to be compared with many of them by one load each. */
struct prefix {
	const char *text;
	size_t len;
	uint64_t word; /* its first 8 bytes, or as many as there are */
	uint64_t mask; /* of those bytes */
};

static struct prefix prefix_of(const char *text)
{
	struct prefix p = {.text = text, .len = strlen(text), .mask = UINT64_MAX};

	memcpy(&p.word, text, p.len < sizeof(p.word) ? p.len : sizeof(p.word));
	if (p.len < sizeof(p.word)) {
		p.mask = (UINT64_C(1) << (p.len * 8)) - 1;
	}
	return p;
}

/* Whether the name at @offset of @tab's strings is there and begins with @p. */
static bool has_prefix(const struct shunt_elf_symtab *tab, uint32_t offset, const struct prefix *p)
{
	const char *name;
	uint64_t word;

	if (offset >= tab->strings_size) {
		return false;
	}
	name = tab->strings + offset;
	if (tab->strings_size - offset < sizeof(word)) {
		return strncmp(name, p->text, p->len) == 0;
	}
	memcpy(&word, name, sizeof(word));
	if (((word ^ p->word) & p->mask) != 0) {
		return false;
	}
	return p->len <= sizeof(word) || strncmp(name, p->text, p->len) == 0;
}

static uint32_t load_name_offset(const struct shunt_elf_symtab *tab, uint64_t i)
{
	uint32_t offset;

	memcpy(&offset, tab->symbols.data + i * sizeof(Elf64_Sym) + offsetof(Elf64_Sym, st_name),
	       sizeof(offset));
	return offset;
}

/* False where the name lies outside the strings. */
static bool load_symbol(const struct shunt_elf_symtab *tab, uint64_t i, struct shunt_elf_sym *sym)
{
	Elf64_Sym raw;

	memcpy(&raw, tab->symbols.data + i * sizeof(raw), sizeof(raw));
	if (raw.st_name >= tab->strings_size) {
		return false;
	}
	*sym = (struct shunt_elf_sym){
		.name = tab->strings + raw.st_name,
		.value = raw.st_value,
		.size = raw.st_size,
		.index = (uint32_t)i,
		.shndx = raw.st_shndx,
		.type = ELF64_ST_TYPE(raw.st_info),
		.binding = ELF64_ST_BIND(raw.st_info),
		.undefined = raw.st_shndx == SHN_UNDEF,
	};
	return true;
}

/* ---- headers ---- */

static int check_ident(const Elf64_Ehdr *eh)
{
	if (memcmp(eh->e_ident, ELFMAG, SELFMAG) != 0 || eh->e_ident[EI_CLASS] != ELFCLASS64 ||
	    eh->e_ident[EI_DATA] != ELFDATA2LSB || eh->e_ident[EI_VERSION] != EV_CURRENT) {
		return -ENOEXEC;
	}
	if (eh->e_machine != EM_X86_64 || (eh->e_type != ET_EXEC && eh->e_type != ET_DYN)) {
		return -ENOEXEC;
	}
	return 0;
}

/* Point @table at @count entries of @entry bytes at @offset. */
static int open_table(const struct shunt_elf *elf, struct shunt_elf_table *table, uint64_t offset,
		      uint64_t count, uint64_t entry)
{
	if (offset > elf->size || count > (elf->size - offset) / entry) {
		return -EINVAL;
	}
	*table = (struct shunt_elf_table){.data = elf->image + offset, .count = count};
	return 0;
}

/* Counts that do not fit the ELF header stand in the first section header. */
static int open_headers(struct shunt_elf *elf, const Elf64_Ehdr *eh)
{
	uint64_t nsections = eh->e_shnum;
	uint64_t nsegments = eh->e_phnum;
	Elf64_Shdr first = {0};

	if (eh->e_shoff != 0) {
		if (eh->e_shentsize != sizeof(first) ||
		    open_table(elf, &elf->sections, eh->e_shoff, 1, sizeof(first)) != 0) {
			return -EINVAL;
		}
		first = load_section(elf, 0);
		if (nsections == 0) {
			nsections = first.sh_size;
		}
		if (open_table(elf, &elf->sections, eh->e_shoff, nsections, sizeof(first)) != 0) {
			return -EINVAL;
		}
	}
	if (nsegments == PN_XNUM && eh->e_shoff != 0) {
		nsegments = first.sh_info;
	}
	if (nsegments == 0) {
		return 0;
	}
	if (eh->e_phentsize != sizeof(Elf64_Phdr)) {
		return -EINVAL;
	}
	return open_table(elf, &elf->segments, eh->e_phoff, nsegments, sizeof(Elf64_Phdr));
}

/* Point @tab at the symbol table in section @index and the strings it links to. */
static int open_symtab(const struct shunt_elf *elf, struct shunt_elf_symtab *tab, uint64_t index)
{
	Elf64_Shdr sh = load_section(elf, index);
	uint64_t count = sh.sh_size / sizeof(Elf64_Sym);
	Elf64_Shdr str;

	if (sh.sh_entsize != sizeof(Elf64_Sym) || sh.sh_link >= elf->sections.count ||
	    count > UINT32_MAX ||
	    open_table(elf, &tab->symbols, sh.sh_offset, count, sizeof(Elf64_Sym)) != 0) {
		return -EINVAL;
	}
	str = load_section(elf, sh.sh_link);
	if (str.sh_type != SHT_STRTAB || !in_range(str.sh_offset, str.sh_size, elf->size)) {
		return -EINVAL;
	}
	tab->strings = (const char *)elf->image + str.sh_offset;
	tab->strings_size = str.sh_size;
	tab->section = (uint32_t)index;
	if (tab->strings_size != 0 && tab->strings[tab->strings_size - 1] != '\0') {
		return -EINVAL;
	}
	return 0;
}

int shunt_elf_open(struct shunt_elf *elf, const void *image, size_t size)
{
	Elf64_Ehdr eh;
	int ret;

	*elf = (struct shunt_elf){.image = image, .size = size};
	if (size < sizeof(eh)) {
		return -ENOEXEC;
	}
	memcpy(&eh, image, sizeof(eh));
	ret = check_ident(&eh);
	if (ret == 0) {
		ret = open_headers(elf, &eh);
	}
	/* Section 0 is no section; its number stands for "none". */
	for (uint64_t i = 1; ret == 0 && i < elf->sections.count && i <= UINT32_MAX; i++) {
		uint32_t type = load_section(elf, i).sh_type;

		if (type == SHT_SYMTAB && elf->symtab.section == 0) {
			ret = open_symtab(elf, &elf->symtab, i);
		} else if (type == SHT_DYNSYM && elf->dynsym.section == 0) {
			ret = open_symtab(elf, &elf->dynsym, i);
		}
	}
	return ret;
}

/* The section that holds the names of the sections; false where there is none. */
static bool load_names(const struct shunt_elf *elf, Elf64_Shdr *names)
{
	Elf64_Ehdr eh;
	uint64_t index;

	memcpy(&eh, elf->image, sizeof(eh));
	index = eh.e_shstrndx;
	if (index == SHN_XINDEX && elf->sections.count != 0) {
		index = load_section(elf, 0).sh_link;
	}
	if (index == SHN_UNDEF || index >= elf->sections.count) {
		return false;
	}
	*names = load_section(elf, index);
	return names->sh_type == SHT_STRTAB &&
	       in_range(names->sh_offset, names->sh_size, elf->size);
}

int shunt_elf_section(const struct shunt_elf *elf, const char *name, const uint8_t **data,
		      size_t *size)
{
	size_t len = strlen(name) + 1;
	Elf64_Shdr names;

	if (!load_names(elf, &names)) {
		return -ENOENT;
	}
	for (uint64_t i = 1; i < elf->sections.count; i++) {
		Elf64_Shdr sh = load_section(elf, i);

		if (!in_range(sh.sh_name, len, names.sh_size) ||
		    memcmp(elf->image + names.sh_offset + sh.sh_name, name, len) != 0) {
			continue;
		}
		if (sh.sh_type == SHT_NOBITS || !in_range(sh.sh_offset, sh.sh_size, elf->size)) {
			return -EINVAL;
		}
		*data = elf->image + sh.sh_offset;
		*size = sh.sh_size;
		return 0;
	}
	return -ENOENT;
}
/* What the file maps from @vaddr on: the bytes, and how many there are. */
static const uint8_t *mapped_at(const struct shunt_elf *elf, uint64_t vaddr, uint64_t *avail)
{
	for (uint64_t i = 0; i < elf->segments.count; i++) {
		Elf64_Phdr ph = load_segment(elf, i);

		if (ph.p_type == PT_LOAD && vaddr >= ph.p_vaddr &&
		    vaddr - ph.p_vaddr < ph.p_filesz &&
		    in_range(ph.p_offset, ph.p_filesz, elf->size)) {
			*avail = ph.p_filesz - (vaddr - ph.p_vaddr);
			return elf->image + ph.p_offset + (vaddr - ph.p_vaddr);
		}
	}
	*avail = 0;
	return NULL;
}

const uint8_t *shunt_elf_at(const struct shunt_elf *elf, uint64_t vaddr, size_t len)
{
	uint64_t avail;
	const uint8_t *bytes = mapped_at(elf, vaddr, &avail);

	return avail >= len ? bytes : NULL;
}

/* ---- build-id ---- */

int shunt_elf_note_build_id(const void *notes, size_t size, uint64_t align, const uint8_t **id,
			    size_t *len)
{
	const uint8_t *bytes = notes;
	uint64_t pad = align == 8 ? 7 : 3;
	uint64_t offset = 0;

	while (in_range(offset, sizeof(Elf64_Nhdr), size)) {
		const uint8_t *note = bytes + offset;
		uint64_t desc;
		uint64_t end;
		Elf64_Nhdr nh;

		/* Both sizes have 32 bits: no sum of them wraps. */
		memcpy(&nh, note, sizeof(nh));
		desc = (sizeof(nh) + nh.n_namesz + pad) & ~pad;
		end = desc + nh.n_descsz;
		if (!in_range(offset, end, size)) {
			return -ENOENT;
		}
		if (nh.n_type == NT_GNU_BUILD_ID && nh.n_namesz == sizeof(ELF_NOTE_GNU) &&
		    memcmp(note + sizeof(nh), ELF_NOTE_GNU, sizeof(ELF_NOTE_GNU)) == 0 &&
		    nh.n_descsz != 0) {
			*id = note + desc;
			*len = nh.n_descsz;
			return 0;
		}
		offset += (end + pad) & ~pad;
	}
	return -ENOENT;
}

int shunt_elf_build_id(const struct shunt_elf *elf, const uint8_t **id, size_t *len)
{
	uint64_t budget = elf->size; /* segments that overlap would make the walk quadratic */

	for (uint64_t i = 0; i < elf->segments.count; i++) {
		Elf64_Phdr ph = load_segment(elf, i);

		if (ph.p_type != PT_NOTE) {
			continue;
		}
		if (!in_range(ph.p_offset, ph.p_filesz, elf->size) || ph.p_filesz > budget) {
			return -EINVAL;
		}
		budget -= ph.p_filesz;
		if (shunt_elf_note_build_id(elf->image + ph.p_offset, ph.p_filesz, ph.p_align, id,
					    len) == 0) {
			return 0;
		}
	}
	return -ENOENT;
}

/* Whether a readable PT_LOAD among the @count headers maps what @part covers. */
static bool is_loaded(const Elf64_Phdr *headers, size_t count, const Elf64_Phdr *part)
{
	for (size_t i = 0; i < count; i++) {
		const Elf64_Phdr *ph = &headers[i];

		if (ph->p_type == PT_LOAD && (ph->p_flags & PF_R) != 0 &&
		    part->p_vaddr >= ph->p_vaddr &&
		    in_range(part->p_vaddr - ph->p_vaddr, part->p_filesz, ph->p_filesz)) {
			return true;
		}
	}
	return false;
}

int shunt_elf_loaded_build_id(const void *headers, size_t count, uintptr_t bias, const uint8_t **id,
			      size_t *len)
{
	const Elf64_Phdr *ph = headers;

	for (size_t i = 0; i < count; i++) {
		if (ph[i].p_type == PT_NOTE && is_loaded(ph, count, &ph[i]) &&
		    shunt_elf_note_build_id((const void *)(bias + ph[i].p_vaddr), ph[i].p_filesz,
					    ph[i].p_align, id, len) == 0) {
			return 0;
		}
	}
	return -ENOENT;
}

/* ---- symbols ---- */

size_t shunt_elf_name_len(const char *name)
{
	return strcspn(name, "@");
}

int shunt_elf_for_each_sym(const struct shunt_elf *elf, const char *prefix, shunt_elf_sym_fn fn,
			   void *arg)
{
	struct prefix p = prefix_of(prefix);

	if (elf->symtab.section == 0) {
		return -ENODATA;
	}
	for (uint64_t i = 1; i < elf->symtab.symbols.count; i++) {
		struct shunt_elf_sym sym;
		int ret;

		if (!has_prefix(&elf->symtab, load_name_offset(&elf->symtab, i), &p) ||
		    !load_symbol(&elf->symtab, i, &sym)) {
			continue;
		}
		ret = fn(arg, &sym);
		if (ret != 0) {
			return ret;
		}
	}
	return 0;
}

static bool value_in(const struct shunt_elf_symtab *tab, const struct prefix *name, uint64_t *value)
{
	bool found = false;

	for (uint64_t i = 1; i < tab->symbols.count; i++) {
		struct shunt_elf_sym sym;
		const char *rest;

		if (!has_prefix(tab, load_name_offset(tab, i), name) ||
		    !load_symbol(tab, i, &sym)) {
			continue;
		}
		rest = sym.name + name->len;
		if (sym.undefined || sym.type == STT_SECTION || sym.type == STT_FILE ||
		    (rest[0] != '\0' && (rest[0] != '@' || rest[1] != '@'))) {
			continue;
		}
		if (sym.binding != STB_LOCAL || !found) {
			*value = sym.value;
			found = true;
		}
		if (sym.binding != STB_LOCAL) {
			break;
		}
	}
	return found;
}

int shunt_elf_symbol_value(const struct shunt_elf *elf, const char *name, uint64_t *value)
{
	struct prefix p = prefix_of(name);

	return value_in(&elf->symtab, &p, value) || value_in(&elf->dynsym, &p, value) ? 0 : -ENOENT;
}

/* ---- references from text ---- */

/*
 * The symbols that have the prefix, by the low bits of their index: exact for a
 * table of up to 64 Ki symbols, a filter before the name itself for a larger
 * one. It keeps the names out of the loop over the relocations.
 */
#define FILTER_BITS 65536U

struct filter {
	uint64_t words[FILTER_BITS / 64];
};

static void filter_build(struct filter *filter, const struct shunt_elf_symtab *tab,
			 const struct prefix *p)
{
	memset(filter, 0, sizeof(*filter));
	for (uint64_t i = 1; i < tab->symbols.count; i++) {
		if (has_prefix(tab, load_name_offset(tab, i), p)) {
			filter->words[i % FILTER_BITS / 64] |= UINT64_C(1) << (i % 64);
		}
	}
}

static bool filter_has(const struct filter *filter, uint32_t i)
{
	return (filter->words[i % FILTER_BITS / 64] >> (i % 64) & 1) != 0;
}

static bool is_reference(uint32_t type)
{
	return type == R_X86_64_PC32 || type == R_X86_64_PLT32 || type == R_X86_64_GOTPCREL ||
	       type == R_X86_64_GOTPCRELX || type == R_X86_64_REX_GOTPCRELX;
}

/*
 * Whether @rela holds static relocations of text, and if so, of which section.
 * .rela.dyn and .rela.plt are SHF_ALLOC and link to .dynsym or to nothing.
 */
static bool relocates_text(const struct shunt_elf *elf, const Elf64_Shdr *rela, Elf64_Shdr *text)
{
	if (rela->sh_type != SHT_RELA || (rela->sh_flags & SHF_ALLOC) != 0 ||
	    rela->sh_link != elf->symtab.section || rela->sh_info == SHN_UNDEF ||
	    rela->sh_info >= elf->sections.count) {
		return false;
	}
	*text = load_section(elf, rela->sh_info);
	return (text->sh_flags & SHF_ALLOC) != 0 && (text->sh_flags & SHF_EXECINSTR) != 0;
}

/* One walk over the references to the symbols with a prefix. */
struct ref_walk {
	const struct shunt_elf *elf;
	struct prefix prefix;
	shunt_elf_ref_fn fn;
	void *arg;
	struct filter filter;
};

/* Report @rela, which passed the filter, if it does have the prefix. */
static int visit_reference(const struct ref_walk *walk, const Elf64_Shdr *text,
			   const Elf64_Rela *rela)
{
	const struct shunt_elf_symtab *tab = &walk->elf->symtab;
	uint64_t offset = rela->r_offset - text->sh_addr;
	struct shunt_elf_ref ref = {
		.field = rela->r_offset,
		.addend = rela->r_addend,
		.type = (uint32_t)ELF64_R_TYPE(rela->r_info),
		.sym = (uint32_t)ELF64_R_SYM(rela->r_info),
		.before = offset,
	};
	struct shunt_elf_sym sym;

	if (ref.sym >= tab->symbols.count) {
		return -EINVAL;
	}
	if (!has_prefix(tab, load_name_offset(tab, ref.sym), &walk->prefix) ||
	    !load_symbol(tab, ref.sym, &sym)) {
		return 0;
	}
	if (rela->r_offset < text->sh_addr || !in_range(offset, sizeof(uint32_t), text->sh_size)) {
		return -EINVAL;
	}
	ref.after = text->sh_size - offset;
	if (text->sh_type != SHT_NOBITS) {
		ref.bytes = walk->elf->image + text->sh_offset + offset;
	}
	return walk->fn(walk->arg, &ref, &sym);
}

static int visit_section(const struct ref_walk *walk, const Elf64_Shdr *text,
			 const struct shunt_elf_table *relas)
{
	for (uint64_t i = 0; i < relas->count; i++) {
		Elf64_Rela rela;
		int ret;

		memcpy(&rela, relas->data + i * sizeof(rela), sizeof(rela));
		if (!is_reference((uint32_t)ELF64_R_TYPE(rela.r_info)) ||
		    !filter_has(&walk->filter, (uint32_t)ELF64_R_SYM(rela.r_info))) {
			continue;
		}
		ret = visit_reference(walk, text, &rela);
		if (ret != 0) {
			return ret;
		}
	}
	return 0;
}

int shunt_elf_for_each_ref(const struct shunt_elf *elf, const char *prefix, shunt_elf_ref_fn fn,
			   void *arg)
{
	struct ref_walk walk; /* the filter in it is filled where the first section asks for it */
	uint64_t budget = elf->size; /* sections that overlap would make the walk quadratic */
	bool found = false;

	for (uint64_t i = 1; elf->symtab.section != 0 && i < elf->sections.count; i++) {
		Elf64_Shdr sh = load_section(elf, i);
		struct shunt_elf_table relas;
		Elf64_Shdr text;
		int ret;

		if (!relocates_text(elf, &sh, &text)) {
			continue;
		}
		if (sh.sh_entsize != sizeof(Elf64_Rela) || sh.sh_size > budget ||
		    open_table(elf, &relas, sh.sh_offset, sh.sh_size / sizeof(Elf64_Rela),
			       sizeof(Elf64_Rela)) != 0 ||
		    (text.sh_type != SHT_NOBITS &&
		     !in_range(text.sh_offset, text.sh_size, elf->size))) {
			return -EINVAL;
		}
		budget -= sh.sh_size;
		if (!found) {
			walk.elf = elf;
			walk.prefix = prefix_of(prefix);
			walk.fn = fn;
			walk.arg = arg;
			filter_build(&walk.filter, &elf->symtab, &walk.prefix);
			found = true;
		}
		ret = visit_section(&walk, &text, &relas);
		if (ret != 0) {
			return ret;
		}
	}
	return found ? 0 : -ENODATA;
}

enum shunt_elf_lack shunt_elf_lack(const struct shunt_elf *elf)
{
	if (elf->sections.count == 0) {
		return SHUNT_ELF_LACKS_SECTIONS;
	}
	if (elf->symtab.section == 0) {
		return SHUNT_ELF_LACKS_SYMBOLS;
	}
	for (uint64_t i = 1; i < elf->sections.count; i++) {
		Elf64_Shdr sh = load_section(elf, i);
		Elf64_Shdr text;

		if (relocates_text(elf, &sh, &text)) {
			return SHUNT_ELF_LACKS_NOTHING;
		}
	}
	return SHUNT_ELF_LACKS_RELOCATIONS;
}

const char *shunt_elf_lack_text(enum shunt_elf_lack lack)
{
	switch (lack) {
	case SHUNT_ELF_LACKS_NOTHING:
		return "has relocations of its text";
	case SHUNT_ELF_LACKS_SECTIONS:
		return "has no section headers";
	case SHUNT_ELF_LACKS_SYMBOLS:
		return "has no symbol table (stripped)";
	case SHUNT_ELF_LACKS_RELOCATIONS:
		return "has no relocations of its text (not linked with -Wl,--emit-relocs)";
	}
	return "is in an unknown state";
}

/* ---- GOT slots ---- */

/* What PT_DYNAMIC says, as far as it concerns GOT slots: addresses and sizes. */
struct dynamic {
	uint64_t symtab;
	uint64_t strtab;
	uint64_t strings_size;
	uint64_t rela;
	uint64_t rela_size;
	uint64_t jmprel;
	uint64_t jmprel_size;
};

static void set_dynamic(struct dynamic *dyn, const Elf64_Dyn *entry)
{
	switch (entry->d_tag) {
	case DT_SYMTAB:
		dyn->symtab = entry->d_un.d_ptr;
		break;
	case DT_STRTAB:
		dyn->strtab = entry->d_un.d_ptr;
		break;
	case DT_STRSZ:
		dyn->strings_size = entry->d_un.d_val;
		break;
	case DT_RELA:
		dyn->rela = entry->d_un.d_ptr;
		break;
	case DT_RELASZ:
		dyn->rela_size = entry->d_un.d_val;
		break;
	case DT_JMPREL:
		dyn->jmprel = entry->d_un.d_ptr;
		break;
	case DT_PLTRELSZ:
		dyn->jmprel_size = entry->d_un.d_val;
		break;
	default:
		break;
	}
}

static int load_dynamic(const struct shunt_elf *elf, struct dynamic *dyn)
{
	*dyn = (struct dynamic){0};
	for (uint64_t i = 0; i < elf->segments.count; i++) {
		Elf64_Phdr ph = load_segment(elf, i);
		Elf64_Dyn entry;

		if (ph.p_type != PT_DYNAMIC) {
			continue;
		}
		if (!in_range(ph.p_offset, ph.p_filesz, elf->size)) {
			return -EINVAL;
		}
		for (uint64_t at = 0; in_range(at, sizeof(entry), ph.p_filesz);
		     at += sizeof(entry)) {
			memcpy(&entry, elf->image + ph.p_offset + at, sizeof(entry));
			if (entry.d_tag == DT_NULL) {
				break;
			}
			set_dynamic(dyn, &entry);
		}
		return 0;
	}
	return -ENODATA;
}

/* The dynamic symbols as the segments map them: as many as could be there. */
static int open_dynamic_symtab(const struct shunt_elf *elf, const struct dynamic *dyn,
			       struct shunt_elf_symtab *tab)
{
	uint64_t avail;

	*tab = (struct shunt_elf_symtab){0};
	tab->symbols.data = mapped_at(elf, dyn->symtab, &avail);
	tab->symbols.count = avail / sizeof(Elf64_Sym);
	tab->strings = (const char *)mapped_at(elf, dyn->strtab, &avail);
	tab->strings_size = dyn->strings_size;
	if (tab->strings_size > avail ||
	    (tab->strings_size != 0 && tab->strings[tab->strings_size - 1] != '\0')) {
		return -EINVAL;
	}
	return 0;
}

/* A table of dynamic relocations, and whose slots are wanted. */
struct slot_walk {
	const struct shunt_elf *elf;
	const struct shunt_elf_symtab *tab;
	struct prefix prefix;
	shunt_elf_slot_fn fn;
	void *arg;
};

/* Visit the relocations of @type among the @size bytes at @vaddr. */
static int visit_slots(const struct slot_walk *walk, uint64_t vaddr, uint64_t size, uint32_t type)
{
	const uint8_t *relas = shunt_elf_at(walk->elf, vaddr, size);

	if (size != 0 && relas == NULL) {
		return -EINVAL;
	}
	for (uint64_t i = 0; i < size / sizeof(Elf64_Rela); i++) {
		struct shunt_elf_sym sym;
		Elf64_Rela rela;
		int ret;

		memcpy(&rela, relas + i * sizeof(rela), sizeof(rela));
		if (ELF64_R_TYPE(rela.r_info) != type) {
			continue;
		}
		if (ELF64_R_SYM(rela.r_info) >= walk->tab->symbols.count ||
		    !load_symbol(walk->tab, ELF64_R_SYM(rela.r_info), &sym)) {
			return -EINVAL;
		}
		if (strncmp(sym.name, walk->prefix.text, walk->prefix.len) != 0) {
			continue;
		}
		ret = walk->fn(walk->arg, rela.r_offset, &sym);
		if (ret != 0) {
			return ret;
		}
	}
	return 0;
}

int shunt_elf_for_each_slot(const struct shunt_elf *elf, const char *prefix, shunt_elf_slot_fn fn,
			    void *arg)
{
	struct shunt_elf_symtab tab;
	struct slot_walk walk = {
		.elf = elf, .tab = &tab, .prefix = prefix_of(prefix), .fn = fn, .arg = arg};
	struct dynamic dyn;
	int ret;

	ret = load_dynamic(elf, &dyn);
	if (ret == 0) {
		ret = open_dynamic_symtab(elf, &dyn, &tab);
	}
	if (ret == 0) {
		ret = visit_slots(&walk, dyn.jmprel, dyn.jmprel_size, R_X86_64_JUMP_SLOT);
	}
	if (ret == 0) {
		ret = visit_slots(&walk, dyn.rela, dyn.rela_size, R_X86_64_GLOB_DAT);
	}
	return ret;
}

struct slot_search {
	const char *symbol;
	uint64_t slot;
};

static int match_slot(void *arg, uint64_t slot, const struct shunt_elf_sym *sym)
{
	struct slot_search *search = arg;

	search->slot = slot;
	return strcmp(sym->name, search->symbol) == 0;
}

int shunt_elf_got_slot(const struct shunt_elf *elf, const char *symbol, uint64_t *slot)
{
	struct slot_search search = {.symbol = symbol};
	int ret = shunt_elf_for_each_slot(elf, symbol, match_slot, &search);

	if (ret == 1) {
		*slot = search.slot;
		return 0;
	}
	return ret == 0 ? -ENOENT : ret;
}

/* ---- functions ---- */

struct function {
	uint64_t start;
	uint64_t end; /* greater than start */
	const char *name;
	uint64_t order; /* among all symbols */
	size_t below;   /* on the stack of the sweep */
};

/* How many symbols there are in both tables. */
static uint64_t count_symbols(const struct shunt_elf *elf)
{
	return elf->symtab.symbols.count + elf->dynsym.symbols.count;
}

/*
 * Symbol @order, .symtab's before .dynsym's; false where it is no function, or
 * one that covers nothing. A .symtab that strip --strip-unneeded has left may
 * hold nothing but what the relocations name: .dynsym may know more.
 */
static bool load_function(const struct shunt_elf *elf, uint64_t order, struct function *func)
{
	const struct shunt_elf_symtab *tab = &elf->symtab;
	struct shunt_elf_sym sym;
	uint64_t i = order;
	uint64_t size;

	if (i >= tab->symbols.count) {
		i -= tab->symbols.count;
		tab = &elf->dynsym;
	}
	if (!load_symbol(tab, i, &sym) || sym.undefined ||
	    (sym.type != STT_FUNC && sym.type != STT_GNU_IFUNC)) {
		return false;
	}
	size = sym.size != 0 ? sym.size : 1;
	*func = (struct function){.start = sym.value, .name = sym.name, .order = order};
	func->end = size > UINT64_MAX - sym.value ? UINT64_MAX : sym.value + size;
	return func->end > func->start;
}

const char *shunt_elf_function_at(const struct shunt_elf *elf, uint64_t vaddr, uint64_t *start)
{
	uint64_t count = count_symbols(elf);
	struct function best = {0};

	for (uint64_t i = 0; i < count; i++) {
		struct function func;

		if (!load_function(elf, i, &func) || vaddr < func.start || vaddr >= func.end) {
			continue;
		}
		if (best.name == NULL || func.start > best.start ||
		    (func.start == best.start && func.end < best.end)) {
			best = func;
		}
	}
	if (best.name != NULL && start != NULL) {
		*start = best.start;
	}
	return best.name;
}

/* By start; of those with one start, the one that goes before the others comes last. */
static int compare_functions(const void *left, const void *right)
{
	const struct function *a = left;
	const struct function *b = right;

	if (a->start != b->start) {
		return a->start < b->start ? -1 : 1;
	}
	if (a->end != b->end) {
		return a->end > b->end ? -1 : 1;
	}
	return (a->order < b->order) - (a->order > b->order);
}

/* From @begin on, @func is in force (NULL: none). */
static void add_span(struct shunt_elf_func_index *index, uint64_t begin,
		     const struct function *func)
{
	if (index->count == 0 || index->spans[index->count - 1].begin != begin) {
		index->count++;
	}
	index->spans[index->count - 1] = (struct shunt_elf_span){
		.begin = begin,
		.start = func != NULL ? func->start : 0,
		.name = func != NULL ? func->name : NULL,
	};
}

#define NO_FUNCTION SIZE_MAX

/*
 * Take functions that end by @limit off the stack whose top is @top; what they
 * lay upon is in force again. Returns the new top.
 */
static size_t end_functions(struct shunt_elf_func_index *index, const struct function *funcs,
			    size_t top, uint64_t limit)
{
	while (top != NO_FUNCTION && funcs[top].end <= limit) {
		size_t below = funcs[top].below;

		add_span(index, funcs[top].end, below != NO_FUNCTION ? &funcs[below] : NULL);
		top = below;
	}
	return top;
}

/*
 * Sweep over the sorted functions. The stack holds those that cover the current
 * address and may still come to light: each ends after the one above it.
 */
static void sweep(struct shunt_elf_func_index *index, struct function *funcs, size_t count)
{
	size_t top = NO_FUNCTION;

	for (size_t i = 0; i < count; i++) {
		top = end_functions(index, funcs, top, funcs[i].start);
		while (top != NO_FUNCTION && funcs[top].end <= funcs[i].end) {
			top = funcs[top].below;
		}
		funcs[i].below = top;
		top = i;
		add_span(index, funcs[i].start, &funcs[i]);
	}
	end_functions(index, funcs, top, UINT64_MAX);
}

int shunt_elf_func_index_build(struct shunt_elf_func_index *index, const struct shunt_elf *elf)
{
	uint64_t nsymbols = count_symbols(elf);
	struct function *funcs;
	size_t count = 0;

	/* A symbol takes 24 bytes of the image: none of these products overflows. */
	*index = (struct shunt_elf_func_index){0};
	funcs = malloc((nsymbols + 1) * sizeof(*funcs));
	if (funcs == NULL) {
		return -ENOMEM;
	}
	for (uint64_t i = 0; i < nsymbols; i++) {
		if (load_function(elf, i, &funcs[count])) {
			count++;
		}
	}
	/* Each function adds a span where it begins and one where it ends. */
	index->spans = calloc(2 * count + 1, sizeof(*index->spans));
	if (index->spans == NULL) {
		free(funcs);
		return -ENOMEM;
	}
	qsort(funcs, count, sizeof(*funcs), compare_functions);
	sweep(index, funcs, count);
	free(funcs);
	return 0;
}

const char *shunt_elf_func_index_at(const struct shunt_elf_func_index *index, uint64_t vaddr,
				    uint64_t *start)
{
	size_t low = 0;
	size_t high = index->count;

	/* Find how many spans begin by @vaddr. */
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (index->spans[middle].begin <= vaddr) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	if (low == 0 || index->spans[low - 1].name == NULL) {
		return NULL;
	}
	if (start != NULL) {
		*start = index->spans[low - 1].start;
	}
	return index->spans[low - 1].name;
}

void shunt_elf_func_index_free(struct shunt_elf_func_index *index)
{
	free(index->spans);
	*index = (struct shunt_elf_func_index){0};
}
