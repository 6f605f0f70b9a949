/* SPDX-License-Identifier: MIT */
/* The static branches of an inventory, by the records that the compiler left in the file. */
#include "inventory_parts.h"

#include <limits.h>

/*
 * Which element of an array of more than one an imported key's @handle stands for, by the
 * array of handles, which all lead to its first; else -1.
 */
static int element_of_handle(const struct inventory *inv, uint64_t handle,
			     const struct pointer *self)
{
	const uint64_t size = sizeof(struct static_key);
	uint64_t index = (handle - self->address) / size;
	struct pointer second;

	if (self->kind != POINTER_ADDRESS || handle < self->address || index > INT_MAX)
		return -1;
	second = pointers_at(&inv->pointers, self->address + size + 8);
	return second.kind == POINTER_ADDRESS && second.address == self->address ? (int)index : -1;
}

/* The key that a handle stands for, in this file or another; UINT32_MAX: not known. */
static uint32_t key_of_handle(struct inventory *inv, uint64_t handle)
{
	struct pointer first = pointers_at(&inv->pointers, handle);
	struct pointer self = pointers_at(&inv->pointers, handle + 8);
	uint64_t index;

	/* One that this file exports is its own: it is protected, and so not to be interposed. */
	if (first.kind == POINTER_SYMBOL && inventory_is_key_symbol(first.symbol) && !first.address)
		return inventory_import_element(inv, true, first.symbol + PREFIX_LEN,
						shunt_elf_name_len(first.symbol) - PREFIX_LEN,
						element_of_handle(inv, handle, &self));
	if (first.kind == POINTER_UNKNOWN || !first.address || self.kind != POINTER_ADDRESS)
		return UINT32_MAX;
	index = (handle - self.address) / sizeof(struct static_key);
	return inventory_branch_at(inv, first.address + index * sizeof(struct shunt_static_key));
}

static bool is_record(const struct static_jump_entry *entry)
{
	return entry->magic == STATIC_JUMP_MAGIC || entry->magic == STATIC_JUMP_MAGIC_TEST;
}

/*
 * Whether a section of code has @vaddr. A record of code that the linker dropped leads to an
 * address near 0, where the text's segment may have the ELF header.
 */
static bool is_in_code(const struct inventory *inv, uint64_t vaddr)
{
	uint64_t headers = sizeof(Elf64_Ehdr) + inv->elf.segments.count * sizeof(Elf64_Phdr);

	if (!inv->elf.sections.count)
		return vaddr - inv->base >= headers && inventory_has_text(inv, vaddr, 1);
	for (uint64_t i = 1; i < inv->elf.sections.count; i++) {
		Elf64_Shdr sh = load_section(&inv->elf, i);

		if ((sh.sh_flags & (SHF_ALLOC | SHF_EXECINSTR)) == (SHF_ALLOC | SHF_EXECINSTR) &&
		    vaddr - sh.sh_addr < sh.sh_size)
			return inventory_has_text(inv, vaddr, 1);
	}
	return false;
}

/*
 * Read the code of the branch of @entry, which leads to @target. What is off is by its record a
 * nop, or the off form of the jmp. Returns NULL, or why it is no branch.
 */
static const char *why_no_branch(const struct inventory *inv, const struct static_jump_entry *entry,
				 uint64_t target, struct file_site *site)
{
	struct shunt_elf_branch branch;
	size_t len = shunt_elf_site_len(inv->elf.cpu, SHUNT_KIND_BRANCH);

	if (!inventory_has_text(inv, site->addr, len))
		len = shunt_elf_site_len(inv->elf.cpu, SHUNT_KIND_BRANCH2);
	if (!inventory_has_text(inv, site->addr, len) ||
	    !inv->elf.cpu->branch_at(shunt_elf_at(&inv->elf, site->addr, len), len, &branch))
		return "no form of a static branch";
	site->kind = branch.kind;
	site->jumps = branch.jumps;
	site->tests = branch.tests;
	if (!branch.jumps && branch.tests != (entry->magic == STATIC_JUMP_MAGIC_TEST))
		return "another form than its record says";
	if ((branch.jumps || branch.tests) && site->addr + branch.by != target)
		return "leads elsewhere than its record says";
	return NULL;
}

/* Add the branch of the record @entry, which stands at @at: as a site, or as none. */
static int add_branch(struct inventory *inv, const struct static_jump_entry *entry, uint64_t at)
{
	struct file_site site = {.addr = at + (uint64_t)(int64_t)entry->code};
	struct file_ref ref = {.addr = site.addr};

	if (!is_in_code(inv, site.addr))
		return 0;
	site.key = key_of_handle(inv, at + offsetof(struct static_jump_entry, handle) +
					      (uint64_t)(int64_t)(entry->handle & ~1));
	if (site.key == UINT32_MAX)
		site.key = inventory_import_key(inv, true, "(unknown)", strlen("(unknown)"));
	if (site.key == UINT32_MAX)
		return -ENOMEM;
	ref.key = site.key;
	ref.why = why_no_branch(inv, entry,
				at + offsetof(struct static_jump_entry, target) +
					(uint64_t)(int64_t)entry->target,
				&site);
	if (!ref.why)
		return inventory_add_site(inv, &site);
	return array_add(&inv->refs, &ref, sizeof(ref)) ? 0 : -ENOMEM;
}

static bool is_record_at(const struct inventory *inv, uint64_t vaddr)
{
	const uint8_t *bytes = shunt_elf_at(&inv->elf, vaddr, sizeof(struct static_jump_entry));
	struct static_jump_entry entry;

	if (bytes)
		memcpy(&entry, bytes, sizeof(entry));
	return bytes && is_record(&entry);
}

/* Those of the section; where it is not seen, those that stand beside the one that is registered.
 */
static uint64_t find_records(const struct inventory *inv, uint64_t *n)
{
	const uint64_t size = sizeof(struct static_jump_entry);
	uint64_t first, end = inv->jumps;

	(void)inventory_find_array(&inv->elf, ".static_jumps", size, &first, n);
	if (*n || !inv->jumps)
		return first;
	for (first = end; is_record_at(inv, first - size); first -= size)
		;
	while (is_record_at(inv, end))
		end += size;
	*n = (end - first) / size;
	return first;
}

int inventory_read_branches(struct inventory *inv)
{
	uint64_t n, entries = find_records(inv, &n);
	int ret = 0;

	for (uint64_t i = 0; i < n && !ret; i++) {
		uint64_t at = entries + i * sizeof(struct static_jump_entry);
		struct static_jump_entry entry;

		memcpy(&entry, shunt_elf_at(&inv->elf, at, sizeof(entry)), sizeof(entry));
		/* Not a record for no site, or of what the linker dropped, or no record at all. */
		if (entry.code && is_record(&entry))
			ret = add_branch(inv, &entry, at);
	}
	return ret;
}
