/* SPDX-License-Identifier: MIT */
/*
 * The core of `shunt bake` (bake.h): the image of an ELF file becomes the image of
 * the baked one.
 *
 * Everything that is loaded keeps its place in the file; what lies behind it, the
 * sections that are not loaded, is laid out anew without the relocations and with
 * the site table, and the section headers come last. A file that is not made like
 * that is refused.
 *
 * A kernel reads its table in memory: a file that has a loaded section of the table's
 * name, empty so far, gets the table there.
 */
#include "bake.h"

#include <stdlib.h>

#include <shunt/static_call.h>

#include "core/key.h"
#include "linux/elf/baked.h"
#include "linux/elf/elf_read.h"
#include "scan.h"

#define DROPPED 0 /* no section has this number */

struct bake {
	struct scan scan;
	Elf64_Ehdr eh;
	Elf64_Shdr *sections; /* as they will be, by old number */
	uint32_t *number;     /* the new one, by old number; DROPPED */
	uint32_t nr_kept;     /* sections that stay, with section 0 */
	uint64_t loaded_end;  /* up to here the file stays as it is */
	uint8_t *out;
	uint64_t out_size, room;
	bool has_place;   /* a loaded section for the table, */
	Elf64_Shdr place; /* this one */
	struct bake_result *result;
};

static int refuse(struct bake *b, const char *why)
{
	b->result->why = why;
	return -EINVAL;
}

static bool in_file(const struct bake *b, uint64_t offset, uint64_t size)
{
	return offset <= b->scan.elf.size && size <= b->scan.elf.size - offset;
}

