/* SPDX-License-Identifier: MIT */
/*
 * Modules: the program and its shared objects, as they come and go. For each one
 * that registers, the relocations of its text that the linker kept say where it
 * calls trampolines; what stands there in memory decides whether it is a site.
 *
 * The file is a hint, the live bytes are the truth: a site is taken up only if it
 * is a call, jmp or jcc of exactly the trampoline (or PLT entry, or GOT slot) that
 * the relocation names. Whatever else refers to a trampoline is left alone.
 */
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/error.h"
#include "linux/elf.h"
#include "linux/linux.h"

#define PREFIX "__SCT__"

/* All records; grows at the head. Guarded by the update lock. */
static struct shunt_loaded *loaded;

struct shunt_loaded *shunt_first_loaded(void)
{
	return loaded;
}

/* ------------------------------------------------------ the module in memory */

/* What the dynamic linker says of the module that has a given address. */
struct image {
	uintptr_t inside; /* the address */
	uintptr_t bias;
	const ElfW(Phdr) * headers;
	size_t nr_headers;
	char path[4096];
};

static bool has_address(const struct dl_phdr_info *info, uintptr_t addr)
{
	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];

		if (ph->p_type == PT_LOAD && addr - info->dlpi_addr - ph->p_vaddr < ph->p_memsz)
			return true;
	}
	return false;
}

static int match(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct image *image = arg;
	const char *path = info->dlpi_name && *info->dlpi_name ? info->dlpi_name : "/proc/self/exe";

	(void)size;
	if (!has_address(info, image->inside))
		return 0;
	image->bias = info->dlpi_addr;
	image->headers = info->dlpi_phdr;
	image->nr_headers = info->dlpi_phnum;
	if (strlen(path) >= sizeof(image->path))
		return 0;
	strcpy(image->path, path);
	return 1;
}

/* Whether [addr, addr + len) is executable text of the module. */
static bool is_text(const struct image *image, uintptr_t addr, size_t len)
{
	for (size_t i = 0; i < image->nr_headers; i++) {
		const ElfW(Phdr) *ph = &image->headers[i];
		uintptr_t off = addr - image->bias - ph->p_vaddr;

		if (ph->p_type == PT_LOAD && (ph->p_flags & PF_X) && off < ph->p_memsz &&
		    len <= ph->p_memsz - off)
			return true;
	}
	return false;
}

/*
 * Whether @elf is the file that is mapped: by build-id, or, where there is none,
 * by its program headers. (Each site is compared with memory besides.)
 */
static bool is_mapped_file(const struct shunt_elf *elf, const struct image *image)
{
	const uint8_t *file_id, *id;
	size_t file_len, len;
	int in_file = shunt_elf_build_id(elf, &file_id, &file_len);
	int in_memory = shunt_elf_loaded_build_id(image->headers, image->nr_headers, image->bias,
						  &id, &len);

	if (!in_file && !in_memory)
		return len == file_len && !memcmp(id, file_id, len);
	return in_file && in_memory && elf->segments.count == image->nr_headers &&
	       !memcmp(elf->segments.data, image->headers,
		       image->nr_headers * sizeof(image->headers[0]));
}

/* ------------------------------------------------------------------ the scan */

/* An array that grows. */
struct vector {
	void *data;
	size_t n, max;
};

struct scan {
	const struct image *image;
	const struct shunt_elf *elf;
	const struct shunt_module *module;
	uint32_t *mod_of_sym; /* by symbol index: index into mods + 1; UINT32_MAX: not a key */
	struct vector mods;   /* struct static_call_mod */
	struct vector sites;  /* struct shunt_site */
	uintptr_t base;       /* what the sites' offsets count from */
};

static void *vector_add(struct vector *v, size_t size)
{
	if (v->n == v->max) {
		size_t max = v->max ? 2 * v->max : 4096 / size;
		void *data = v->data ? mremap(v->data, v->max * size, max * size, MREMAP_MAYMOVE)
				     : shunt_port_alloc(max * size);

		if (!data || data == MAP_FAILED)
			return NULL;
		v->data = data;
		v->max = max;
	}
	return (char *)v->data + v->n++ * size;
}

