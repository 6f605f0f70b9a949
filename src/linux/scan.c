/* SPDX-License-Identifier: MIT */
/*
 * Where a module's sites are. The relocations of its text that the linker kept say
 * where it calls trampolines, its own records where it has static branches; what
 * stands there in memory decides whether it is a site.
 *
 * The file is a hint, the live bytes are the truth: a site is taken up only if it
 * is a call, jmp or jcc of exactly the trampoline (or PLT entry, or GOT slot) that
 * the relocation names. Whatever else refers to a trampoline is left alone.
 */
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>

#include "linux/scan.h"

#define PREFIX "__SCT__"

/* -------------------------------------------------------- the file and its calls */

/*
 * Whether @elf is the file that is mapped: by build-id, or, where there is none,
 * by its program headers. (Each site is compared with memory besides.)
 */
bool shunt_is_mapped_file(const struct shunt_elf *elf, const struct shunt_image *image)
{
	const uint8_t *file_id, *id;
	size_t file_len, len;
	int in_file = shunt_elf_build_id(elf, &file_id, &file_len);
	int in_memory = shunt_elf_loaded_build_id(image->headers, image->nr_headers, image->bias,
						  &id, &len);

	if (!in_file && !in_memory)
		return len == file_len && !memcmp(id, file_id, len);
	return in_file && in_memory && elf->segments.count == image->nr_headers &&
	       !memcmp(elf->segments.data, image->headers, image->nr_headers * sizeof(ElfW(Phdr)));
}

void *shunt_vector_add(struct shunt_vector *v, size_t size)
{
	if (v->n == v->max) {
		size_t max = v->max ? 2 * v->max : SHUNT_VECTOR_MIN;
		void *data = v->data ? mremap(v->data, v->max * size, max * size, MREMAP_MAYMOVE)
				     : shunt_port_alloc(max * size);

		if (!data || data == MAP_FAILED)
			return NULL;
		v->data = data;
		v->max = max;
	}
	return (char *)v->data + v->n++ * size;
}

