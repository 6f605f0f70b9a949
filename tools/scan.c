/* SPDX-License-Identifier: MIT */
/*
 * Keys and sites from a file (scan.h). Which instruction is a site, and what a site table says, is
 * found by the same code as in the library (src/linux/elf); there the live bytes are
 * looked at and what the dynamic linker has bound, here the file and its dynamic relocations.
 */
#include "scan.h"

#include <limits.h>

#include "linux/elf/baked.h"
#include "linux/elf/elf_read.h"

#define PREFIX_LEN (sizeof(SHUNT_TRAMP_PREFIX) - 1) /* of __SKT__ and __SKF__, too */

/* ------------------------------------------------------------ the file's parts */

bool scan_has_text(const struct scan *scan, uint64_t vaddr, size_t len)
{
	for (uint64_t i = 0; i < scan->elf.segments.count; i++) {
		Elf64_Phdr ph = load_segment(&scan->elf, i);

		if (ph.p_type == PT_LOAD && (ph.p_flags & PF_X) && vaddr >= ph.p_vaddr &&
		    vaddr - ph.p_vaddr <= ph.p_filesz && len <= ph.p_filesz - (vaddr - ph.p_vaddr))
			return shunt_elf_at(&scan->elf, vaddr, len);
	}
	return false;
}

/* An array of records in a section: where it is in memory, and how many. */
static void find_array(const struct shunt_elf *elf, const char *name, size_t record,
		       uint64_t *vaddr, uint64_t *n)
{
	Elf64_Shdr sh;

	*vaddr = *n = 0;
	if (shunt_elf_section_header(elf, name, &sh) || !(sh.sh_flags & SHF_ALLOC) ||
	    !shunt_elf_at(elf, sh.sh_addr, sh.sh_size))
		return;
	*vaddr = sh.sh_addr;
	*n = sh.sh_size / record;
}

static uint64_t first_load(const struct shunt_elf *elf)
{
	for (uint64_t i = 0; i < elf->segments.count; i++) {
		Elf64_Phdr ph = load_segment(elf, i);

		if (ph.p_type == PT_LOAD)
			return ph.p_vaddr;
	}
	return 0;
}

/* ------------------------------------------------------------------------ keys */

static uint32_t load32(const uint8_t *bytes)
{
	uint32_t value;

	memcpy(&value, bytes, sizeof(value));
	return value;
}

/* Set from the string that the pointer at @vaddr points to. */
static void set_name(const struct scan *scan, struct scan_key *key, uint64_t vaddr)
{
	key->name = words_string(&scan->words, vaddr);
	if (!key->name)
		key->name = "(unknown)";
	key->name_len = (int)strlen(key->name);
}

static int add_key(struct scan *scan, const struct scan_key *key)
{
	return list_add(&scan->keys, key, sizeof(*key)) ? 0 : -ENOMEM;
}

static uint32_t branch_at(const struct scan *scan, uint64_t vaddr)
{
	uint64_t off = vaddr - scan->static_keys;

	if (vaddr < scan->static_keys || off % sizeof(struct static_key) ||
	    off / sizeof(struct static_key) >= scan->nr_static_keys)
		return UINT32_MAX;
	return (uint32_t)(scan->nr_call_keys + off / sizeof(struct static_key));
}

static bool is_key_symbol(const char *name)
{
	return !strncmp(name, "__SKT__", PREFIX_LEN) || !strncmp(name, "__SKF__", PREFIX_LEN);
}

static bool has_name(const struct scan_key *key, const char *name, size_t len)
{
	return (size_t)key->name_len == len && !memcmp(key->name, name, len);
}

