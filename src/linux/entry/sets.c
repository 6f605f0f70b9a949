/* SPDX-License-Identifier: MIT */
/*
 * A module's file made into a set of entries with their names, which the core traces. What can
 * never be traced is not in it: that is found again when somebody asks (list.c).
 *
 * A stub may still be reading an entry of a set that is no more. So the memory of those is only
 * used again for entries, or freed behind a wait for callbacks.
 */
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include <shunt/port.h>

#include "arch/arch.h"
#include "core/ftrace.h"
#include "core/ftrace_raw.h"
#include "linux/base/format.h"
#include "linux/entry/modules.h"
#include "linux/module/loaded.h"

/* ------------------------------------------------------------------------- the file */

const char *shunt_module_intern(const char *text)
{
	const char *s;

	if (shunt_port_lock())
		return NULL;
	s = shunt_intern(text);
	shunt_port_unlock();
	return s;
}

/* The file's name, that of the program too. */
static const char *name_of(const struct shunt_traced_module *m, const char *path)
{
	char program[4096];
	ssize_t len;

	if (!m->is_program || strcmp(path, "/proc/self/exe") != 0)
		return shunt_module_intern(path);
	len = readlink(path, program, sizeof(program) - 1);
	if (len <= 0) /* the first thread has ended */
		len = readlink("/proc/thread-self/exe", program, sizeof(program) - 1);
	if (len <= 0)
		return shunt_module_intern(path);
	program[len] = '\0';
	return shunt_module_intern(program);
}

static const char *reason(int error)
{
	switch (error) {
	case -ESTALE:
		return "its module's file has been replaced since it was mapped";
	case -ENOEXEC:
		return "its module's file is not the ELF file that is mapped";
	case -ENOMEM:
		return "there is no memory to read its module's file";
	default:
		return "its module's file cannot be read";
	}
}

static void note_build_id(struct shunt_traced_module *m, const struct shunt_elf *elf)
{
	const uint8_t *id;
	size_t len;

	if (shunt_elf_build_id(elf, &id, &len) || len > sizeof(m->build_id))
		return;
	memcpy(m->build_id, id, len);
	m->build_id_len = len;
}

int shunt_module_open(struct shunt_traced_module *m, struct shunt_file *file, struct shunt_elf *elf,
		      const char **why)
{
	static struct shunt_image image; /* lock of sets */
	int ret;

	memset(&image, 0, sizeof(image));
	image.inside = m->range.start;
	image.bias = m->bias;
	image.range = m->range;
	image.headers = m->headers;
	image.nr_headers = m->nr_headers;
	image.is_program = m->is_program;
	(void)shunt_absolute_path(image.path, sizeof(image.path),
				  m->is_program ? "/proc/self/exe" : m->link_name);
	ret = shunt_image_open(&image, file, elf);
	if (!m->path)
		m->path = name_of(m, image.path);
	if (!ret && shunt_elf_rearranged(elf)) {
		shunt_file_unmap(file);
		*why = shunt_elf_rearranged(elf);
		return -EAGAIN;
	}
	if (ret)
		*why = reason(ret);
	else
		note_build_id(m, elf);
	return ret;
}

static bool read_live(const struct shunt_find *f, void *to, uint64_t vaddr, size_t len)
{
	const struct shunt_traced_module *m = f->arg;
	const struct shunt_segments segments = {m->headers, m->nr_headers, m->bias};

	if (!shunt_segment_has(&segments, PF_R | PF_X, m->bias + vaddr, len))
		return false;
	/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
	shunt_copy_text(to, (const void *)(m->bias + vaddr), len);
	return true;
}

/* ------------------------------------------------------------------------- handlers */

/*
 * Who defines them first, of the modules in the order of their coming; of those of other namespaces
 * any, for it is not asked what each of them is bound to. Lock of sets.
 */
static struct handler {
	bool is_known;
	const char *why;
} own_handlers[SHUNT_HANDLERS], other_handlers[SHUNT_HANDLERS];

