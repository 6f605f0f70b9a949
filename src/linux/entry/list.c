/* SPDX-License-Identifier: MIT */
/*
 * Every function that could be traced, and why another cannot: the sets' entries, and what the
 * modules' files say besides. A module at a time: what the caller's function gets are copies, and
 * no lock is held while it runs.
 */
#include <errno.h>
#include <string.h>

#include <shunt/ftrace.h>
#include <shunt/port.h>

#include "core/ftrace.h"
#include "core/sort.h"
#include "linux/base/format.h"
#include "linux/entry/modules.h"

static const char no_room[] = "it was compiled without room for a call at its entry";

/* What is known of an entry, of the set or of the file. */
struct row {
	uintptr_t func;
	uintptr_t ip;
	const struct shunt_entry *entry; /* NULL: not in the set */
	const char *why;
	size_t kind;
};

struct snapshot {
	const struct shunt_traced_module *m;
	struct shunt_vector infos; /* struct shunt_function_info; names are offsets + 1 */
	struct shunt_vector names; /* char */
	struct shunt_vector rows;
	bool no_memory;
};

static const char *keep(struct snapshot *s, const char *name, size_t len)
{
	size_t at = s->names.n;

	for (size_t i = 0; i <= len; i++) {
		char *c = shunt_vector_add(&s->names, 1);

		if (!c) {
			s->no_memory = true;
			return NULL;
		}
		*c = i < len ? name[i] : '\0';
	}
	return (const char *)(at + 1); /* NOLINT(performance-no-int-to-ptr) */
}

/* Which bytes somebody else has put there, in words; NULL: none. */
static bool is_changed(const struct shunt_entry *e, char *text, size_t size)
{
	uint8_t now[8] = {0};
	unsigned len = e->len < sizeof(now) ? e->len : sizeof(now);

	if (e->state)
		return false;
	/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
	shunt_copy_text(now, (const void *)e->ip, len);
	if (!memcmp(now, e->old, len))
		return false;
	shunt_format(text, size, "somebody else has changed its entry to %02x %02x %02x %02x %02x",
		     now[0], now[1], now[2], now[3], now[4]);
	return true;
}

static void add_info(struct snapshot *s, uintptr_t func, const char *name, const struct row *row,
		     const char *why)
{
	struct shunt_function_info *info = shunt_vector_add(&s->infos, sizeof(*info));
	char text[100];

	if (!info) {
		s->no_memory = true;
		return;
	}
	/* NOLINTBEGIN(performance-no-int-to-ptr) */
	*info = (struct shunt_function_info){.addr = (void *)func, .why = why};
	if (row) {
		info->entry = (void *)row->ip;
		info->kind = (enum shunt_entry_kind)row->kind;
		info->why = row->why;
	}
	/* NOLINTEND(performance-no-int-to-ptr) */
	if (row && row->entry) {
		info->nr_ops = shunt_entry_nr_ops(row->entry);
		info->why = shunt_entry_why(row->entry);
		if (is_changed(row->entry, text, sizeof(text)))
			info->why = text;
	}
	info->module = s->m->path ? s->m->path : "";
	if (name)
		info->name = keep(s, name, shunt_elf_name_len(name));
	if (info->why)
		info->why = keep(s, info->why, strlen(info->why));
}

/* ---------------------------------------------------------------------------- rows */

static void add_row(struct snapshot *s, const struct row *row)
{
	struct row *to = shunt_vector_add(&s->rows, sizeof(*to));

	if (to)
		*to = *row;
	else
		s->no_memory = true;
}

static uintptr_t by_func(const void *row)
{
	const struct row *r = row;

	return r->func << 1 | !r->entry;
}

static bool is_entry(unsigned form)
{
	return form == SHUNT_FORM_HEAD || form == SHUNT_FORM_CALL;
}

/* One a function: of the set, else of the file. */
static void find_rows(struct snapshot *s, const struct shunt_find *f)
{
	const struct shunt_found_entry *found = f->entries.data;
	struct row *rows;
	size_t kept = 0;

	for (size_t i = 0; s->m->has_set && i < s->m->set.n; i++) {
		const struct shunt_entry *e = &s->m->set.entries[i];

		if (is_entry(e->form))
			add_row(s, &(struct row){e->func, e->ip, e, NULL, e->kind});
	}
	for (size_t i = 0; i < f->entries.n; i++)
		if (is_entry(found[i].form) && found[i].why)
			add_row(s,
				&(struct row){s->m->bias + found[i].func, s->m->bias + found[i].ip,
					      NULL, found[i].why, found[i].kind});
	rows = s->rows.data;
	shunt_sort(rows, s->rows.n, sizeof(*rows), by_func);
	for (size_t i = 0; i < s->rows.n; i++)
		if (!kept || rows[kept - 1].func != rows[i].func)
			rows[kept++] = rows[i];
	s->rows.n = kept;
}

