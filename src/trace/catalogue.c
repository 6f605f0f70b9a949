/* SPDX-License-Identifier: MIT */
/*
 * What is loaded, from shunt_for_each_function(): a module's chunk when it is first seen, then its
 * functions, and the module's chunk once more when it has gone.
 */
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/ftrace_raw.h"
#include "linux/base/dl_list.h"
#include "trace/blocks.h"
#include "trace/catalogue.h"
#include "trace/gone.h"

struct known {
	struct trace_module what;
	char *path;
	bool is_there;
	bool is_located; /* the loader has said where it is; else what its functions cover */
};

static struct known *known;
static size_t nr_known, max_known;
static uint64_t changes_seen; /* of the loader */

/*
 * Threads that are at this, or have the loader's lock for it. In a copy of the process that is made
 * meanwhile they will never end it: it is left as it is. What was published is whole.
 */
static _Atomic unsigned users;
static bool is_left;

/* ------------------------------------------------------- where a module is mapped */

struct lookup {
	uintptr_t addr;
	struct trace_module *found;
};

static void note_build_id(struct trace_module *to, const char *note, size_t size)
{
	while (size >= sizeof(ElfW(Nhdr))) {
		const ElfW(Nhdr) *head = (const void *)note;
		size_t name = (head->n_namesz + 3u) & ~3u, desc = (head->n_descsz + 3u) & ~3u;

		if (name + desc > size - sizeof(*head))
			return;
		if (head->n_type == NT_GNU_BUILD_ID && head->n_namesz == 4 &&
		    !memcmp(head + 1, "GNU", 4) && head->n_descsz <= sizeof(to->build_id)) {
			to->build_id_len = head->n_descsz;
			memcpy(to->build_id, note + sizeof(*head) + name, head->n_descsz);
			return;
		}
		note += sizeof(*head) + name + desc;
		size -= sizeof(*head) + name + desc;
	}
}

static int see_module(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct lookup *l = arg;
	struct trace_module found = {.start = UINT64_MAX};

	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		uint64_t start = info->dlpi_addr + p->p_vaddr;

		if (p->p_type != PT_LOAD)
			continue;
		if (start < found.start)
			found.start = start;
		if (start + p->p_memsz > found.end)
			found.end = start + p->p_memsz;
	}
	if (l->addr < found.start || l->addr >= found.end)
		return 0;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];

		if (p->p_type == PT_NOTE)
			note_build_id(&found, (const char *)(info->dlpi_addr + p->p_vaddr),
				      p->p_memsz);
	}
	l->found->start = found.start;
	l->found->end = found.end;
	l->found->build_id_len = found.build_id_len;
	memcpy(l->found->build_id, found.build_id, sizeof(found.build_id));
	return 1;
}

/* ---------------------------------------------------------------------- what is known */

static bool is_in(const struct known *k, const char *path, uintptr_t addr)
{
	return k->is_located && !k->what.unloaded && addr >= k->what.start && addr < k->what.end &&
	       !strcmp(k->path, path);
}

/* Functions of a module come one behind the other: @last is where the one before was found. */
static struct known *find(const char *path, uintptr_t addr, size_t last)
{
	if (last < nr_known && is_in(&known[last], path, addr))
		return &known[last];
	for (size_t i = nr_known; i > 0; i--) {
		struct known *k = &known[i - 1];

		if (k->what.unloaded || strcmp(k->path, path) != 0)
			continue;
		if (!k->is_located && addr >= k->what.end)
			k->what.end = addr + 1;
		if (addr >= k->what.start && addr < k->what.end)
			return k;
	}
	return NULL;
}

static int tell_module(const struct known *k)
{
	size_t len = strlen(k->path) + 1;
	char *room;

	trace_chunk_end();
	room = trace_chunk_room(TRACE_CHUNK_MODULE, sizeof(k->what) + len);
	if (!room)
		return -ENOMEM;
	memcpy(room, &k->what, sizeof(k->what));
	memcpy(room + sizeof(k->what), k->path, len);
	trace_chunk_end();
	return 0;
}

/* Room for one more, which is not counted yet. */
static struct known *new_known(const char *path)
{
	struct known *k;