static void vector_free(struct vector *v, size_t size)
{
	shunt_port_free(v->data, v->max * size);
}

static uint32_t load32(uintptr_t addr)
{
	uint32_t value;

	memcpy(&value, (const void *)addr, sizeof(value));
	return value;
}

static uintptr_t rel32_target(uintptr_t field)
{
	return field + 4 + (uintptr_t)(intptr_t)(int32_t)load32(field);
}

/* The key of the trampoline at @tramp (endbr64; jmp *key(%rip)), or NULL. */
static struct static_call_key *key_of(uintptr_t tramp)
{
	static const uint8_t code[] = {0xf3, 0x0f, 0x1e, 0xfa, 0xff, 0x25};

	if (memcmp((const void *)tramp, code, sizeof(code)) != 0)
		return NULL;
	return (struct static_call_key *)rel32_target(tramp + sizeof(code));
}

/* A static executable has no dynamic linker to ask. */
#pragma weak dlsym
#pragma weak dlopen
#pragma weak dlclose

/*
 * The trampoline that the dynamic linker gives the module for @name: global
 * scope first, then the module and what it depends on.
 */
static uintptr_t imported(const struct image *image, const char *name)
{
	char plain[256];
	size_t len = shunt_elf_name_len(name);
	void *handle, *tramp;

	if (!dlsym || len >= sizeof(plain))
		return 0;
	memcpy(plain, name, len);
	plain[len] = '\0';
	tramp = dlsym(RTLD_DEFAULT, plain);
	if (tramp || !dlopen || !dlclose)
		return (uintptr_t)tramp;
	handle = dlopen(image->path, RTLD_LAZY | RTLD_NOLOAD);
	if (!handle)
		return 0;
	tramp = dlsym(handle, plain);
	(void)dlclose(handle);
	return (uintptr_t)tramp;
}

static bool is_own_key(const struct shunt_module *module, const struct static_call_key *key)
{
	uintptr_t off = (uintptr_t)key - (uintptr_t)module->keys;

	return off < (uintptr_t)module->keys_end - (uintptr_t)module->keys &&
	       off % sizeof(*key) == 0;
}

/*
 * Fill in the module's own record of the key that symbol @sym is the trampoline
 * of. False where it is none.
 */
static bool fill_mod(const struct scan *s, const struct shunt_elf_sym *sym,
		     struct static_call_mod *mod)
{
	uintptr_t tramp =
		sym->undefined ? imported(s->image, sym->name) : s->image->bias + sym->value;

	if (!tramp || (!sym->undefined && !is_text(s->image, tramp, 10)))
		return false;
	mod->key = key_of(tramp);
	if (!sym->undefined)
		mod->tramp = tramp; /* else the PLT entry, once a site shows it */
	return mod->key && (sym->undefined || is_own_key(s->module, mod->key));
}

/* The record for @sym; *mod = NULL where it is not the trampoline of a key. */
static int mod_for(struct scan *s, const struct shunt_elf_sym *sym, uint32_t *index)
{
	uint32_t *known = &s->mod_of_sym[sym->index];
	struct static_call_mod new = {0};
	struct static_call_mod *mod;

	if (!*known) {
		*known = UINT32_MAX;
		if (fill_mod(s, sym, &new)) {
			mod = vector_add(&s->mods, sizeof(*mod));
			if (!mod)
				return -ENOMEM;
			*mod = new;
			*known = (uint32_t)s->mods.n;
		}
	}
	*index = *known;
	return 0;
}

/*
 * What instruction the field belongs to, by the live bytes before it. Returns its
 * first byte, or 0 where it is no site: its address is taken, or moved to a register.
 */