static struct handler *handlers_of(const struct shunt_traced_module *m)
{
	return m->is_other ? other_handlers : own_handlers;
}

/* Each namespace has one. */
static bool is_c_library(const struct shunt_traced_module *m, const struct shunt_elf *dynamic)
{
	uint64_t addr;

	if (m->is_other)
		return !shunt_elf_symbol_value(dynamic, "dl_iterate_phdr", &addr);
	return shunt_in_range(m->range, (uintptr_t)dl_iterate_phdr, 1);
}

static void look_for_handler(const struct shunt_traced_module *m, const struct shunt_elf *elf,
			     unsigned i)
{
	struct handler *handler = &handlers_of(m)[i];
	struct shunt_elf dynamic = *elf; /* what other modules can call */
	const uint8_t *code;
	uint64_t addr;
	char text[300];

	memset(&dynamic.symtab, 0, sizeof(dynamic.symtab));
	if (shunt_elf_symbol_value(&dynamic, shunt_find_handlers[i], &addr))
		return;
	handler->is_known = !m->is_other;
	code = shunt_elf_at(elf, addr, 8);
	if (is_c_library(m, &dynamic) || (code && shunt_is_empty_function(code, 8)))
		return;
	shunt_format(text, sizeof(text), "calls %s() of %s", shunt_find_handlers[i],
		     m->path ? m->path : m->link_name);
	handler->why = shunt_module_intern(text);
	handler->is_known = true;
}

void shunt_module_look_for_handlers(struct shunt_traced_module *m)
{
	const struct handler *handlers = handlers_of(m);
	struct shunt_file file = {0};
	struct shunt_elf elf;
	bool all = true;

	for (unsigned i = 0; i < SHUNT_HANDLERS; i++)
		all = all && handlers[i].is_known;
	if (all || shunt_module_open(m, &file, &elf, &m->why))
		return;
	for (unsigned i = 0; i < SHUNT_HANDLERS; i++)
		if (!handlers[i].is_known)
			look_for_handler(m, &elf, i);
	shunt_file_unmap(&file);
}

void shunt_module_finder(const struct shunt_traced_module *m, const struct shunt_elf *elf,
			 struct shunt_find *f)
{
	*f = (struct shunt_find){.elf = elf, .read = read_live, .arg = m};
	for (unsigned i = 0; i < SHUNT_HANDLERS; i++)
		f->foreign[i] = handlers_of(m)[i].why;
}

/* ---------------------------------------------------------------------- memory */

/* Of sets that are no more. Lock of sets. */
struct retired_set {
	struct retired_set *next;
	void *entries, *names;
	size_t room_for_entries, room_for_names;
};

static struct retired_set *retired;
static size_t retired_size;

#define RETIRED_MAX ((size_t)4 << 20)

static size_t room_for(size_t size)
{
	return (size + 4095) & ~(size_t)4095;
}

/* The memory of a set of the same size that is no more: the module may have come again. */
static bool reuse(struct shunt_traced_module *m)
{
	for (struct retired_set **p = &retired; *p; p = &(*p)->next) {
		struct retired_set *r = *p;

		if (r->room_for_entries != m->room_for_entries ||
		    r->room_for_names != m->room_for_names)
			continue;
		m->set.entries = r->entries;
		m->set.names = r->names;
		*p = r->next;
		retired_size -= r->room_for_entries + r->room_for_names;
		shunt_port_free(r, sizeof(*r));
		return true;
	}
	return false;
}

static bool allocate(struct shunt_traced_module *m, size_t n, size_t names)
{
	m->room_for_entries = room_for(n * sizeof(struct shunt_entry));
	m->room_for_names = room_for(names);
	if (reuse(m))
		return true;
	m->set.entries = shunt_port_alloc(m->room_for_entries);
	m->set.names = shunt_port_alloc(m->room_for_names);
	if (m->set.entries && m->set.names)
		return true;
	if (m->set.entries)
		shunt_port_free(m->set.entries, m->room_for_entries);
	if (m->set.names)
		shunt_port_free((void *)(uintptr_t)m->set.names, m->room_for_names);
	m->set.entries = NULL;
	m->set.names = NULL;
	return false;
}