	if (nr_known == max_known) {
		size_t max = max_known ? 2 * max_known : 16;

		k = reallocarray(known, max, sizeof(*known));
		if (!k)
			return NULL;
		known = k;
		max_known = max;
	}
	k = &known[nr_known];
	*k = (struct known){.path = strdup(path)};
	if (!k->path)
		return NULL;
	k->what.id = (uint32_t)nr_known + 1;
	return k;
}

/* Since when it can have been there: another one was. */
static uint64_t free_since(uint64_t start, uint64_t end)
{
	uint64_t since = 0;

	for (size_t i = 0; i < nr_known; i++) {
		const struct trace_module *m = &known[i].what;

		if (m->start < end && start < m->end && m->unloaded > since)
			since = m->unloaded;
	}
	return since;
}

/*
 * 0; 1 where what is at @addr by now is perhaps not what was listed: all of that will be told by
 * who has unloaded it.
 */
static int add_known(const char *path, uintptr_t addr, struct known **to)
{
	struct lookup l = {.addr = addr};
	struct known *k = new_known(path);

	if (!k)
		return -ENOMEM;
	k->what.start = addr;
	k->what.end = addr + 1;
	l.found = &k->what;
	k->is_located = shunt_dl_iterate(see_module, &l) != 0;
	if (trace_gone_from(addr)) {
		free(k->path);
		return 1;
	}
	k->what.loaded = free_since(k->what.start, k->what.end);
	nr_known++;
	*to = k;
	return tell_module(k);
}

/* ------------------------------------------------------------------- the functions */

struct walk {
	uint64_t traced;
	uint32_t number; /* of modules that were known before */
	size_t last;     /* that was found */
	bool is_partial; /* something went meanwhile, and what came is to be looked at again */
};

static int tell_function(struct trace_function f, const char *name)
{
	size_t len = name ? strnlen(name, TRACE_CHUNK_ROOM / 2) : 0;
	char *room = trace_chunk_room(TRACE_CHUNK_FUNCTION, sizeof(f) + len + 1);

	if (!room)
		return -ENOMEM;
	f.name_len = (uint32_t)len;
	memcpy(room, &f, sizeof(f));
	if (len)
		memcpy(room + sizeof(f), name, len);
	return 0;
}

static int see_function(const struct shunt_function_info *info, void *arg)
{
	struct walk *w = arg;
	struct known *k;

	if (!info->entry)
		return 0;
	w->traced += info->nr_ops != 0;
	k = find(info->module, (uintptr_t)info->addr, w->last);
	if (!k) {
		int ret = add_known(info->module, (uintptr_t)info->addr, &k);

		w->is_partial |= ret > 0;
		if (ret)
			return ret < 0 ? ret : 0;
	}
	w->last = (size_t)(k - known);
	k->is_there = true;
	if (k->what.id <= w->number)
		return 0;
	return tell_function((struct trace_function){.entry = (uintptr_t)info->entry,
						     .addr = (uintptr_t)info->addr,
						     .module = k->what.id,
						     .kind = info->kind},
			     info->name);
}

/* ------------------------------------------------------------- what is gone already */

static bool same_build(const struct trace_module *m, const struct trace_gone *gone)
{
	return !m->build_id_len || !gone->build_id_len ||
	       (m->build_id_len == gone->build_id_len &&
		!memcmp(m->build_id, gone->build_id, m->build_id_len));
}

/*
 * The record of @gone, if its names stand in the file: of one that has not been seen to go, or that
 * was there before, at the same place, with the same file.
 */
static struct known *find_gone(const struct trace_gone *gone)
{
	for (size_t i = nr_known; i > 0; i--) {
		struct known *k = &known[i - 1];

		if (k->what.start >= gone->end || gone->start >= k->what.end)
			continue;
		return (k->is_located && k->what.start != gone->start) ||
				       strcmp(k->path, gone->path) != 0 ||
				       !same_build(&k->what, gone)
			       ? NULL
			       : k;
	}
	return NULL;
}

static int add_gone(const struct trace_gone *gone)
{
	struct known *k = new_known(gone->path);
	int err;

	if (!k)
		return -ENOMEM;
	k->what.start = gone->start;
	k->what.end = gone->end;
	k->what.loaded = free_since(gone->start, gone->end);
	k->what.unloaded = gone->ticks;
	k->what.build_id_len = gone->build_id_len;
	memcpy(k->what.build_id, gone->build_id, gone->build_id_len);
	k->is_located = true;
	nr_known++;
	err = tell_module(k);
	for (size_t i = 0; i < gone->n && !err; i++) {
		const struct trace_gone_function *fn = &gone->functions[i];

		err = tell_function((struct trace_function){.entry = fn->entry,
							    .addr = fn->addr,
							    .module = k->what.id,
							    .kind = fn->kind},
				    fn->name);
	}
	trace_chunk_end();
	return err;
}