static uintptr_t decode(uintptr_t field, const struct shunt_elf_ref *ref, uint8_t *kind)
{
	const uint8_t *b = (const uint8_t *)field;
	bool two = ref->before >= 2; /* a site can open its section */
	bool got = two && ref->type != R_X86_64_PC32 && ref->type != R_X86_64_PLT32;

	if (got && b[-2] == 0xff && (b[-1] == 0x15 || b[-1] == 0x25)) {
		*kind = b[-1] == 0x15 ? SHUNT_SITE_CALL_GOT : SHUNT_SITE_JMP_GOT;
		return field - 2;
	}
	/* A relaxed jmp *slot(%rip): e9 rel32 90, one byte earlier than the field. */
	if (got && b[-2] == 0xe9 && b[3] == 0x90) {
		*kind = SHUNT_SITE_JMP;
		return field - 2;
	}
	if (b[-1] == 0xe8 || b[-1] == 0xe9) {
		*kind = b[-1] == 0xe8 ? SHUNT_SITE_CALL : SHUNT_SITE_JMP;
		return field - 1;
	}
	if (two && b[-2] == 0x0f && (b[-1] & 0xf0) == 0x80) {
		*kind = (uint8_t)(SHUNT_SITE_JCC | (b[-1] & 0xf) << 4);
		return field - 2;
	}
	return 0;
}

/* Whether the site at @addr goes where @mod's calls go; the first one tells where. */
static bool goes_to(const struct scan *s, struct static_call_mod *mod, uintptr_t addr, uint8_t kind)
{
	unsigned k = kind & 0xf;
	bool indirect = k == SHUNT_SITE_CALL_GOT || k == SHUNT_SITE_JMP_GOT;
	size_t opcode = indirect || k == SHUNT_SITE_JCC ? 2 : 1;
	uintptr_t target = rel32_target(addr + opcode);
	uintptr_t *known = indirect ? &mod->slot : &mod->tramp;

	/* A PLT entry of the module itself. */
	if (!*known && (indirect || is_text(s->image, target, 1)))
		*known = target;
	return *known == target;
}

static int on_ref(void *arg, const struct shunt_elf_ref *ref, const struct shunt_elf_sym *sym)
{
	struct scan *s = arg;
	uintptr_t field = s->image->bias + ref->field, addr;
	struct static_call_mod *mod;
	struct shunt_site *site;
	uint32_t index;
	uint8_t kind;
	size_t before = ref->before < 2 ? (size_t)ref->before : 2;
	int ret;

	if (ref->addend != -4 || !before || !is_text(s->image, field - before, before + 4))
		return 0;
	addr = decode(field, ref, &kind);
	if (!addr)
		return 0;
	ret = mod_for(s, sym, &index);
	if (ret || index == UINT32_MAX)
		return ret;
	mod = (struct static_call_mod *)s->mods.data + index - 1;
	if (!goes_to(s, mod, addr, kind) || addr - s->base > UINT32_MAX)
		return 0;

	site = vector_add(&s->sites, sizeof(*site));
	if (!site)
		return -ENOMEM;
	site->off = (uint32_t)(addr - s->base);
	site->owner = index - 1;
	site->kind = kind;
	return 0;
}

static int run_scan(struct scan *s)
{
	size_t size = s->elf->symtab.symbols.count * sizeof(s->mod_of_sym[0]);
	int ret;

	s->base = s->image->bias;
	s->mod_of_sym = size ? shunt_port_alloc(size) : NULL;
	if (size && !s->mod_of_sym)
		return -ENOMEM;
	ret = shunt_elf_for_each_ref(s->elf, PREFIX, on_ref, s);
	shunt_port_free(s->mod_of_sym, size);
	if (ret) {
		vector_free(&s->sites, sizeof(struct shunt_site));
		vector_free(&s->mods, sizeof(struct static_call_mod));
	}
	return ret;
}

/* -------------------------------------------------------------- registration */

/* Say why @m's sites are not known, and, where it matters, aloud. */
static void give_up(struct shunt_loaded *m, const char *why, int error)
{
	m->why = why;
	if (error != -ENODATA)
		shunt_message("module %s: %s; its static calls go through their trampolines%s%s",
			      m->path, why, error ? ": " : "", error ? strerror(-error) : "");
}