/* Have the keys that a symbol stands at begin an array: element 0. */
static void find_array_starts(struct scan *scan)
{
	const struct shunt_elf_symtab *tab = &scan->elf.symtab;

	for (uint64_t i = 1; i < tab->symbols.count; i++) {
		Elf64_Sym sym;
		uint32_t key;

		memcpy(&sym, tab->symbols.data + i * sizeof(sym), sizeof(sym));
		if (sym.st_name >= tab->strings_size || !is_key_symbol(tab->strings + sym.st_name))
			continue;
		key = branch_at(scan, sym.st_value);
		if (key != UINT32_MAX)
			scan_key(scan, key)->element = 0;
	}
}

/*
 * Number the elements of arrays: neighbours of one name, which no other keys of a module
 * share unless the linker was told to make their symbols local; those are told apart by
 * them.
 */
static void number_elements(struct scan *scan)
{
	size_t end = scan->nr_call_keys + scan->nr_static_keys;

	find_array_starts(scan);
	for (size_t i = scan->nr_call_keys, n; i < end; i += n) {
		const struct scan_key *first = scan_key(scan, i);

		for (n = 1; i + n < end; n++)
			if (scan_key(scan, i + n)->element == 0 ||
			    !has_name(scan_key(scan, i + n), first->name, (size_t)first->name_len))
				break;
		for (size_t j = 0; j < n; j++)
			scan_key(scan, i + j)->element = n > 1 ? (int)j : -1;
	}
}

/* The keys that the file defines, in the order of its arrays. */
static int add_defined_keys(struct scan *scan)
{
	int ret = 0;

	for (uint64_t i = 0; i < scan->nr_call_keys && !ret; i++) {
		struct scan_key key = {.addr = scan->call_keys + i * sizeof(struct static_call_key),
				       .element = -1};
		const uint8_t *flags = shunt_elf_at(
			&scan->elf, key.addr + offsetof(struct static_call_key, flags), 4);

		set_name(scan, &key, key.addr + offsetof(struct static_call_key, name));
		key.flags = flags ? load32(flags) : 0;
		ret = add_key(scan, &key);
	}
	for (uint64_t i = 0; i < scan->nr_static_keys && !ret; i++) {
		struct scan_key key = {.is_branch = true,
				       .addr = scan->static_keys + i * sizeof(struct static_key),
				       .element = -1};
		const uint8_t *on = shunt_elf_at(
			&scan->elf, key.addr + offsetof(struct static_key, initial), 1);

		set_name(scan, &key, key.addr + offsetof(struct static_key, name));
		key.flags = on && *on;
		ret = add_key(scan, &key);
	}
	if (!ret)
		number_elements(scan);
	return ret;
}

/* The index of the static call at @vaddr, or UINT32_MAX. */
static uint32_t call_at(const struct scan *scan, uint64_t vaddr)
{
	uint64_t off = vaddr - scan->call_keys;

	if (vaddr < scan->call_keys || off % sizeof(struct static_call_key) ||
	    off / sizeof(struct static_call_key) >= scan->nr_call_keys)
		return UINT32_MAX;
	return (uint32_t)(off / sizeof(struct static_call_key));
}

/* The imported key of a name, added where it is new. UINT32_MAX: no memory. */
static uint32_t import_element(struct scan *scan, bool is_branch, const char *name, size_t len,
			       int element)
{
	struct scan_key key = {.is_branch = is_branch,
			       .imported = true,
			       .name = name,
			       .name_len = (int)len,
			       .element = element};

	for (size_t i = scan->keys.n; i-- > scan->nr_call_keys + scan->nr_static_keys;) {
		const struct scan_key *known = scan_key(scan, i);

		if (known->is_branch == is_branch && known->element == element &&
		    has_name(known, name, len))
			return (uint32_t)i;
	}
	return add_key(scan, &key) ? UINT32_MAX : (uint32_t)scan->keys.n - 1;
}

static uint32_t import_key(struct scan *scan, bool is_branch, const char *name, size_t len)
{
	return import_element(scan, is_branch, name, len, -1);
}