void shunt_vector_free(struct shunt_vector *v, size_t size)
{
	shunt_port_free(v->data, v->max * size);
	*v = (struct shunt_vector){0};
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
struct static_call_key *shunt_tramp_key(uintptr_t tramp)
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
uintptr_t shunt_imported(const struct shunt_image *image, const char *name)
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

bool shunt_is_own_key(const struct shunt_module *module, const struct static_call_key *key)
{
	uintptr_t off = (uintptr_t)key - (uintptr_t)module->call_keys;

	return off < (uintptr_t)module->call_keys_end - (uintptr_t)module->call_keys &&
	       off % sizeof(*key) == 0;
}

/*
 * Fill in the module's own record of the key that symbol @sym is the trampoline
 * of. False where it is none.
 */
static bool fill_mod(const struct shunt_scan *s, const struct shunt_elf_sym *sym,
		     struct shunt_mod *mod)
{
	uintptr_t tramp =
		sym->undefined ? shunt_imported(s->image, sym->name) : s->image->bias + sym->value;
	struct static_call_key *key;

	if (!tramp || (!sym->undefined && !shunt_image_has_text(s->image, tramp, 10)))
		return false;
	key = shunt_tramp_key(tramp);
	mod->key = key;
	if (!sym->undefined)
		mod->tramp = tramp; /* else the PLT entry, once a site shows it */
	return key && (sym->undefined || shunt_is_own_key(s->module, key));
}

/* The record for @sym; *mod = NULL where it is not the trampoline of a key. */
static int mod_for(struct shunt_scan *s, const struct shunt_elf_sym *sym, uint32_t *index)
{
	uint32_t *known = &s->mod_of_sym[sym->index];
	struct shunt_mod new = {0};
	struct shunt_mod *mod;

	if (!*known) {
		*known = UINT32_MAX;
		if (fill_mod(s, sym, &new)) {
			mod = shunt_vector_add(&s->mods, sizeof(*mod));
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
static bool goes_to(const struct shunt_scan *s, struct shunt_mod *mod, uintptr_t addr, uint8_t kind)
{
	unsigned k = kind & 0xf;
	bool indirect = k == SHUNT_SITE_CALL_GOT || k == SHUNT_SITE_JMP_GOT;
	size_t opcode = indirect || k == SHUNT_SITE_JCC ? 2 : 1;
	uintptr_t target = rel32_target(addr + opcode);
	uintptr_t *known = indirect ? &mod->slot : &mod->tramp;

	/* A PLT entry of the module itself. */
	if (!*known && (indirect || shunt_image_has_text(s->image, target, 1)))
		*known = target;
	return *known == target;
}

static int on_ref(void *arg, const struct shunt_elf_ref *ref, const struct shunt_elf_sym *sym)
{
	struct shunt_scan *s = arg;
	uintptr_t field = s->image->bias + ref->field, addr;
	struct shunt_mod *mod;
	struct shunt_site *site;
	uint32_t index;
	uint8_t kind;
	size_t before = ref->before < 2 ? (size_t)ref->before : 2;
	int ret;

	if (ref->addend != -4 || !before ||
	    !shunt_image_has_text(s->image, field - before, before + 4))
		return 0;
	addr = decode(field, ref, &kind);
	if (!addr)
		return 0;
	ret = mod_for(s, sym, &index);
	if (ret || index == UINT32_MAX)
		return ret;
	mod = (struct shunt_mod *)s->mods.data + index - 1;
	if (!goes_to(s, mod, addr, kind) || addr - s->base > UINT32_MAX)
		return 0;

	site = shunt_vector_add(&s->sites, sizeof(*site));
	if (!site)
		return -ENOMEM;
	site->off = (uint32_t)(addr - s->base);
	site->owner = index - 1;
	site->next = index - 1;
	site->kind = kind;
	return 0;
}

void shunt_scan_free(struct shunt_scan *s)
{
	shunt_vector_free(&s->sites, sizeof(struct shunt_site));
	shunt_vector_free(&s->mods, sizeof(struct shunt_mod));
}

int shunt_scan_calls(struct shunt_scan *s)
{
	size_t size = s->elf->symtab.symbols.count * sizeof(s->mod_of_sym[0]);
	int ret;

	s->base = s->image->bias;
	s->mod_of_sym = size ? shunt_port_alloc(size) : NULL;
	if (size && !s->mod_of_sym)
		return -ENOMEM;
	ret = shunt_elf_for_each_ref(s->elf, PREFIX, on_ref, s);
	shunt_port_free(s->mod_of_sym, size);
	if (ret)
		shunt_scan_free(s);
	return ret;
}

/* ------------------------------------------------------------ static branches */

/* A set of keys, with the index of each: open addressing, at most half full. */
struct key_set {
	struct {
		const struct static_key *key;
		uint32_t index;
	} * slots;
	size_t size; /* a power of 2 */
};

static uint32_t *key_set_find(struct key_set *set, const struct static_key *key)
{
	size_t i = (uintptr_t)key / 8 * 0x9e3779b97f4a7c15u >> 20;

	for (;; i++) {
		i &= set->size - 1;
		if (set->slots[i].key == key)
			return &set->slots[i].index;
		if (!set->slots[i].key) {
			set->slots[i].key = key;
			set->slots[i].index = UINT32_MAX;
			return &set->slots[i].index;
		}
	}
}

static bool key_set_init(struct key_set *set, size_t n)
{
	set->size = 16;
	while (set->size < 2 * n)
		set->size *= 2;
	set->slots = shunt_port_alloc(set->size * sizeof(set->slots[0]));
	return set->slots;
}

/* The form that the compiler left: a nop of 5 bytes, or a jmp of 2 or 5. */
static uint8_t branch_kind(uintptr_t code)
{
	return *(const uint8_t *)code == 0xeb ? SHUNT_SITE_BRANCH2 : SHUNT_SITE_BRANCH;
}

static int add_branch(struct shunt_scan *s, struct key_set *set,
		      const struct static_jump_entry *entry, uint32_t index)
{
	uintptr_t code = shunt_jump_code(entry);
	uint32_t *mod_index;
	struct shunt_site *site;

	/* What the linker dropped (a group that another file had too) points nowhere. */
	if (!shunt_image_has_text(s->image, code, 2) || code - s->base > UINT32_MAX)
		return 0;
	mod_index = key_set_find(set, shunt_jump_key(entry));
	if (*mod_index == UINT32_MAX) {
		struct shunt_mod *mod = shunt_vector_add(&s->mods, sizeof(*mod));

		if (!mod)
			return -ENOMEM;
		mod->key = shunt_jump_key(entry);
		*mod_index = (uint32_t)s->mods.n - 1;
	}
	site = shunt_vector_add(&s->sites, sizeof(*site));
	if (!site)
		return -ENOMEM;
	site->off = (uint32_t)(code - s->base);
	site->owner = index;
	site->next = *mod_index;
	site->kind = branch_kind(code);
	return 0;
}

int shunt_scan_branches(struct shunt_scan *s)
{
	const struct static_jump_entry *entries = s->module->jumps;
	size_t n = (size_t)((const struct static_jump_entry *)s->module->jumps_end - entries);
	struct key_set set;
	int ret = 0;

	if (!key_set_init(&set, n))
		return -ENOMEM;
	s->base = s->image->bias;
	for (size_t i = 0; i < n && !ret; i++)
		ret = add_branch(s, &set, &entries[i], (uint32_t)i);
	shunt_port_free(set.slots, set.size * sizeof(set.slots[0]));
	if (ret)
		shunt_scan_free(s);
	return ret;
}