/* Hand the sites that were found to the core. */
static void take_sites(struct shunt_loaded *m, struct scan *s)
{
	struct shunt_report report = {0};

	if (!s->sites.n) {
		vector_free(&s->mods, sizeof(struct static_call_mod));
		return;
	}
	m->calls.mods = s->mods.data;
	m->calls.nr_mods = (uint32_t)s->mods.n;
	if (static_call_add(&m->calls, s->base, s->sites.data, (uint32_t)s->sites.n, &report)) {
		shunt_port_report(&report);
		give_up(m, "its text could not be written", report.error);
	}
}

static void scan_elf(struct shunt_loaded *m, const struct image *image, const struct shunt_elf *elf)
{
	struct scan s = {.image = image, .elf = elf, .module = m->module};
	int ret;

	if (!is_mapped_file(elf, image)) {
		give_up(m, "the file has been replaced since it was mapped", -ESTALE);
		return;
	}
	ret = run_scan(&s);
	if (!ret)
		take_sites(m, &s);
	else if (ret == -ENODATA)
		give_up(m, shunt_elf_lack_text(shunt_elf_lack(elf)), ret);
	else
		give_up(m, ret == -EINVAL ? "the file is malformed" : "no memory to read it", ret);
}

static void scan_file(struct shunt_loaded *m, const struct image *image)
{
	struct shunt_file file;
	struct shunt_elf elf;
	int ret = shunt_file_map(&file, image->path);

	if (ret) {
		give_up(m, "the file cannot be read", ret);
		return;
	}
	ret = shunt_elf_open(&elf, file.image, file.size);
	if (ret)
		give_up(m, "the file is not the ELF file that is mapped", ret);
	else
		scan_elf(m, image, &elf);
	shunt_file_unmap(&file);
}

static struct shunt_loaded *find(const struct shunt_module *module)
{
	struct shunt_loaded *m = loaded;

	while (m && m->module != module)
		m = m->next;
	return m;
}

/* A record for @module; NULL where it has one already, or there is no memory. */
static struct shunt_loaded *claim(const struct shunt_module *module)
{
	struct shunt_loaded *m = NULL;

	if (shunt_port_lock())
		return NULL;
	if (!find(module)) {
		m = find(NULL);
		if (!m) {
			m = shunt_port_alloc(sizeof(*m));
			if (m) {
				m->next = loaded;
				loaded = m;
			}
		}
		if (m)
			m->module = module;
	}
	shunt_port_unlock();
	return m;
}

/*
 * From our own memory, like the records: a leak checker looks for pointers to
 * malloc()'s in malloc()'s.
 */
static char *copy_path(const char *path)
{
	size_t size = strlen(path) + 1;
	char *copy = shunt_port_alloc(size);

	return copy ? memcpy(copy, path, size) : NULL;
}

static void free_path(char *path)
{
	if (path)
		shunt_port_free(path, strlen(path) + 1);
}

void shunt_module_register(const struct shunt_module *module)
{
	struct image image = {.inside = (uintptr_t)module};
	struct shunt_loaded *m = claim(module);

	if (!m)
		return;
	if (!dl_iterate_phdr(match, &image)) {
		m->path = copy_path("(unknown)");
		give_up(m, "the dynamic linker does not know it", 0);
		return;
	}
	m->path = copy_path(image.path);
	m->bias = image.bias;
	scan_file(m, &image);
}

/* Set when the process exits: then the modules' destructors run, but they stay. */
static _Atomic bool exiting;

static void on_exit_begins(void)
{
	atomic_store_explicit(&exiting, true, memory_order_relaxed);
}

/*
 * Handlers of atexit() run before all destructors of the dynamic linker, so this
 * tells the end of the process from a dlclose().
 */
__attribute__((constructor(101))) static void watch_exit(void)
{
	(void)atexit(on_exit_begins);
}

void shunt_module_unregister(const struct shunt_module *module)
{
	struct shunt_loaded *m;

	if (atomic_load_explicit(&exiting, memory_order_relaxed) || shunt_port_lock())
		return;
	m = find(module);
	shunt_port_unlock();
	if (!m)
		return;
	(void)static_call_remove(&m->calls);
	free_path(m->path);
	m->path = NULL;
	m->why = NULL;
	if (shunt_port_lock())
		return;
	m->module = NULL;
	shunt_port_unlock();
}