/*
 * Where it is was not known: the loader had taken it from its list, and it was about to say that it
 * is unloaded. Told once more, with where it was and which file.
 */
static int locate_gone(const struct trace_gone *gone, size_t i)
{
	int err = add_gone(gone); /* since the same time */

	known[i].what.unloaded = gone->ticks;
	return err ? err : tell_module(&known[i]);
}

static int end_gone(const struct trace_gone *gone)
{
	struct known *k = find_gone(gone);

	if (!k)
		return add_gone(gone);
	if (!k->is_located && !k->what.unloaded)
		return locate_gone(gone, (size_t)(k - known));
	/* Of one that was there again, what comes behind it is behind that. */
	if (k->what.unloaded >= gone->ticks)
		return 0;
	k->what.unloaded = gone->ticks;
	return tell_module(k);
}

static int take_gone(void)
{
	struct trace_gone *gone = trace_gone_take();
	int err = 0;

	while (gone) {
		struct trace_gone *next = gone->next;

		err = end_gone(gone) ? -ENOMEM : err;
		trace_gone_free(gone);
		gone = next;
	}
	return err;
}

static int tell_unloaded(uint64_t ticks)
{
	int err = 0;

	for (size_t i = 0; i < nr_known && !err; i++) {
		struct known *k = &known[i];

		if (k->is_there || k->what.unloaded)
			continue;
		k->what.unloaded = ticks ? ticks : 1;
		err = tell_module(k);
	}
	return err;
}

bool trace_catalogue_is_old(void)
{
	bool is_old;

	if (is_left)
		return false;
	atomic_fetch_add(&users, 1);
	is_old = trace_gone_any() || shunt_dl_changes() != changes_seen;
	atomic_fetch_sub(&users, 1);
	return is_old;
}

enum { LOOKS = 8 }; /* at a program that loads and unloads all the time */

static int look(struct walk *w)
{
	int err = take_gone();

	*w = (struct walk){.number = (uint32_t)nr_known};
	for (size_t i = 0; i < nr_known; i++)
		known[i].is_there = false;
	if (!err)
		err = shunt_for_each_function(see_function, w);
	trace_chunk_end();
	return err;
}

static int update(uint64_t ticks, uint64_t *traced)
{
	uint64_t before = shunt_dl_changes();
	struct walk w;
	int err = look(&w);

	for (int i = 1; i < LOOKS && !err && w.is_partial; i++)
		err = look(&w);
	if (!err)
		err = tell_unloaded(ticks);
	changes_seen = before;
	*traced = w.traced;
	return err;
}

int trace_catalogue_update(uint64_t ticks, uint64_t *traced)
{
	int err;

	if (is_left)
		return 0;
	atomic_fetch_add(&users, 1);
	err = update(ticks, traced);
	atomic_fetch_sub(&users, 1);
	return err;
}

int trace_catalogue_end_gone(void)
{
	int err;

	if (is_left)
		return 0;
	atomic_fetch_add(&users, 1);
	err = take_gone();
	atomic_fetch_sub(&users, 1);
	return err;
}

void trace_catalogue_take_over(bool is_whole)
{
	is_left = is_left || (atomic_load(&users) != 0 && !is_whole);
	atomic_store(&users, 0);
}

void trace_catalogue_clear(void)
{
	for (size_t i = 0; i < nr_known && !is_left; i++)
		free(known[i].path);
	if (is_left)
		known = NULL; /* it may have been anything */
	max_known = known ? max_known : 0;
	nr_known = 0;
	is_left = false;
	trace_chunks_clear();
}

int trace_catalogue_add(enum trace_chunk_type type, const void *what, size_t size)
{
	void *room;

	if (is_left)
		return 0;
	atomic_fetch_add(&users, 1);
	trace_chunk_end();
	room = trace_chunk_room(type, size);
	if (room)
		memcpy(room, what, size);
	trace_chunk_end();
	atomic_fetch_sub(&users, 1);
	return room ? 0 : -ENOMEM;
}