/* The key of the trampoline at @tramp, or UINT32_MAX. */
static uint32_t key_of_trampoline(const struct scan *scan, uint64_t tramp)
{
	const uint8_t *code = shunt_elf_at(&scan->elf, tramp, SHUNT_TRAMP_SIZE);
	uint64_t key;

	return code && shunt_elf_tramp_key(code, tramp, &key) ? call_at(scan, key) : UINT32_MAX;
}

/* ---------------------------------------------------------- calls, by relocation */

struct call_scan {
	struct scan *scan;
	uint32_t *key_of_sym; /* by symbol index: key + 1; UINT32_MAX: not of a key */
};

/* The key that @sym is the trampoline of, or UINT32_MAX; also where there is no memory. */
static int key_for(struct call_scan *s, const struct shunt_elf_sym *sym, uint32_t *key)
{
	uint32_t *known = &s->key_of_sym[sym->index];
	size_t len = shunt_elf_name_len(sym->name);

	if (!*known) {
		uint32_t i;

		if (sym->undefined) {
			i = import_key(s->scan, false, sym->name + PREFIX_LEN, len - PREFIX_LEN);
			if (i == UINT32_MAX)
				return -ENOMEM;
		} else {
			i = key_of_trampoline(s->scan, sym->value);
			if (i != UINT32_MAX)
				scan_key(s->scan, i)->tramp = sym->value;
		}
		*known = i == UINT32_MAX ? UINT32_MAX : i + 1;
	}
	*key = *known == UINT32_MAX ? UINT32_MAX : *known - 1;
	return 0;
}

/* Whether the dynamic linker fills a slot of @word with the trampoline of a key of @key's name. */
static bool is_bound_to(const struct word *word, const struct scan_key *key)
{
	return word->kind == WORD_SYMBOL &&
	       !strncmp(word->symbol, SHUNT_TRAMP_PREFIX, PREFIX_LEN) &&
	       shunt_elf_name_len(word->symbol) == (size_t)key->name_len + PREFIX_LEN &&
	       !memcmp(word->symbol + PREFIX_LEN, key->name, (size_t)key->name_len);
}

/* The slot that the PLT entry at @vaddr jumps through; 0: it is none. */
static uint64_t plt_slot(const struct scan *scan, uint64_t vaddr)
{
	size_t len = SHUNT_ELF_PLT_MAX;
	uint64_t slot;

	while (len && !scan_has_text(scan, vaddr, len))
		len--;
	return len && shunt_elf_plt_slot(shunt_elf_at(&scan->elf, vaddr, len), len, vaddr, &slot)
		       ? slot
		       : 0;
}

/*
 * Whether @call goes where calls of *@key go; where the dynamic
 * linker binds it, that is an imported key, even if one of its name is in this file. The
 * table has one PLT entry and one slot for each key: the first that is met.
 */
static int goes_to(struct scan *scan, uint32_t *key, const struct shunt_elf_site *call)
{
	bool indirect = call->kind == SHUNT_SITE_CALL_GOT || call->kind == SHUNT_SITE_JMP_GOT;
	uint64_t target = call->operand, *known;
	struct scan_key *named = scan_key(scan, *key);
	struct word word;

	if (!target)
		return false;
	if (!indirect && named->tramp == target)
		return true;
	word = words_at(&scan->words, indirect ? target : plt_slot(scan, target));
	if (is_bound_to(&word, named)) {
		if (!named->imported)
			*key = import_key(scan, false, named->name, (size_t)named->name_len);
		if (*key == UINT32_MAX)
			return -ENOMEM;
	} else if (!indirect || word.kind != WORD_ADDRESS || named->imported ||
		   word.address != named->tramp) {
		return false;
	}
	named = scan_key(scan, *key);
	known = indirect ? &named->slot : &named->tramp;
	if (!*known)
		*known = target;
	return *known == target;
}

static int add_ref(struct scan *scan, uint64_t addr, uint32_t key, const char *why)
{
	struct scan_ref ref = {.addr = addr, .key = key, .why = why};

	return list_add(&scan->refs, &ref, sizeof(ref)) ? 0 : -ENOMEM;
}

