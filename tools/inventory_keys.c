/* SPDX-License-Identifier: MIT */
/*
 * The keys of an inventory: those that the file defines, in the order of its arrays, and behind
 * them those that it imports, as they are met. And what a static call starts out with.
 */
#include "inventory_parts.h"

static uint32_t load32(const uint8_t *bytes)
{
	uint32_t value;

	memcpy(&value, bytes, sizeof(value));
	return value;
}

/* Set from the string that the pointer at @vaddr points to. */
static void set_key_name(const struct inventory *inv, struct file_key *key, uint64_t vaddr)
{
	key->name = pointers_string(&inv->pointers, vaddr);
	if (!key->name)
		key->name = "(unknown)";
	key->name_len = (int)strlen(key->name);
}

static int add_key(struct inventory *inv, const struct file_key *key)
{
	return array_add(&inv->keys, key, sizeof(*key)) ? 0 : -ENOMEM;
}

uint32_t inventory_branch_at(const struct inventory *inv, uint64_t vaddr)
{
	uint64_t off = vaddr - inv->static_keys;

	if (vaddr < inv->static_keys || off % sizeof(struct shunt_static_key) ||
	    off / sizeof(struct shunt_static_key) >= inv->nr_static_keys)
		return UINT32_MAX;
	return (uint32_t)(inv->nr_call_keys + off / sizeof(struct shunt_static_key));
}

bool inventory_is_key_symbol(const char *name)
{
	return !strncmp(name, "__SKT__", PREFIX_LEN) || !strncmp(name, "__SKF__", PREFIX_LEN);
}

static bool has_name(const struct file_key *key, const char *name, size_t len)
{
	return (size_t)key->name_len == len && !memcmp(key->name, name, len);
}

/* Have the keys that a symbol stands at begin an array: element 0. */
static void find_array_starts(struct inventory *inv)
{
	const struct shunt_elf_symtab *tab = &inv->elf.symtab;

	for (uint64_t i = 1; i < tab->symbols.count; i++) {
		Elf64_Sym sym;
		uint32_t key;

		memcpy(&sym, tab->symbols.data + i * sizeof(sym), sizeof(sym));
		if (sym.st_name >= tab->strings_size ||
		    !inventory_is_key_symbol(tab->strings + sym.st_name))
			continue;
		key = inventory_branch_at(inv, sym.st_value);
		if (key != UINT32_MAX)
			inventory_key(inv, key)->element = 0;
	}
}

/*
 * Number the elements of arrays: neighbours of one name, which no other keys of a module
 * share unless the linker was told to make their symbols local; those are told apart by
 * them.
 */
static void number_elements(struct inventory *inv)
{
	size_t end = inv->nr_call_keys + inv->nr_static_keys;

	find_array_starts(inv);
	for (size_t i = inv->nr_call_keys, n; i < end; i += n) {
		const struct file_key *first = inventory_key(inv, i);

		for (n = 1; i + n < end; n++)
			if (inventory_key(inv, i + n)->element == 0 ||
			    !has_name(inventory_key(inv, i + n), first->name,
				      (size_t)first->name_len))
				break;
		for (size_t j = 0; j < n; j++)
			inventory_key(inv, i + j)->element = n > 1 ? (int)j : -1;
	}
}

/* The keys that the file defines, in the order of its arrays. */
int inventory_add_defined_keys(struct inventory *inv)
{
	int ret = 0;

	for (uint64_t i = 0; i < inv->nr_call_keys && !ret; i++) {
		struct file_key key = {.addr = inv->call_keys + i * sizeof(struct static_call_key),
				       .element = -1};
		const uint8_t *flags = shunt_elf_at(
			&inv->elf, key.addr + offsetof(struct static_call_key, flags), 4);

		set_key_name(inv, &key, key.addr + offsetof(struct static_call_key, name));
		key.flags = flags ? load32(flags) : 0;
		ret = add_key(inv, &key);
	}
	for (uint64_t i = 0; i < inv->nr_static_keys && !ret; i++) {
		struct file_key key = {.is_branch = true,
				       .addr = inv->static_keys +
					       i * sizeof(struct shunt_static_key),
				       .element = -1};
		const uint8_t *on = shunt_elf_at(
			&inv->elf, key.addr + offsetof(struct shunt_static_key, initial), 1);

		set_key_name(inv, &key, key.addr + offsetof(struct shunt_static_key, name));
		key.flags = on && *on;
		ret = add_key(inv, &key);
	}
	if (!ret)
		number_elements(inv);
	return ret;
}

/* The index of the static call at @vaddr, or UINT32_MAX. */
uint32_t inventory_call_at(const struct inventory *inv, uint64_t vaddr)
{
	uint64_t off = vaddr - inv->call_keys;

	if (vaddr < inv->call_keys || off % sizeof(struct static_call_key) ||
	    off / sizeof(struct static_call_key) >= inv->nr_call_keys)
		return UINT32_MAX;
	return (uint32_t)(off / sizeof(struct static_call_key));
}