/* ------------------------------------------------------------------------ the walk */

static void merge(struct snapshot *s, const struct shunt_find *f)
{
	const struct shunt_found_function *fn = f->functions.data;
	const struct row *rows = s->rows.data;
	size_t i = 0, r = 0;

	while ((i < f->functions.n || r < s->rows.n) && !s->no_memory) {
		uintptr_t func = i < f->functions.n ? s->m->bias + fn[i].start : UINTPTR_MAX;
		const struct row *row = r < s->rows.n && rows[r].func <= func ? &rows[r] : NULL;
		const char *name = NULL;

		if (row && row->func < func)
			func = row->func;
		else
			name = fn[i].name;
		if (row || !fn[i].is_cold)
			add_info(s, func, name, row, no_room);
		r += row != NULL;
		while (name && i < f->functions.n && s->m->bias + fn[i].start == func)
			i++;
	}
}

/* The reason, with the call that failed and its error. */
static const char *unread(char *text, size_t size, const char *why, int error)
{
	struct shunt_line line = {text, text + size, 0};

	if ((error == -EAGAIN && !shunt_failed_call) || !why) /* read, and not as it should be */
		return why;
	shunt_append(&line, "%s", why);
	if (shunt_failed_call)
		shunt_append(&line, ": %s", shunt_failed_call);
	shunt_append(&line, ": %s", shunt_error_text(error));
	return text;
}

static int take(struct snapshot *s, struct shunt_traced_module *m)
{
	struct shunt_file file = {0};
	const char *why = m->why;
	struct shunt_find f = {0};
	struct shunt_elf elf;

	char text[SHUNT_MESSAGE_MAX];
	int ret;

	s->m = m;
	shunt_failed_call = NULL;
	ret = shunt_module_open(m, &file, &elf, &why);
	if (!ret) {
		shunt_module_finder(m, &elf, &f);
		f.read = NULL; /* where it has been changed by us it is in the set */
		if (shunt_find(&f) == -ENOMEM)
			s->no_memory = true;
	} else {
		why = unread(text, sizeof(text), why, ret);
		add_info(s, m->range.start, NULL, NULL, why);
	}
	find_rows(s, &f);
	merge(s, &f);
	shunt_find_free(&f);
	shunt_file_unmap(&file);
	return s->no_memory ? shunt_port_no_memory() : 0;
}

static void forget(struct snapshot *s)
{
	shunt_vector_free(&s->infos, sizeof(struct shunt_function_info));
	shunt_vector_free(&s->names, 1);
	shunt_vector_free(&s->rows, sizeof(struct row));
}

static int tell(struct snapshot *s, int (*fn)(const struct shunt_function_info *info, void *arg),
		void *arg)
{
	struct shunt_function_info *info = s->infos.data;
	const char *names = s->names.data;
	int ret = 0;

	for (size_t i = 0; i < s->infos.n && !ret; i++, info++) {
		if (info->name)
			info->name = names + (uintptr_t)info->name - 1;
		if (info->why)
			info->why = names + (uintptr_t)info->why - 1;
		ret = fn(info, arg);
	}
	return ret;
}

int shunt_for_each_function(int (*fn)(const struct shunt_function_info *info, void *arg), void *arg)
{
	uint64_t number = 0;
	int ret = 0;

	shunt_port_trace_called(SHUNT_CALLED_AT);
	ret = shunt_modules_look("shunt_for_each_function", NULL);
	while (!ret) {
		struct shunt_traced_module *m;
		struct snapshot s = {0};

		ret = shunt_modules_lock("shunt_for_each_function", NULL);
		if (ret)
			return ret;
		ret = number ? 0 : shunt_modules_unrecorded();
		for (m = shunt_traced_modules; m && m->number <= number; m = m->next)
			;
		if (m && !ret) {
			number = m->number;
			ret = take(&s, m);
		}
		shunt_port_trace_unlock();
		if (ret)
			(void)shunt_tell_failure("shunt_for_each_function", ret);
		else if (m)
			ret = tell(&s, fn, arg);
		forget(&s);
		if (!m)
			return ret;
	}
	return ret;
}