static void (*_Atomic on_unload)(const struct shunt_gone_module *module);

void shunt_raw_on_unload(void (*fn)(const struct shunt_gone_module *module))
{
	atomic_store(&on_unload, fn);
}

static void tell_recorder(const struct shunt_traced_module *m)
{
	void (*fn)(const struct shunt_gone_module *module) = atomic_load(&on_unload);
	const struct shunt_gone_module gone = {.path = m->path,
					       .start = m->range.start,
					       .end = m->range.end,
					       .set = &m->set,
					       .build_id = m->build_id,
					       .build_id_len = m->build_id_len};

	if (fn)
		fn(&gone);
}

void shunt_module_drop(struct shunt_traced_module *m)
{
	struct retired_set *r;

	if (!m->has_set)
		return;
	tell_recorder(m);
	shunt_entries_remove(&m->set);
	if (SHUNT_HAS_ENTRY_STUBS)
		shunt_entry_stubs_forget(m->range.start, m->range.end);
	m->has_set = false;
	r = shunt_port_alloc(sizeof(*r));
	if (!r)
		return; /* lost */
	*r = (struct retired_set){retired, m->set.entries, (void *)(uintptr_t)m->set.names,
				  m->room_for_entries, m->room_for_names};
	retired = r;
	retired_size += r->room_for_entries + r->room_for_names;
}

static struct retired_set *take_retired(void)
{
	struct retired_set *all = NULL;

	if (shunt_sets_lock(true))
		return NULL;
	if (retired_size > RETIRED_MAX) {
		all = retired;
		retired = NULL;
		retired_size = 0;
	}
	shunt_sets_unlock();
	return all;
}

void shunt_sets_reclaim(void)
{
	struct retired_set *all = take_retired();
	bool synced = false;

	if (all && !shunt_port_lock()) {
		synced = !shunt_port_core_sync();
		shunt_port_unlock();
	}
	if (synced && shunt_port_trace_wait())
		synced = false; /* lost */
	while (all) {
		struct retired_set *r = all;

		all = r->next;
		if (synced) {
			shunt_port_free(r->entries, r->room_for_entries);
			shunt_port_free(r->names, r->room_for_names);
		}
		shunt_port_free(r, sizeof(*r));
	}
}

/* ------------------------------------------------------------------------ the set */

/* Names of functions, by the index of the first one of a start: where they are, 0: not yet. */
struct names {
	const struct shunt_find *f;
	uint32_t *at;
	char *text; /* NULL: their size is wanted */
	size_t size;
};

/* The first names of a start, among which none is put down twice. */
#define DISTINCT 16

static bool is_known(const struct shunt_found_function *fn, size_t first, size_t i)
{
	size_t len = shunt_elf_name_len(fn[i].name);

	for (size_t k = first; k < i && k < first + DISTINCT; k++)
		if (shunt_elf_name_len(fn[k].name) == len && !strncmp(fn[k].name, fn[i].name, len))
			return true;
	return false;
}

static void add_name(struct names *n, const char *name)
{
	size_t len = shunt_elf_name_len(name);

	if (n->text) {
		memcpy(n->text + n->size, name, len);
		n->text[n->size + len] = '\0';
	}
	n->size += len + 1;
}

static uint32_t names_of(struct names *n, uint64_t start)
{
	const struct shunt_found_function *fn = n->f->functions.data;
	size_t first = shunt_find_index(n->f, start);

	if (first == n->f->functions.n || fn[first].start != start)
		return 0;
	if (n->at[first])
		return n->at[first];
	n->at[first] = (uint32_t)n->size;
	for (size_t i = first; i < n->f->functions.n && fn[i].start == start; i++)
		if (!is_known(fn, first, i))
			add_name(n, fn[i].name);
	add_name(n, "");
	return n->at[first];
}

