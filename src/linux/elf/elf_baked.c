/* SPDX-License-Identifier: MIT */
/*
 * The ELF reader: the site table of a baked file (baked.h). All that the table can say wrongly
 * by itself is found here, for the library and for `shunt`: what is left to them is whether a
 * key, a trampoline, a slot and text are where it says.
 */
#include "linux/elf/baked.h"

#include "core/site.h"
#include "linux/elf/elf_read.h"

/* A section that a linker script has put there, for the table of a kernel. */
static bool waits_for_table(const Elf64_Shdr *sh, const uint8_t *data)
{
	static const uint8_t nothing[sizeof(SHUNT_BAKED_MAGIC) - 1];

	return (sh->sh_flags & SHF_ALLOC) != 0 && sh->sh_size >= sizeof(nothing) &&
	       memcmp(data, nothing, sizeof(nothing)) == 0;
}

static bool is_magic(const struct shunt_baked_header *header, const char *magic)
{
	return memcmp(header->magic, magic, sizeof(header->magic)) == 0;
}

static int parse(struct shunt_baked *table, const struct shunt_elf_cpu *cpu, const uint8_t *data,
		 uint64_t size)
{
	struct shunt_baked_header header;
	uint64_t mods, sites;
	bool bare;

	if (size < sizeof(header)) {
		return -EINVAL;
	}
	memcpy(&header, data, sizeof(header));
	mods = (uint64_t)header.nr_mods * sizeof(struct shunt_baked_mod);
	sites = (uint64_t)header.nr_sites * sizeof(struct shunt_baked_site);
	bare = is_magic(&header, SHUNT_BAKED_MAGIC_BARE);
	if ((!bare && !is_magic(&header, SHUNT_BAKED_MAGIC)) || header.strings_off > size ||
	    header.strings_off != sizeof(header) + mods + sites) {
		return -EINVAL;
	}
	*table = (struct shunt_baked){
		.cpu = cpu,
		.mods = data + sizeof(header),
		.sites = data + sizeof(header) + mods,
		.nr_mods = header.nr_mods,
		.nr_sites = header.nr_sites,
		.bare = bare,
		.strings = (const char *)data + header.strings_off,
		.strings_size = size - header.strings_off,
		.base = header.base,
	};
	if (table->strings_size != 0 && table->strings[table->strings_size - 1] != '\0') {
		return -EINVAL;
	}
	return 0;
}

int shunt_baked_find(const struct shunt_elf *elf, struct shunt_baked *table)
{
	const uint8_t *data;
	Elf64_Shdr sh;
	int ret;

	if (shunt_elf_section_header(elf, SHUNT_BAKED_SECTION, &sh) != 0) {
		return -ENODATA;
	}
	if (sh.sh_type == SHT_NOBITS || !in_range(sh.sh_offset, sh.sh_size, elf->size)) {
		return -EINVAL;
	}
	data = elf->image + sh.sh_offset;
	if (waits_for_table(&sh, data)) {
		return -ENODATA;
	}
	ret = parse(table, elf->cpu, data, sh.sh_size);
	return ret == 0 && table->base != shunt_elf_first_load(elf) ? -EINVAL : ret;
}

int shunt_baked_read_mod(const struct shunt_baked *table, uint32_t i, struct shunt_baked_mod *mod,
			 const char **name)
{
	memcpy(mod, table->mods + (size_t)i * sizeof(*mod), sizeof(*mod));
	if (mod->name >= table->strings_size) {
		return -EINVAL;
	}
	*name = table->strings + mod->name;
	return strncmp(*name, SHUNT_TRAMP_PREFIX, strlen(SHUNT_TRAMP_PREFIX)) == 0 ? 0 : -EINVAL;
}

static struct shunt_baked_site copy_site(const struct shunt_baked *table, uint32_t i)
{
	struct shunt_baked_site site;

	memcpy(&site, table->sites + (size_t)i * sizeof(site), sizeof(site));
	return site;
}

/* Of a call, and with a condition where it has one. */
static bool has_good_kind(const struct shunt_baked_site *site)
{
	unsigned kind = site->what & 0xf;

	return kind == SHUNT_KIND_JCC || (site->what & SHUNT_BAKED_KIND) < SHUNT_KIND_JCC;
}

int shunt_baked_read_site(const struct shunt_baked *table, uint32_t i,
			  struct shunt_baked_site *site)
{
	struct shunt_baked_site before;

	*site = copy_site(table, i);
	if (!has_good_kind(site) || site->what >> SHUNT_BAKED_MOD_SHIFT >= table->nr_mods) {
		return -EINVAL;
	}
	if (i == 0) {
		return 0;
	}
	before = copy_site(table, i - 1);
	return has_good_kind(&before) &&
			       site->off >= (uint64_t)before.off +
						    shunt_elf_site_len(table->cpu, before.what)
		       ? 0
		       : -EINVAL;
}