static int add_site(struct scan *scan, const struct scan_site *site)
{
	scan_key(scan, site->key)->nr_sites++;
	return list_add(&scan->sites, site, sizeof(*site)) ? 0 : -ENOMEM;
}

/* Add a site of @key at @call; or, as a reference, why it is none. */
static int add_call(struct scan *scan, uint64_t field, uint32_t key,
		    const struct shunt_elf_site *call)
{
	struct scan_site site = {.addr = call->addr, .kind = call->kind};
	int ret;

	if (!scan_has_text(scan, call->addr, shunt_site_len(call->kind & 0xf)))
		return add_ref(scan, field, key, "in no text of the file");
	ret = goes_to(scan, &key, call);
	if (ret < 0)
		return ret;
	if (!ret)
		return add_ref(scan, field, key, "does not go to the trampoline");
	if (call->addr - scan->base > UINT32_MAX)
		return add_ref(scan, field, key, "4 GiB behind the module's start");
	site.key = key;
	return add_site(scan, &site);
}

static int on_ref(void *arg, const struct shunt_elf_ref *ref, const struct shunt_elf_sym *sym)
{
	struct call_scan *s = arg;
	struct shunt_elf_site call;
	const char *why;
	uint32_t key;
	int ret = key_for(s, sym, &key);

	if (ret || key == UINT32_MAX)
		return ret;
	/* What the section has there must be what a segment maps there. */
	if (!ref->bytes || !ref->before || shunt_elf_at(&s->scan->elf, ref->field, 4) != ref->bytes)
		return add_ref(s->scan, ref->field, key, "in no text of the file");
	why = shunt_elf_site_at(ref, ref->bytes, ref->field, &call);
	return why ? add_ref(s->scan, ref->field, key, why)
		   : add_call(s->scan, ref->field, key, &call);
}

/* ------------------------------------- what else refers to trampolines, and how */