static bool is_usable(const struct shunt_found_entry *e)
{
	return !e->why || e->is_changed; /* the core looks again when it is to be changed */
}

static void convert(struct shunt_entry *to, const struct shunt_found_entry *e, uintptr_t bias)
{
	*to = (struct shunt_entry){
		.ip = bias + e->ip,
		.func = bias + e->func,
		.form = e->form,
		.prepare = e->prepare,
		.len = e->len,
		.kind = e->kind,
	};
	memcpy(to->old, e->old, sizeof(to->old));
}

static size_t walk(struct names *n, const struct shunt_find *f, struct shunt_entry *to,
		   uintptr_t bias)
{
	const struct shunt_found_entry *e = f->entries.data;
	size_t usable = 0;

	memset(n->at, 0, (f->functions.n + 1) * sizeof(n->at[0]));
	n->size = 2; /* "" and its end */
	for (size_t i = 0; i < f->entries.n; i++) {
		uint32_t name;

		if (!is_usable(&e[i]))
			continue;
		name = names_of(n, e[i].func);
		if (to) {
			convert(&to[usable], &e[i], bias);
			to[usable].name = name;
		}
		usable++;
	}
	return usable;
}

static int fill(struct shunt_traced_module *m, const struct shunt_find *f)
{
	const size_t room = (f->functions.n + 1) * sizeof(uint32_t);
	struct names n = {.f = f, .at = shunt_port_alloc(room)};
	const char *base = m->path ? strrchr(m->path, '/') : NULL;
	int ret = n.at ? 0 : shunt_port_no_memory();

	if (!ret)
		m->set.n = walk(&n, f, NULL, 0);
	if (!ret && m->set.n && !allocate(m, m->set.n, n.size))
		ret = shunt_port_no_memory();
	if (!ret && m->set.n) {
		n.text = (char *)(uintptr_t)m->set.names;
		memset(n.text, 0, 2);
		(void)walk(&n, f, m->set.entries, m->bias);
		m->set.module = base ? base + 1 : m->path ? m->path : "";
		m->has_set = true;
	}
	if (n.at)
		shunt_port_free(n.at, room);
	return ret;
}

static void has_no_memory(struct shunt_traced_module *m, int error)
{
	m->why = reason(error);
	m->call = "mmap";
}

static int find_in_file(struct shunt_traced_module *m)
{
	struct shunt_file file = {0};
	struct shunt_elf elf;
	struct shunt_find f;
	int ret;

	shunt_failed_call = NULL;
	ret = shunt_module_open(m, &file, &elf, &m->why);
	m->call = ret ? shunt_failed_call : NULL;
	if (ret)
		/* Read, and not as it should be; or what a call has failed with. */
		return ret == -EAGAIN && !m->call ? 0 : ret;
	shunt_module_finder(m, &elf, &f);
	ret = shunt_find(&f);
	ret = ret == -ENOMEM ? shunt_port_no_memory() : fill(m, &f);
	shunt_find_free(&f);
	shunt_file_unmap(&file);
	if (ret)
		has_no_memory(m, ret);
	return ret;
}

static bool is_linked(const struct shunt_traced_module *m)
{
	const struct shunt_entries *set = shunt_entries_first();

	while (set && set != &m->set)
		set = set->next;
	return set;
}

void shunt_module_find(struct shunt_traced_module *m)
{
	m->why = NULL;
	m->error = m->has_set ? 0 : find_in_file(m);
	if (m->has_set && !is_linked(m)) {
		int ret = shunt_entries_add(&m->set); /* reported by the core */

		/* Where the poke failed they are known all the same. */
		if (!is_linked(m)) {
			m->error = ret;
			has_no_memory(m, ret);
		}
	}
	if (!m->why)
		m->is_told = false;
}
