/* SPDX-License-Identifier: MIT */
/* Mappings, modules and symbols of another process, read through /proc/PID/maps and mem. */
#include "remote_elf.h"
#include "remote.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	PHDRS_MAX = 64,
	DYNAMIC_MAX = 256,
	LOADED_MAX = 1 << 16, /* modules */
	CHAIN_MAX = 4096
};

/* ------------------------------------------------------------------------- memory */

int remote_read(const struct remote_space *space, uint64_t address, void *to, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = pread(space->memory, (char *)to + done, size - done,
				  (off_t)(address + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		done += (size_t)n;
	}
	return 0;
}

int remote_write(const struct remote_space *space, uint64_t address, const void *from, size_t size)
{
	ssize_t n = pwrite(space->memory, from, size, (off_t)address);

	if (n < 0)
		return -errno;
	return (size_t)n == size ? 0 : -EIO;
}

int remote_read_string(const struct remote_space *space, uint64_t address, char *to, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		int err = remote_read(space, address + i, to + i, 1);

		if (err)
			return err;
		if (!to[i])
			return 0;
	}
	to[size - 1] = '\0';
	return 0;
}

/* ----------------------------------------------------------------------- mappings */

static bool read_map(char *line, struct remote_map *map)
{
	char flags[8];
	int at = 0;

	/* NOLINTNEXTLINE(cert-err34-c): numbers of the kernel's */
	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %*s %" SCNu64 " %n", &map->start,
		   &map->end, flags, &map->offset, &map->inode, &at) < 5)
		return false;
	map->is_executable = flags[2] == 'x';
	line[strcspn(line, "\n")] = '\0';
	(void)snprintf(map->name, sizeof(map->name), "%s", line + at);
	return true;
}

static int read_maps(struct remote_space *space)
{
	char path[64], *line = NULL;
	size_t room = 0, max = 0;
	FILE *file;
	int err = 0;

	(void)snprintf(path, sizeof(path), "/proc/%d/maps", (int)remote_thread(space->pid));
	file = fopen(path, "re");
	if (!file)
		return -errno;
	while (!err && getline(&line, &room, file) > 0) {
		if (space->maps_n == max) {
			size_t want = max ? 2 * max : 64;
			struct remote_map *more = realloc(space->maps, want * sizeof(*more));

			if (!more) {
				err = -ENOMEM;
				continue;
			}
			space->maps = more;
			max = want;
		}
		space->maps_n += read_map(line, &space->maps[space->maps_n]);
	}
	free(line);
	(void)fclose(file);
	return err;
}

const struct remote_map *remote_map_at(const struct remote_space *space, uint64_t address)
{
	for (size_t i = 0; i < space->maps_n; i++)
		if (address >= space->maps[i].start && address < space->maps[i].end)
			return &space->maps[i];
	return NULL;
}

/* ------------------------------------------------------------------------ modules */

/* glibc has made addresses of them; others leave what the file says. */
static uint64_t dynamic_address(const struct remote_module *module, uint64_t value)
{
	return value < module->bias ? value + module->bias : value;
}

static int read_dynamic(const struct remote_space *space, struct remote_module *module,
			uint64_t address)
{
	for (size_t i = 0; i < DYNAMIC_MAX; i++) {
		Elf64_Dyn dyn;
		int err = remote_read(space, address + i * sizeof(dyn), &dyn, sizeof(dyn));

		if (err)
			return err;
		if (dyn.d_tag == DT_NULL)
			break;
		if (dyn.d_tag == DT_SYMTAB)
			module->symbols = dynamic_address(module, dyn.d_un.d_ptr);
		else if (dyn.d_tag == DT_STRTAB)
			module->strings = dynamic_address(module, dyn.d_un.d_ptr);
		else if (dyn.d_tag == DT_GNU_HASH)
			module->hash = dynamic_address(module, dyn.d_un.d_ptr);
		else if (dyn.d_tag == DT_DEBUG)
			module->debug = dyn.d_un.d_ptr;
	}
	return 0;
}

