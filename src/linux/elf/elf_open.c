/* SPDX-License-Identifier: MIT */
/* The ELF reader of elf.h: headers, sections, symbols and the build-id. */
#include "linux/elf/elf_read.h"

/* ---- headers ---- */

static int check_ident(const Elf64_Ehdr *eh, uint16_t machine)
{
	if (memcmp(eh->e_ident, ELFMAG, SELFMAG) != 0 || eh->e_ident[EI_CLASS] != ELFCLASS64 ||
	    eh->e_ident[EI_DATA] != ELFDATA2LSB || eh->e_ident[EI_VERSION] != EV_CURRENT) {
		return -ENOEXEC;
	}
	if (eh->e_machine != machine || (eh->e_type != ET_EXEC && eh->e_type != ET_DYN)) {
		return -ENOEXEC;
	}
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
	return shunt_elf_open_of(elf, &shunt_elf_native, image, size);
}

int shunt_elf_open_of(struct shunt_elf *elf, const struct shunt_elf_cpu *cpu, const void *image,
		      size_t size)
{
	Elf64_Ehdr eh;
	int ret;

	*elf = (struct shunt_elf){.image = image, .size = size, .cpu = cpu};
	if (size < sizeof(eh)) {
		return -ENOEXEC;
	}
	memcpy(&eh, image, sizeof(eh));
	ret = check_ident(&eh, cpu->machine);
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

int shunt_elf_section_header(const struct shunt_elf *elf, const char *name, Elf64_Shdr *header)
{
	size_t len = strlen(name) + 1;
	Elf64_Shdr names;

	if (!load_names(elf, &names)) {
		return -ENOENT;
	}
	for (uint64_t i = 1; i < elf->sections.count; i++) {
		*header = load_section(elf, i);
		if (in_range(header->sh_name, len, names.sh_size) &&
		    memcmp(elf->image + names.sh_offset + header->sh_name, name, len) == 0) {
			return 0;
		}
	}
	return -ENOENT;
}

const char *shunt_elf_section_name(const struct shunt_elf *elf, const Elf64_Shdr *header)
{
	const char *name;
	Elf64_Shdr names;

	if (!load_names(elf, &names) || header->sh_name >= names.sh_size)
		return NULL;
	name = (const char *)elf->image + names.sh_offset + header->sh_name;
	return memchr(name, '\0', names.sh_size - header->sh_name) ? name : NULL;
}

int shunt_elf_section(const struct shunt_elf *elf, const char *name, const uint8_t **data,
		      size_t *size)
{
	Elf64_Shdr sh;

	if (shunt_elf_section_header(elf, name, &sh) != 0) {
		return -ENOENT;
	}
	if (sh.sh_type == SHT_NOBITS || !in_range(sh.sh_offset, sh.sh_size, elf->size)) {
		return -EINVAL;
	}
	*data = elf->image + sh.sh_offset;
	*size = sh.sh_size;
	return 0;
}

const char *shunt_elf_rearranged(const struct shunt_elf *elf)
{
	Elf64_Shdr sh;

	if (shunt_elf_section_header(elf, ".note.bolt_info", &sh) == 0 ||
	    shunt_elf_section_header(elf, ".bolt.org.text", &sh) == 0) {
		return "llvm-bolt has moved its code";
	}
	return NULL;
}

const uint8_t *shunt_elf_mapped_at(const struct shunt_elf *elf, uint64_t vaddr, uint64_t *avail)
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

uint64_t shunt_elf_first_load(const struct shunt_elf *elf)
{
	for (uint64_t i = 0; i < elf->segments.count; i++) {
		Elf64_Phdr ph = load_segment(elf, i);

		if (ph.p_type == PT_LOAD) {
			return ph.p_vaddr;
		}
	}
	return 0;
}

const uint8_t *shunt_elf_at(const struct shunt_elf *elf, uint64_t vaddr, size_t len)
{
	uint64_t avail;
	const uint8_t *bytes = shunt_elf_mapped_at(elf, vaddr, &avail);

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

/* Whether its value is an address in the file: not of what is elsewhere, nor a number. */
static bool is_address(const struct shunt_elf_sym *sym)
{
	return sym->shndx != SHN_UNDEF && sym->shndx != SHN_ABS && sym->shndx != SHN_COMMON &&
	       sym->type != STT_SECTION && sym->type != STT_FILE && sym->type != STT_TLS;
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
		if (!is_address(&sym) || (rest[0] != '\0' && (rest[0] != '@' || rest[1] != '@'))) {
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