static uint64_t later(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t nr_sections(const struct bake *b)
{
	return b->scan.elf.sections.count;
}

/* ---------------------------------------------------------- what is in the file */

/* Static relocations, which the linker kept; .rela.dyn and .rela.plt are loaded. */
static bool is_dropped(const Elf64_Shdr *sh)
{
	return (sh->sh_type == SHT_RELA || sh->sh_type == SHT_REL) && !(sh->sh_flags & SHF_ALLOC);
}

/* Find where that ends which must stay in its place. */
static int find_loaded_end(struct bake *b)
{
	const struct shunt_elf *elf = &b->scan.elf;

	b->loaded_end = sizeof(b->eh);
	if (elf->segments.count)
		b->loaded_end = later(b->loaded_end,
				      b->eh.e_phoff + elf->segments.count * sizeof(Elf64_Phdr));
	for (uint64_t i = 0; i < elf->segments.count; i++) {
		Elf64_Phdr ph;

		memcpy(&ph, elf->segments.data + i * sizeof(ph), sizeof(ph));
		if (!in_file(b, ph.p_offset, ph.p_filesz))
			return refuse(b, "cut off: a segment reaches beyond the end of the file");
		b->loaded_end = later(b->loaded_end, ph.p_offset + ph.p_filesz);
	}
	for (uint64_t i = 1; i < nr_sections(b); i++) {
		const Elf64_Shdr *sh = &b->sections[i];

		if (sh->sh_type == SHT_NOBITS || sh->sh_type == SHT_NULL)
			continue;
		if (!in_file(b, sh->sh_offset, sh->sh_size))
			return refuse(b, "cut off: a section reaches beyond the end of the file");
		if (sh->sh_flags & SHF_ALLOC)
			b->loaded_end = later(b->loaded_end, sh->sh_offset + sh->sh_size);
	}
	return 0;
}

/*
 * An archive or the like that somebody has appended would be lost, as no header
 * tells of it. (Up to 15 bytes may be padding.)
 */
static int check_nothing_behind(struct bake *b)
{
	uint64_t end = later(b->loaded_end, b->eh.e_shoff + nr_sections(b) * sizeof(Elf64_Shdr));

	for (uint64_t i = 1; i < nr_sections(b); i++)
		if (b->sections[i].sh_type != SHT_NOBITS && b->sections[i].sh_type != SHT_NULL)
			end = later(end, b->sections[i].sh_offset + b->sections[i].sh_size);
	if (b->scan.elf.size - end >= 16)
		return refuse(b, "has data behind its sections, which would be lost");
	return 0;
}

static int read_headers(struct bake *b)
{
	const struct shunt_elf *elf = &b->scan.elf;
	uint64_t n = elf->sections.count;

	memcpy(&b->eh, elf->image, sizeof(b->eh));
	if (b->eh.e_shnum == 0 || n >= SHN_LORESERVE - 1 || b->eh.e_shstrndx == SHN_UNDEF ||
	    b->eh.e_shstrndx >= n)
		return refuse(b, "has too many sections, or sections without names");
	b->sections = calloc(n, sizeof(b->sections[0]));
	b->number = calloc(n, sizeof(b->number[0]));
	if (!b->sections || !b->number)
		return -ENOMEM;
	memcpy(b->sections, elf->sections.data, n * sizeof(b->sections[0]));
	b->nr_kept = 1;
	for (uint64_t i = 1; i < n; i++)
		if (!is_dropped(&b->sections[i]))
			b->number[i] = b->nr_kept++;
	if (b->number[b->eh.e_shstrndx] == DROPPED ||
	    b->sections[b->eh.e_shstrndx].sh_type != SHT_STRTAB ||
	    b->sections[b->eh.e_shstrndx].sh_flags & SHF_ALLOC)
		return refuse(b, "has no table of section names");
	return 0;
}

/* ---------------------------------------------------------------- writing sections */

static bool is_moved(const struct bake *b, const Elf64_Shdr *sh)
{
	return sh->sh_type != SHT_NOBITS && sh->sh_type != SHT_NULL &&
	       !(sh->sh_flags & SHF_ALLOC) && sh->sh_offset + sh->sh_size > b->loaded_end;
}

/* @size zeroed bytes at the end of the new image; NULL: no memory. */
static uint8_t *append(struct bake *b, uint64_t size, uint64_t align)
{
	uint64_t start = (b->out_size + align - 1) & -align;
	uint64_t end = start + size;

	if (end > b->room) {
		uint64_t room = later(2 * b->room, end);
		uint8_t *grown = realloc(b->out, room);

		if (!grown)
			return NULL;
		memset(grown + b->room, 0, room - b->room);
		b->out = grown;
		b->room = room;
	}
	b->out_size = end;
	return b->out + start;
}

/* Move section @i behind what is there; its string table gets the new section's name. */
static int move_section(struct bake *b, uint64_t i, uint64_t *budget)
{
	static const char name[] = SHUNT_BAKED_SECTION;
	Elf64_Shdr *sh = &b->sections[i];
	uint64_t align = sh->sh_addralign ? sh->sh_addralign : 1;
	uint64_t size = sh->sh_size;
	uint8_t *to;

	if (align & (align - 1) || align > 65536)
		return refuse(b, "a section has an odd alignment");
	if (sh->sh_offset < b->loaded_end && i != b->eh.e_shstrndx)
		return refuse(b, "a section lies half within what is loaded");
	/* Sections that overlap could make a huge file of a small one. */
	if (size > *budget)
		return refuse(b, "sections overlap");
	*budget -= size;
	if (i == b->eh.e_shstrndx)
		size += sizeof(name);
	to = append(b, size, align);
	if (!to)
		return -ENOMEM;
	memcpy(to, b->scan.elf.image + sh->sh_offset, sh->sh_size);
	if (i == b->eh.e_shstrndx)
		memcpy(to + sh->sh_size, name, sizeof(name));
	sh->sh_offset = (uint64_t)(to - b->out);
	sh->sh_size = size;
	return 0;
}

static int write_sections(struct bake *b)
{
	uint64_t budget = b->scan.elf.size;

	b->room = b->scan.elf.size + 4096;
	b->out = calloc(b->room, 1);
	if (!b->out)
		return -ENOMEM;
	memcpy(b->out, b->scan.elf.image, b->loaded_end);
	b->out_size = b->loaded_end;
	for (uint64_t i = 1; i < nr_sections(b); i++) {
		int ret;

		if (b->number[i] == DROPPED ||
		    (!is_moved(b, &b->sections[i]) && i != b->eh.e_shstrndx))
			continue;
		ret = move_section(b, i, &budget);
		if (ret)
			return ret;
	}
	return 0;
}

/* ------------------------------------------------- section numbers, where they stand */

static uint32_t new_number(const struct bake *b, uint32_t old)
{
	return old < nr_sections(b) ? b->number[old] : old;
}

/* In the symbols of one table, which may be loaded and then is changed in its place. */
static int renumber_symbols(struct bake *b, const Elf64_Shdr *table)
{
	for (uint64_t i = 0; i < table->sh_size / sizeof(Elf64_Sym); i++) {
		uint8_t *at = b->out + table->sh_offset + i * sizeof(Elf64_Sym);
		uint32_t number;
		Elf64_Sym sym;

		memcpy(&sym, at, sizeof(sym));
		if (sym.st_shndx == SHN_XINDEX)
			return refuse(b, "has too many sections");
		if (sym.st_shndx == SHN_UNDEF || sym.st_shndx >= SHN_LORESERVE)
			continue;
		number = new_number(b, sym.st_shndx);
		sym.st_shndx = number == DROPPED ? SHN_ABS : (uint16_t)number;
		memcpy(at, &sym, sizeof(sym));
	}
	return 0;
}

static int renumber(struct bake *b)
{
	for (uint64_t i = 1; i < nr_sections(b); i++) {
		Elf64_Shdr *sh = &b->sections[i];
		int ret;

		if (b->number[i] == DROPPED)
			continue;
		if (sh->sh_type == SHT_SYMTAB || sh->sh_type == SHT_DYNSYM) {
			ret = renumber_symbols(b, sh);
			if (ret)
				return ret;
		}
		sh->sh_link = new_number(b, sh->sh_link);
		if (sh->sh_flags & SHF_INFO_LINK || sh->sh_type == SHT_RELA ||
		    sh->sh_type == SHT_REL)
			sh->sh_info = new_number(b, sh->sh_info);
	}
	return 0;
}

/* --------------------------------------------------------------------- direct calls */

/* Where the @len bytes at @vaddr are in the new image. */
static uint8_t *out_at(const struct bake *b, uint64_t vaddr, size_t len)
{
	const uint8_t *in = shunt_elf_at(&b->scan.elf, vaddr, len);

	return in ? b->out + (in - b->scan.elf.image) : NULL;
}

/*
 * What the core makes of @site for its key's initial value. The core compares with
 * this program's own addresses for NULL and RET0, and gives them as targets where a
 * jump to them is needed: they are put back to the file's.
 */
static bool direct_form(const struct bake *b, const struct scan_site *site, struct shunt_insn *insn)
{
	const struct shunt_site core_site = {.kind = site->kind};
	const uintptr_t nop = (uintptr_t)__static_call_nop;
	const uintptr_t return0 = (uintptr_t)__static_call_return0;
	uint64_t value = 0, in_file = 0;
	const char *symbol;

	switch (scan_initial(&b->scan, scan_key(&b->scan, site->key), &value, &symbol)) {
	case SCAN_NULL:
		in_file = b->scan.nop;
		value = nop;
		break;
	case SCAN_RET0:
		in_file = b->scan.return0;
		value = return0;
		break;
	case SCAN_FUNCTION:
		in_file = value;
		break;
	default:
		return false;
	}
	shunt_static_call_kind.direct(NULL, &core_site, value, insn);
	insn->target = in_file;
	if (insn->op == SHUNT_OP_NOP || insn->op == SHUNT_OP_RET || insn->op == SHUNT_OP_RET0)
		return true;
	/* Without a target of its own the file would have to go through the PLT. */
	return scan_has_text(&b->scan, in_file, 1);
}

/* Write the direct form of @site. False where it stays as linked. */
static bool write_direct(struct bake *b, const struct scan_site *site)
{
	unsigned len = shunt_site_len(site->kind & 0xf);
	uint8_t *at = out_at(b, site->addr, len);
	uint8_t bytes[SHUNT_INSN_MAX];
	struct shunt_insn insn;

	if (!at || !direct_form(b, site, &insn) || insn.len > len ||
	    shunt_insn_encode(&insn, site->addr, bytes) < 0)
		return false;
	/* What a jmp leaves over becomes nops, as in the core. */
	memset(at, 0x90, len);
	memcpy(at, bytes, insn.len);
	return true;
}

/* Tell libshunt that sites of @key do not go through the trampoline any more. */
static bool flag_key(struct bake *b, const struct scan_key *key)
{
	uint8_t *at =
		out_at(b, key->addr + offsetof(struct static_call_key, flags), sizeof(uint32_t));
	uint32_t flags;

	if (!at)
		return false;
	memcpy(&flags, at, sizeof(flags));
	flags |= STATIC_CALL_BAKED;
	memcpy(at, &flags, sizeof(flags));
	return true;
}

/* Count a site of @key that stays as linked by the reason. */
static void count_left(struct bake *b, const struct scan_key *key)
{
	enum scan_initial initial;
	const char *symbol;
	uint64_t target;

	if (key->imported) {
		*(key->own ? &b->result->interposable : &b->result->foreign) += 1;
		return;
	}
	initial = scan_initial(&b->scan, key, &target, &symbol);
	b->result->interposable += initial == SCAN_INTERPOSABLE;
	b->result->foreign += initial == SCAN_FOREIGN;
}

static void write_direct_calls(struct bake *b)
{
	for (size_t i = 0; i < b->scan.sites.n; i++) {
		struct scan_site *site = scan_site(&b->scan, i);
		const struct scan_key *key = scan_key(&b->scan, site->key);

		if (key->is_branch)
			continue;
		if (key->imported || !write_direct(b, site)) {
			count_left(b, key);
			continue;
		}
		site->direct = flag_key(b, key);
		b->result->direct++;
	}
}

/* ------------------------------------------------------------------------- the table */

/* The mods: keys that sites belong to. *mod_of_key by key: index + 1; 0: no sites. */
static int build_mods(struct bake *b, uint32_t *mod_of_key, struct list *mods, struct list *strings)
{
	for (size_t i = 0; i < b->scan.sites.n; i++) {
		uint32_t k = scan_site(&b->scan, i)->key;
		const struct scan_key *key = scan_key(&b->scan, k);
		struct shunt_baked_mod mod = {.key = key->addr,
					      .tramp = key->tramp,
					      .slot = key->slot,
					      .name = (uint32_t)strings->n};

		if (key->is_branch || mod_of_key[k])
			continue;
		for (const char *c = "__SCT__"; *c; c++)
			if (!list_add(strings, c, 1))
				return -ENOMEM;
		for (int c = 0; c <= key->name_len; c++)
			if (!list_add(strings, c < key->name_len ? &key->name[c] : "", 1))
				return -ENOMEM;
		if (!list_add(mods, &mod, sizeof(mod)))
			return -ENOMEM;
		if (mods->n > SHUNT_BAKED_MAX_MODS)
			return refuse(b, "has too many keys");
		mod_of_key[k] = (uint32_t)mods->n;
	}
	return 0;
}

static int build_sites(const struct bake *b, const uint32_t *mod_of_key, struct list *sites)
{
	for (size_t i = 0; i < b->scan.sites.n; i++) {
		const struct scan_site *site = scan_site(&b->scan, i);
		struct shunt_baked_site baked = {.off = (uint32_t)(site->addr - b->scan.base)};

		if (scan_key(&b->scan, site->key)->is_branch)
			continue;
		baked.what = site->kind | (site->direct ? SHUNT_BAKED_DIRECT : 0) |
			     (mod_of_key[site->key] - 1) << SHUNT_BAKED_MOD_SHIFT;
		if (!list_add(sites, &baked, sizeof(baked)))
			return -ENOMEM;
	}
	return 0;
}

/* Where the table of @size bytes goes in the new image; @sh gets the place. NULL: no memory. */
static uint8_t *table_place(struct bake *b, uint64_t size, Elf64_Shdr *sh)
{
	uint8_t *to = b->has_place ? b->out + b->place.sh_offset : append(b, size, 8);

	if (to) {
		sh->sh_offset = (uint64_t)(to - b->out);
		sh->sh_size = size;
	}
	return to;
}

static uint8_t *copy_list(uint8_t *to, const struct list *list, size_t size)
{
	if (list->n)
		memcpy(to, list->data, list->n * size);
	return to + list->n * size;
}

/* Put header, mods, sites and strings into the new image; @sh gets the place. */
static int place_table(struct bake *b, const struct list *mods, const struct list *sites,
		       const struct list *strings, Elf64_Shdr *sh)
{
	struct shunt_baked_header header = {
		.nr_mods = (uint32_t)mods->n,
		.nr_sites = (uint32_t)sites->n,
		.strings_off = sizeof(header) + mods->n * sizeof(struct shunt_baked_mod) +
			       sites->n * sizeof(struct shunt_baked_site),
		.base = b->scan.base,
	};
	uint64_t size = header.strings_off + strings->n;
	uint8_t *to;

	if (b->has_place && size > b->place.sh_size)
		return refuse(b, "its loaded section " SHUNT_BAKED_SECTION " is too small");
	to = table_place(b, size, sh);
	if (!to)
		return -ENOMEM;
	memcpy(header.magic, SHUNT_BAKED_MAGIC, sizeof(header.magic));
	memcpy(to, &header, sizeof(header));
	to = copy_list(to + sizeof(header), mods, sizeof(struct shunt_baked_mod));
	to = copy_list(to, sites, sizeof(struct shunt_baked_site));
	(void)copy_list(to, strings, 1);
	b->result->keys = mods->n;
	b->result->sites = sites->n;
	return 0;
}

static int write_table(struct bake *b, Elf64_Shdr *sh)
{
	uint32_t *mod_of_key = calloc(b->scan.keys.n + 1, sizeof(*mod_of_key));
	struct list mods = {0}, sites = {0}, strings = {0};
	int ret = mod_of_key ? build_mods(b, mod_of_key, &mods, &strings) : -ENOMEM;

	if (!ret)
		ret = build_sites(b, mod_of_key, &sites);
	if (!ret)
		ret = place_table(b, &mods, &sites, &strings, sh);
	list_free(&mods);
	list_free(&sites);
	list_free(&strings);
	free(mod_of_key);
	return ret;
}

/* -------------------------------------------------------------------------- the whole */

/* The section headers, those that stay and @table's, if it is new; then the ELF header. */
static int write_headers(struct bake *b, const Elf64_Shdr *table)
{
	uint32_t n = b->nr_kept + !b->has_place;
	uint8_t *to = append(b, n * sizeof(*table), 8);

	if (!to)
		return -ENOMEM;
	b->eh.e_shoff = (uint64_t)(to - b->out);
	b->eh.e_shnum = (uint16_t)n;
	b->eh.e_shstrndx = (uint16_t)b->number[b->eh.e_shstrndx];
	memcpy(to, &b->sections[0], sizeof(*table));
	for (uint64_t i = 1; i < nr_sections(b); i++)
		if (b->number[i] != DROPPED)
			memcpy(to + b->number[i] * sizeof(*table), &b->sections[i], sizeof(*table));
	if (!b->has_place)
		memcpy(to + b->nr_kept * sizeof(*table), table, sizeof(*table));
	memcpy(b->out, &b->eh, sizeof(b->eh));
	return 0;
}

static int bake(struct bake *b)
{
	Elf64_Shdr table = {.sh_type = SHT_PROGBITS, .sh_addralign = 8};
	int ret = read_headers(b);

	/* It is loaded, and nothing has been written into it yet, or the file would be baked. */
	b->has_place = !shunt_elf_section_header(&b->scan.elf, SHUNT_BAKED_SECTION, &b->place);
	if (!ret)
		ret = find_loaded_end(b);
	if (!ret)
		ret = check_nothing_behind(b);
	if (ret)
		return ret;
	table.sh_name = (uint32_t)b->sections[b->eh.e_shstrndx].sh_size;
	ret = write_sections(b);
	if (!ret)
		ret = renumber(b);
	if (ret)
		return ret;
	write_direct_calls(b);
	ret = write_table(b, &table);
	return ret ? ret : write_headers(b, &table);
}

/* Whether what came out reads back as what was meant: a last look before it is used. */
static int check(const struct bake *b)
{
	struct scan again;
	int ret = scan_open(&again, b->out, b->out_size);

	if (!ret && (!again.baked || again.sites.n != b->scan.sites.n))
		ret = -EINVAL;
	scan_close(&again);
	return ret;
}

int shunt_bake(const void *in, size_t size, void **out, size_t *out_size,
	       struct bake_result *result)
{
	struct bake b = {.result = result};
	int ret;

	*result = (struct bake_result){0};
	*out = NULL;
	ret = scan_open(&b.scan, in, size);
	if (!ret && b.scan.rearranged) {
		result->why = b.scan.rearranged;
		ret = -EINVAL;
	} else if (!ret && b.scan.baked) {
		result->why = "is baked already";
		ret = -EALREADY;
	} else if (!ret && b.scan.lack != SHUNT_ELF_LACKS_NOTHING) {
		result->why = shunt_elf_lack_text(b.scan.lack);
		ret = -ENODATA;
	}
	if (!ret)
		ret = bake(&b);
	if (!ret)
		ret = check(&b);
	scan_close(&b.scan);
	free(b.sections);
	free(b.number);
	if (ret) {
		free(b.out);
		return ret;
	}
	*out = b.out;
	*out_size = b.out_size;
	return 0;
}