/* The imported key of a name, added where it is new. UINT32_MAX: no memory. */
uint32_t inventory_import_element(struct inventory *inv, bool is_branch, const char *name,
				  size_t len, int element)
{
	struct file_key key = {.is_branch = is_branch,
			       .imported = true,
			       .name = name,
			       .name_len = (int)len,
			       .element = element};

	for (size_t i = inv->keys.n; i-- > inv->nr_call_keys + inv->nr_static_keys;) {
		const struct file_key *known = inventory_key(inv, i);

		if (known->is_branch == is_branch && known->element == element &&
		    has_name(known, name, len))
			return (uint32_t)i;
	}
	return add_key(inv, &key) ? UINT32_MAX : (uint32_t)inv->keys.n - 1;
}

uint32_t inventory_import_key(struct inventory *inv, bool is_branch, const char *name, size_t len)
{
	return inventory_import_element(inv, is_branch, name, len, -1);
}

/* The key of the trampoline at @tramp, or UINT32_MAX. */
uint32_t inventory_trampoline_key(const struct inventory *inv, uint64_t tramp)
{
	const struct shunt_elf_cpu *cpu = inv->elf.cpu;
	const uint8_t *code = shunt_elf_at(&inv->elf, tramp, cpu->tramp_size);
	uint64_t key;

	return code && cpu->tramp_key(code, tramp, &key) ? inventory_call_at(inv, key) : UINT32_MAX;
}

/* Whether the dynamic linker fills a slot of @pointer with the trampoline of a key of @key's name.
 */
bool inventory_is_bound_to(const struct pointer *pointer, const struct file_key *key)
{
	return pointer->kind == POINTER_SYMBOL &&
	       !strncmp(pointer->symbol, SHUNT_TRAMP_PREFIX, PREFIX_LEN) &&
	       shunt_elf_name_len(pointer->symbol) == (size_t)key->name_len + PREFIX_LEN &&
	       !memcmp(pointer->symbol + PREFIX_LEN, key->name, (size_t)key->name_len);
}

/* The static call whose trampoline the file exports as @key's; UINT32_MAX: none, or two. */
static uint32_t exported_call(const struct inventory *inv, const struct file_key *key)
{
	const struct shunt_elf_symtab *tab = &inv->elf.dynsym;
	uint32_t found = UINT32_MAX;

	for (uint64_t i = 1; i < tab->symbols.count; i++) {
		struct pointer pointer = {.kind = POINTER_SYMBOL};
		uint32_t call;
		Elf64_Sym sym;

		memcpy(&sym, tab->symbols.data + i * sizeof(sym), sizeof(sym));
		if (sym.st_shndx == SHN_UNDEF || sym.st_name >= tab->strings_size)
			continue;
		pointer.symbol = tab->strings + sym.st_name;
		if (!inventory_is_bound_to(&pointer, key))
			continue;
		call = inventory_trampoline_key(inv, sym.st_value);
		if (found != UINT32_MAX && call != found)
			return UINT32_MAX;
		found = call;
	}
	return found;
}

void inventory_match_own_keys(struct inventory *inv)
{
	for (size_t i = inv->nr_call_keys + inv->nr_static_keys; i < inv->keys.n; i++) {
		struct file_key *key = inventory_key(inv, i);
		uint32_t own = key->is_branch ? UINT32_MAX : exported_call(inv, key);

		if (own == UINT32_MAX)
			continue;
		key->own = own + 1;
		inventory_key(inv, own)->nr_sites += key->nr_sites;
	}
}

/*
 * Text that is not the resolver of an ifunc, which a pointer to it does not mean; nor 0, which is
 * none, also where the ELF header is mapped with the text.
 */
static bool is_plain_function(const struct inventory *inv, uint64_t vaddr)
{
	const uint64_t *ifuncs = inv->ifuncs.data;

	for (size_t i = 0; i < inv->ifuncs.n; i++)
		if (ifuncs[i] == vaddr)
			return false;
	return vaddr && inventory_has_text(inv, vaddr, 1);
}

enum initial_target inventory_initial(const struct inventory *inv, const struct file_key *key,
				      uint64_t *target, const char **symbol)
{
	struct pointer pointer, init;

	if (key->imported || key->is_branch)
		return INITIAL_UNKNOWN;
	pointer = pointers_at(&inv->pointers, key->addr + offsetof(struct static_call_key, func));
	init = pointers_at(&inv->pointers, key->addr + offsetof(struct static_call_key, init));
	if (pointer.kind != init.kind || pointer.address != init.address)
		return INITIAL_UNKNOWN;
	if (pointer.kind == POINTER_SYMBOL) {
		*symbol = pointer.symbol;
		*target = pointer.address;
		if (!strcmp(pointer.symbol, "__static_call_nop"))
			return INITIAL_NULL;
		if (!strcmp(pointer.symbol, "__static_call_return0"))
			return INITIAL_RET0;
		return pointer.address && is_plain_function(inv, pointer.address)
			       ? INITIAL_INTERPOSABLE
			       : INITIAL_FOREIGN;
	}
	if (pointer.kind != POINTER_ADDRESS)
		return INITIAL_UNKNOWN;
	*target = pointer.address;
	if (inv->nop && pointer.address == inv->nop)
		return INITIAL_NULL;
	if (inv->return0 && pointer.address == inv->return0)
		return INITIAL_RET0;
	return is_plain_function(inv, pointer.address) ? INITIAL_FUNCTION : INITIAL_UNKNOWN;
}