/* Fill @module from the header at @map->start; false: there is no module. */
static bool read_module(const struct remote_space *space, const struct remote_map *map,
			struct remote_module *module)
{
	uint64_t dynamic = 0, low = UINT64_MAX, high = 0;
	Elf64_Phdr phdrs[PHDRS_MAX];
	Elf64_Ehdr head;

	if (remote_read(space, map->start, &head, sizeof(head)) ||
	    memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 || head.e_ident[EI_CLASS] != ELFCLASS64 ||
	    !head.e_phnum || head.e_phnum > PHDRS_MAX || head.e_phentsize != sizeof(*phdrs) ||
	    remote_read(space, map->start + head.e_phoff, phdrs, head.e_phnum * sizeof(*phdrs)))
		return false;
	for (size_t i = 0; i < head.e_phnum; i++) {
		if (phdrs[i].p_type == PT_DYNAMIC)
			dynamic = phdrs[i].p_vaddr;
		if (phdrs[i].p_type != PT_LOAD)
			continue;
		if (phdrs[i].p_vaddr < low)
			low = phdrs[i].p_vaddr;
		if (phdrs[i].p_vaddr + phdrs[i].p_memsz > high)
			high = phdrs[i].p_vaddr + phdrs[i].p_memsz;
	}
	if (high <= low)
		return false;
	*module = (struct remote_module){.bias = map->start - (low & ~(uint64_t)4095)};
	module->start = map->start;
	module->end = module->bias + high;
	memcpy(module->name, map->name, sizeof(module->name));
	return !dynamic || !read_dynamic(space, module, module->bias + dynamic);
}

static int read_modules(struct remote_space *space)
{
	space->modules = calloc(space->maps_n + 1, sizeof(*space->modules));
	if (!space->modules)
		return -ENOMEM;
	for (size_t i = 0; i < space->maps_n; i++) {
		const struct remote_map *map = &space->maps[i];

		if (map->inode && !map->offset &&
		    read_module(space, map, &space->modules[space->modules_n]))
			space->modules_n++;
	}
	return 0;
}

int remote_space_reload(struct remote_space *space)
{
	int err;

	free(space->maps);
	free(space->modules);
	space->maps = NULL;
	space->modules = NULL;
	space->maps_n = space->modules_n = 0;
	err = read_maps(space);
	return err ? err : read_modules(space);
}

int remote_space_open(struct remote_space *space, pid_t pid)
{
	char path[64];

	*space = (struct remote_space){.pid = pid};
	(void)snprintf(path, sizeof(path), "/proc/%d/mem", (int)remote_thread(pid));
	space->memory = open(path, O_RDWR | O_CLOEXEC);
	return space->memory < 0 ? -errno : remote_space_reload(space);
}

/* Linux: of an address space that nobody uses any more nothing is read; of one in use, an error. */
bool remote_space_is_gone(const struct remote_space *space)
{
	char byte;

	return space->memory >= 0 && !pread(space->memory, &byte, 1, 0);
}

void remote_space_close(struct remote_space *space)
{
	if (space->memory >= 0)
		(void)close(space->memory);
	free(space->maps);
	free(space->modules);
	*space = (struct remote_space){.memory = -1};
}

/* ------------------------------------------------------------------------ symbols */

static uint32_t gnu_hash(const char *name)
{
	uint32_t h = 5381;

	for (; *name; name++)
		h = h * 33 + (unsigned char)*name;
	return h;
}

static bool has_name(const struct remote_space *space, const struct remote_module *module,
		     const Elf64_Sym *symbol, const char *name)
{
	char text[64];

	return !remote_read_string(space, module->strings + symbol->st_name, text, sizeof(text)) &&
	       !strcmp(text, name);
}