/* Of types that shunt_elf_for_each_ref() leaves out, or from data; NULL: not a matter. */
static const char *why_not(uint32_t type, bool text)
{
	switch (type) {
	case R_X86_64_64:
	case R_X86_64_32:
	case R_X86_64_32S:
		if (!text)
			return "address stands in data";
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

static int on_other(struct call_scan *s, const Elf64_Rela *rela, bool text)
{
	const struct shunt_elf_symtab *tab = &s->scan->elf.symtab;
	uint64_t index = ELF64_R_SYM(rela->r_info);
	const char *why = why_not((uint32_t)ELF64_R_TYPE(rela->r_info), text);
	struct shunt_elf_sym sym = {0};
	Elf64_Sym raw;
	uint32_t key;
	int ret;

	if (!why || index >= tab->symbols.count)
		return 0;
	memcpy(&raw, tab->symbols.data + index * sizeof(raw), sizeof(raw));
	if (raw.st_name >= tab->strings_size)
		return 0;
	sym.name = tab->strings + raw.st_name;
	if (strncmp(sym.name, SHUNT_TRAMP_PREFIX, PREFIX_LEN) != 0)
		return 0;
	sym.index = (uint32_t)index;
	sym.value = raw.st_value;
	sym.undefined = raw.st_shndx == SHN_UNDEF;
	ret = key_for(s, &sym, &key);
	if (ret || key == UINT32_MAX)
		return ret;
	return add_ref(s->scan, rela->r_offset, key, why);
}

/* Kept relocations of loaded sections. shunt_elf_for_each_ref() has checked no more than text's. */
static int scan_others(struct call_scan *s)
{
	const struct shunt_elf *elf = &s->scan->elf;
	uint64_t budget = elf->size;

	for (uint64_t i = 1; i < elf->sections.count; i++) {
		Elf64_Shdr sh, of;

		memcpy(&sh, elf->sections.data + i * sizeof(sh), sizeof(sh));
		if (sh.sh_type != SHT_RELA || (sh.sh_flags & SHF_ALLOC) ||
		    sh.sh_link != elf->symtab.section || sh.sh_info >= elf->sections.count)
			continue;
		memcpy(&of, elf->sections.data + sh.sh_info * sizeof(of), sizeof(of));
		if (!(of.sh_flags & SHF_ALLOC))
			continue;
		if (sh.sh_offset > elf->size || sh.sh_size > elf->size - sh.sh_offset ||
		    sh.sh_size > budget)
			return -EINVAL;
		budget -= sh.sh_size;
		for (uint64_t at = 0; sh.sh_size - at >= sizeof(Elf64_Rela);
		     at += sizeof(Elf64_Rela)) {
			Elf64_Rela rela;
			int ret;

			memcpy(&rela, elf->image + sh.sh_offset + at, sizeof(rela));
			ret = on_other(s, &rela, of.sh_flags & SHF_EXECINSTR);
			if (ret)
				return ret;
		}
	}
	return 0;
}

static int scan_relocations(struct scan *scan)
{
	struct call_scan s = {.scan = scan};
	int ret;

	scan->lack = shunt_elf_lack(&scan->elf);
	if (scan->lack != SHUNT_ELF_LACKS_NOTHING)
		return 0;
	s.key_of_sym = calloc(scan->elf.symtab.symbols.count + 1, sizeof(s.key_of_sym[0]));
	if (!s.key_of_sym)
		return -ENOMEM;
	ret = shunt_elf_for_each_ref(&scan->elf, SHUNT_TRAMP_PREFIX, on_ref, &s);
	if (!ret)
		ret = scan_others(&s);
	free(s.key_of_sym);
	return ret;
}

/* ----------------------------------------------------------- calls, by the table */

/* Whether the table says of a key of this file's what is so. */
static bool is_own_call(const struct scan *scan, const struct shunt_baked_mod *mod)
{
	struct word word = words_at(&scan->words, mod->slot);

	return key_of_trampoline(scan, mod->tramp) == call_at(scan, mod->key) &&
	       (!mod->slot || (word.kind == WORD_ADDRESS && word.address == mod->tramp));
}

static int add_baked_key(struct scan *scan, const struct shunt_baked *table, uint32_t i,
			 uint32_t *key)
{
	struct shunt_baked_mod mod;
	const char *name;
	int ret = shunt_baked_read_mod(table, i, &mod, &name);

	if (ret)
		return ret;
	*key = mod.key ? call_at(scan, mod.key)
		       : import_key(scan, false, name + PREFIX_LEN, strlen(name) - PREFIX_LEN);
	if (*key == UINT32_MAX)
		return mod.key ? -EINVAL : -ENOMEM;
	if (mod.key && !is_own_call(scan, &mod))
		return -EINVAL;
	scan_key(scan, *key)->tramp = mod.tramp;
	scan_key(scan, *key)->slot = mod.slot;
	return 0;
}

static int add_baked_sites(struct scan *scan, const struct shunt_baked *table,
			   const uint32_t *key_of_mod)
{
	int ret = 0;

	for (uint32_t i = 0; i < table->nr_sites && !ret; i++) {
		struct shunt_baked_site baked;
		struct scan_site site;

		ret = shunt_baked_read_site(table, i, &baked);
		if (ret)
			return ret;
		site = (struct scan_site){
			.addr = table->base + baked.off,
			.key = key_of_mod[baked.what >> SHUNT_BAKED_MOD_SHIFT],
			.kind = baked.what & SHUNT_BAKED_KIND,
			.direct = baked.what & SHUNT_BAKED_DIRECT,
		};
		if (!scan_has_text(scan, site.addr, shunt_site_len(site.kind & 0xf)))
			return -EINVAL;
		ret = add_site(scan, &site);
	}
	return ret;
}

static int scan_table(struct scan *scan, const struct shunt_baked *table)
{
	uint32_t *key_of_mod = calloc((size_t)table->nr_mods + 1, sizeof(*key_of_mod));
	int ret = key_of_mod ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < table->nr_mods && !ret; i++)
		ret = add_baked_key(scan, table, i, &key_of_mod[i]);
	if (!ret)
		ret = add_baked_sites(scan, table, key_of_mod);
	free(key_of_mod);
	return ret;
}

/* ------------------------------------------------------------- static branches */

/*
 * Which element of an array of more than one an imported key's @handle stands for, by the
 * array of handles, which all lead to its first; else -1.
 */
static int element_of_handle(const struct scan *scan, uint64_t handle, const struct word *self)
{
	const uint64_t size = sizeof(struct static_key_handle);
	uint64_t index = (handle - self->address) / size;
	struct word second;

	if (self->kind != WORD_ADDRESS || handle < self->address || index > INT_MAX)
		return -1;
	second = words_at(&scan->words, self->address + size + 8);
	return second.kind == WORD_ADDRESS && second.address == self->address ? (int)index : -1;
}

/* The key that a handle stands for, in this file or another; UINT32_MAX: not known. */
static uint32_t key_of_handle(struct scan *scan, uint64_t handle)
{
	struct word first = words_at(&scan->words, handle);
	struct word self = words_at(&scan->words, handle + 8);
	uint64_t index;

	/* One that this file exports is its own: it is protected, and so not to be interposed. */
	if (first.kind == WORD_SYMBOL && is_key_symbol(first.symbol) && !first.address)
		return import_element(scan, true, first.symbol + PREFIX_LEN,
				      shunt_elf_name_len(first.symbol) - PREFIX_LEN,
				      element_of_handle(scan, handle, &self));
	if (first.kind == WORD_UNKNOWN || !first.address || self.kind != WORD_ADDRESS)
		return UINT32_MAX;
	index = (handle - self.address) / sizeof(struct static_key_handle);
	return branch_at(scan, first.address + index * sizeof(struct static_key));
}

static bool branch_form(const struct scan *scan, struct scan_site *site)
{
	struct shunt_elf_branch branch;
	size_t len = scan_has_text(scan, site->addr, 5) ? 5 : 2;

	if (!scan_has_text(scan, site->addr, len) ||
	    !shunt_elf_branch_at(shunt_elf_at(&scan->elf, site->addr, len), len, &branch))
		return false;
	site->kind = branch.kind;
	site->jumps = branch.jumps;
	return true;
}

static int scan_branches(struct scan *scan)
{
	uint64_t entries, n;
	int ret = 0;

	find_array(&scan->elf, ".static_jumps", sizeof(struct static_jump_entry), &entries, &n);
	for (uint64_t i = 0; i < n && !ret; i++) {
		uint64_t at = entries + i * sizeof(struct static_jump_entry);
		struct static_jump_entry entry;
		struct scan_site site = {0};

		memcpy(&entry, shunt_elf_at(&scan->elf, at, sizeof(entry)), sizeof(entry));
		site.addr = at + (uint64_t)(int64_t)entry.code;
		/* A record for no site, what the linker dropped, or no record at all. */
		if (!entry.code || entry.magic != STATIC_JUMP_MAGIC || !branch_form(scan, &site))
			continue;
		site.key = key_of_handle(scan, at + offsetof(struct static_jump_entry, handle) +
						       (uint64_t)(int64_t)(entry.handle & ~1));
		if (site.key == UINT32_MAX)
			site.key = import_key(scan, true, "(unknown)", strlen("(unknown)"));
		if (site.key == UINT32_MAX)
			return -ENOMEM;
		ret = add_site(scan, &site);
	}
	return ret;
}

/* ------------------------------------------------- imported, and defined here too */

/* The static call whose trampoline the file exports as @key's; UINT32_MAX: none, or two. */
static uint32_t exported_call(const struct scan *scan, const struct scan_key *key)
{
	const struct shunt_elf_symtab *tab = &scan->elf.dynsym;
	uint32_t found = UINT32_MAX;

	for (uint64_t i = 1; i < tab->symbols.count; i++) {
		struct word word = {.kind = WORD_SYMBOL};
		uint32_t call;
		Elf64_Sym sym;

		memcpy(&sym, tab->symbols.data + i * sizeof(sym), sizeof(sym));
		if (sym.st_shndx == SHN_UNDEF || sym.st_name >= tab->strings_size)
			continue;
		word.symbol = tab->strings + sym.st_name;
		if (!is_bound_to(&word, key))
			continue;
		call = key_of_trampoline(scan, sym.st_value);
		if (found != UINT32_MAX && call != found)
			return UINT32_MAX;
		found = call;
	}
	return found;
}

static void find_own(struct scan *scan)
{
	for (size_t i = scan->nr_call_keys + scan->nr_static_keys; i < scan->keys.n; i++) {
		struct scan_key *key = scan_key(scan, i);
		uint32_t own = key->is_branch ? UINT32_MAX : exported_call(scan, key);

		if (own == UINT32_MAX)
			continue;
		key->own = own + 1;
		scan_key(scan, own)->nr_sites += key->nr_sites;
	}
}

/* ---------------------------------------------------------------------- public */

static int by_site(const void *left, const void *right)
{
	const struct scan_site *a = left, *b = right;

	return (a->addr > b->addr) - (a->addr < b->addr);
}

static int by_ref(const void *left, const void *right)
{
	const struct scan_ref *a = left, *b = right;

	return (a->addr > b->addr) - (a->addr < b->addr);
}

/* Sites are instructions: none begins within another one, and none is known twice. */
static int check_sites(struct scan *scan)
{
	if (scan->sites.n)
		qsort(scan->sites.data, scan->sites.n, sizeof(struct scan_site), by_site);
	if (scan->refs.n)
		qsort(scan->refs.data, scan->refs.n, sizeof(struct scan_ref), by_ref);
	for (size_t i = 1; i < scan->sites.n; i++) {
		const struct scan_site *before = scan_site(scan, i - 1);

		if (scan_site(scan, i)->addr - before->addr < shunt_site_len(before->kind & 0xf))
			return -EINVAL;
	}
	return 0;
}

/*
 * The address of the function @name: in this file, or its PLT entry's, which stands
 * for it in an executable that is not position-independent. 0: none.
 */
static uint64_t function(const struct shunt_elf *elf, const char *name)
{
	const struct shunt_elf_symtab *tab = &elf->dynsym;
	uint64_t value;

	if (!shunt_elf_symbol_value(elf, name, &value))
		return value;
	for (uint64_t i = 1; i < tab->symbols.count; i++) {
		Elf64_Sym sym;

		memcpy(&sym, tab->symbols.data + i * sizeof(sym), sizeof(sym));
		if (sym.st_value && sym.st_name < tab->strings_size &&
		    !strcmp(tab->strings + sym.st_name, name))
			return sym.st_value;
	}
	return 0;
}

static int find_ifuncs(struct scan *scan, const struct shunt_elf_symtab *tab)
{
	for (uint64_t i = 1; i < tab->symbols.count; i++) {
		Elf64_Sym sym;

		memcpy(&sym, tab->symbols.data + i * sizeof(sym), sizeof(sym));
		if (ELF64_ST_TYPE(sym.st_info) == STT_GNU_IFUNC && sym.st_value &&
		    !list_add(&scan->ifuncs, &sym.st_value, sizeof(sym.st_value)))
			return -ENOMEM;
	}
	return 0;
}

/* What later steps compare pointers with. */
static int find_functions(struct scan *scan)
{
	int ret;

	scan->base = first_load(&scan->elf);
	scan->nop = function(&scan->elf, "__static_call_nop");
	scan->return0 = function(&scan->elf, "__static_call_return0");
	ret = find_ifuncs(scan, &scan->elf.symtab);
	return ret ? ret : find_ifuncs(scan, &scan->elf.dynsym);
}

int scan_open(struct scan *scan, const void *image, size_t size)
{
	struct shunt_baked table;
	int ret;

	*scan = (struct scan){0};
	ret = shunt_elf_open(&scan->elf, image, size);
	if (ret)
		return ret;
	ret = words_open(&scan->words, &scan->elf);
	if (ret)
		return ret;
	ret = find_functions(scan);
	if (ret)
		return ret;
	find_array(&scan->elf, "static_call_keys", sizeof(struct static_call_key), &scan->call_keys,
		   &scan->nr_call_keys);
	find_array(&scan->elf, "static_keys", sizeof(struct static_key), &scan->static_keys,
		   &scan->nr_static_keys);
	ret = add_defined_keys(scan);
	scan->rearranged = shunt_elf_rearranged(&scan->elf);
	if (ret || scan->rearranged)
		return ret;
	ret = shunt_baked_find(&scan->elf, &table);
	scan->baked = ret != -ENODATA;
	if (ret != -EINVAL)
		ret = scan->baked ? scan_table(scan, &table) : scan_relocations(scan);
	if (!ret)
		ret = scan_branches(scan);
	if (!ret)
		find_own(scan);
	return ret ? ret : check_sites(scan);
}

void scan_close(struct scan *scan)
{
	words_close(&scan->words);
	list_free(&scan->keys);
	list_free(&scan->sites);
	list_free(&scan->refs);
	list_free(&scan->ifuncs);
}

/* Text that is not the resolver of an ifunc, which a pointer to it does not mean. */
static bool is_plain_function(const struct scan *scan, uint64_t vaddr)
{
	const uint64_t *ifuncs = scan->ifuncs.data;

	for (size_t i = 0; i < scan->ifuncs.n; i++)
		if (ifuncs[i] == vaddr)
			return false;
	return scan_has_text(scan, vaddr, 1);
}

enum scan_initial scan_initial(const struct scan *scan, const struct scan_key *key,
			       uint64_t *target, const char **symbol)
{
	struct word word, init;

	if (key->imported || key->is_branch)
		return SCAN_UNKNOWN;
	word = words_at(&scan->words, key->addr + offsetof(struct static_call_key, func));
	init = words_at(&scan->words, key->addr + offsetof(struct static_call_key, init));
	if (word.kind != init.kind || word.address != init.address)
		return SCAN_UNKNOWN;
	if (word.kind == WORD_SYMBOL) {
		*symbol = word.symbol;
		if (!strcmp(word.symbol, "__static_call_nop"))
			return SCAN_NULL;
		if (!strcmp(word.symbol, "__static_call_return0"))
			return SCAN_RET0;
		return word.address && is_plain_function(scan, word.address) ? SCAN_INTERPOSABLE
									     : SCAN_FOREIGN;
	}
	if (word.kind != WORD_ADDRESS)
		return SCAN_UNKNOWN;
	*target = word.address;
	if (scan->nop && word.address == scan->nop)
		return SCAN_NULL;
	if (scan->return0 && word.address == scan->return0)
		return SCAN_RET0;
	return is_plain_function(scan, word.address) ? SCAN_FUNCTION : SCAN_UNKNOWN;
}

const char *scan_kind_name(const struct scan_site *site)
{
	static const char *const names[] = {
		[SHUNT_SITE_CALL] = "call",
		[SHUNT_SITE_CALL_GOT] = "call-got",
		[SHUNT_SITE_JMP] = "tail",
		[SHUNT_SITE_JMP_GOT] = "tail-got",
		[SHUNT_SITE_JCC] = "conditional",
		[SHUNT_SITE_BRANCH] = "branch-nop5",
		[SHUNT_SITE_BRANCH2] = "branch-jmp2",
	};

	if ((site->kind & 0xf) == SHUNT_SITE_BRANCH && site->jumps)
		return "branch-jmp5";
	return names[site->kind & 0xf];
}