/* The chain of DT_GNU_HASH in which @hash is: index of its first symbol, and where chains are. */
static bool find_chain(const struct remote_space *space, const struct remote_module *module,
		       uint32_t hash, uint32_t *index, uint64_t *chains)
{
	uint32_t head[4]; /* buckets, first symbol, words of the filter, its shift */
	uint64_t buckets;

	if (!module->hash || !module->symbols || !module->strings ||
	    remote_read(space, module->hash, head, sizeof(head)) || !head[0])
		return false;
	buckets = module->hash + sizeof(head) + (uint64_t)head[2] * 8;
	if (remote_read(space, buckets + (uint64_t)(hash % head[0]) * 4, index, sizeof(*index)) ||
	    *index < head[1])
		return false;
	*chains = buckets + (uint64_t)head[0] * 4 - (uint64_t)head[1] * 4;
	return true;
}

static size_t symbols_of(const struct remote_space *space, const struct remote_module *module,
			 const char *name, struct remote_range *found, size_t max)
{
	uint32_t hash = gnu_hash(name), index, entry = 0;
	uint64_t chains;
	size_t n = 0;

	if (!find_chain(space, module, hash, &index, &chains))
		return 0;
	for (size_t i = 0; n < max && i < CHAIN_MAX && !(entry & 1); i++, index++) {
		Elf64_Sym symbol;

		if (remote_read(space, chains + (uint64_t)index * 4, &entry, sizeof(entry)))
			return n;
		if ((entry | 1) != (hash | 1) ||
		    remote_read(space, module->symbols + index * sizeof(symbol), &symbol,
				sizeof(symbol)) ||
		    symbol.st_shndx == SHN_UNDEF || ELF64_ST_TYPE(symbol.st_info) != STT_FUNC ||
		    !has_name(space, module, &symbol, name))
			continue;
		found[n].start = module->bias + symbol.st_value;
		found[n++].end = module->bias + symbol.st_value + symbol.st_size;
	}
	return n;
}

size_t remote_symbols(const struct remote_space *space, const struct remote_module *module,
		      const char *name, struct remote_range *found, size_t max)
{
	size_t n = 0;

	if (module)
		return symbols_of(space, module, name, found, max);
	for (size_t i = 0; space->modules && i < space->modules_n; i++)
		n += symbols_of(space, &space->modules[i], name, found + n, max - n);
	return n;
}

uint64_t remote_symbol(const struct remote_space *space, const struct remote_module *module,
		       const char *name)
{
	struct remote_range found;

	return remote_symbols(space, module, name, &found, 1) ? found.start : 0;
}

const struct remote_module *remote_module_with(const struct remote_space *space, const char *name)
{
	for (size_t i = 0; space->modules && i < space->modules_n; i++)
		if (remote_symbol(space, &space->modules[i], name))
			return &space->modules[i];
	return NULL;
}

/* What the dynamic linker tells debuggers, as <link.h> has it. */
static const struct remote_module *module_of(const struct remote_space *space,
					     const struct link_map *map)
{
	uint64_t dynamic = (uint64_t)(uintptr_t)map->l_ld;

	for (size_t i = 0; i < space->modules_n; i++)
		if (dynamic >= space->modules[i].start && dynamic < space->modules[i].end)
			return &space->modules[i];
	return NULL;
}

uint64_t remote_global(const struct remote_space *space, const char *name)
{
	uint64_t found = 0;
	struct r_debug debug = {0};
	struct link_map map = {0};

	for (size_t i = 0; !debug.r_map && i < space->modules_n; i++)
		if (space->modules[i].debug &&
		    remote_read(space, space->modules[i].debug, &debug, sizeof(debug)))
			debug.r_map = NULL;
	map.l_next = debug.r_map;
	for (size_t n = 0; !found && map.l_next && n < LOADED_MAX; n++) {
		const struct remote_module *module;

		if (remote_read(space, (uint64_t)(uintptr_t)map.l_next, &map, sizeof(map)))
			return 0;
		module = module_of(space, &map);
		found = module ? remote_symbol(space, module, name) : 0;
	}
	return found;
}
