/* SPDX-License-Identifier: MIT */
/*
 * All text as it was before anything was traced, for a process that Shunt leaves. What an entry was
 * is in its module's file, which is what it was found by. An entry that is not traced, but has
 * been, is the off form of its call (shunt_entry_is_off()), and becomes that again by a poke like
 * any other; threads may stand between single nops again then, and the next session makes it ready
 * once more.
 *
 * What is left as it is, and counted: entries that somebody traces; and those that are longer than
 * a call (a long nop, an XRay sled, a call through the GOT), to whose bytes behind it the call's
 * stub returns. A thread may be in such a stub for any time, and would return into the middle of
 * what was put back.
 */
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "core/error.h"
#include "core/ftrace_batch.h"
#include "linux/entry/entries.h"
#include "linux/entry/modules.h"
#include "linux/module/loaded.h"
#include "linux/text/text.h"

/* Those that are to be as in the file, of one module. */
struct restore {
	struct shunt_entry **entries;
	const struct shunt_found_entry **found;
	size_t n, left; /* @left: they are not as in the file, and stay */
};

static bool is_traced(const struct shunt_entry *e)
{
	return e->state & 1;
}

/* Whether it may be another than in its file: cheap, and for most entries no. */
static bool is_touched(const struct shunt_entry *e)
{
	return e->state || shunt_entry_is_off(e->old) ||
	       (e->prepare == SHUNT_READY && shunt_entry_is_jumped(e->old));
}

static bool is_any_touched(const struct shunt_entries *set)
{
	for (size_t i = 0; i < set->n; i++)
		if (is_touched(&set->entries[i]))
			return true;
	return false;
}

/* Whether nothing returns to a byte within it. */
static bool is_short(const struct shunt_found_entry *found)
{
	return found->len == SHUNT_CALL_LEN &&
	       (found->prepare == SHUNT_READY || found->prepare == SHUNT_SINGLE_NOPS) &&
	       (found->form == SHUNT_FORM_HEAD || found->form == SHUNT_FORM_CALL ||
		found->form == SHUNT_FORM_CALL_RETURN);
}

/* A last jump to a handler, untraced, is what the compiler left, and no stub returns to it. */
static bool is_jump_as_before(const struct shunt_entry *e, const struct shunt_found_entry *found)
{
	uint8_t now[sizeof(found->old)];

	if (found->form != SHUNT_FORM_JUMP_RETURN || found->len > sizeof(now))
		return false;
	/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
	shunt_copy_text(now, (const void *)e->ip, found->len);
	return !memcmp(now, found->old, found->len);
}

static void look_at(struct restore *r, struct shunt_entry *e, const struct shunt_found_entry *found)
{
	uint8_t now[SHUNT_CALL_LEN] = {0};

	if (!is_touched(e) || is_jump_as_before(e, found))
		return;
	/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
	shunt_copy_text(now, (const void *)e->ip, sizeof(now));
	if (!is_short(found)) {
		r->left++;
	} else if (is_traced(e) || !shunt_entry_is_off(now)) {
		/* Traced, or somebody else's. */
		r->left += memcmp(now, found->old, sizeof(now)) != 0;
	} else {
		r->entries[r->n] = e;
		r->found[r->n++] = found;
	}
}

/* Both are sorted by their addresses. */
static void match(struct restore *r, struct shunt_traced_module *m, const struct shunt_find *f)
{
	const struct shunt_found_entry *found = f->entries.data;
	size_t k = 0;

	for (size_t i = 0; i < m->set.n; i++) {
		struct shunt_entry *e = &m->set.entries[i];

		while (k < f->entries.n && m->bias + found[k].ip < e->ip)
			k++;
		if (k < f->entries.n && m->bias + found[k].ip == e->ip)
			look_at(r, e, &found[k]);
		else
			r->left += is_touched(e);
	}
}

/* One batch, all or none. Lock of sets held. */
static int poke_back(const struct restore *r)
{
	struct shunt_ftrace_batch b = {
		.change = {shunt_ftrace_commit_text, shunt_ftrace_revert_text, NULL, NULL}};
	struct shunt_report report = {.what = "allocate a batch"};
	int ret = shunt_port_lock();

	if (ret)
		return ret;
	ret = shunt_ftrace_batch_begin(&b, r->n) ? 0 : -SHUNT_ENOMEM;
	for (size_t i = 0; i < r->n && !ret; i++) {
		uint8_t now[SHUNT_CALL_LEN];

		/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
		shunt_copy_text(now, (const void *)r->entries[i]->ip, sizeof(now));
		ret = shunt_ftrace_batch_add(&b, r->entries[i]->ip, sizeof(now), now,
					     r->found[i]->old, &report);
	}
	if (!ret && b.n) {
		shunt_ftrace_revert_text(&b.change);
		ret = shunt_poke_batch(b.pokes, b.n, &b.change, &report);
	}
	shunt_ftrace_batch_end(&b);
	for (size_t i = 0; i < r->n && !ret; i++) {
		struct shunt_entry *e = r->entries[i];

		memcpy(e->old, r->found[i]->old, sizeof(e->old));
		e->prepare = r->found[i]->prepare;
		e->state = 0;
	}
	shunt_port_unlock();
	if (ret) {
		report.error = ret;
		shunt_port_report(&report);
	}
	return ret;
}

static int restore_found(struct shunt_traced_module *m, const struct shunt_find *f, size_t *left)
{
	const size_t room = (m->set.n + 1) * sizeof(void *);
	struct restore r = {shunt_port_alloc(room), shunt_port_alloc(room), 0, 0};
	int ret = r.entries && r.found ? 0 : shunt_port_no_memory();

	if (!ret) {
		match(&r, m, f);
		ret = poke_back(&r);
		*left += r.left;
	}
	if (r.entries)
		shunt_port_free(r.entries, room);
	if (r.found)
		shunt_port_free(r.found, room);
	return ret;
}

static int restore_module(struct shunt_traced_module *m, size_t *left)
{
	struct shunt_file file = {0};
	struct shunt_find f = {0};
	struct shunt_elf elf;
	const char *why = NULL;
	int ret;

	if (!m->has_set || !is_any_touched(&m->set))
		return 0;
	ret = shunt_module_open(m, &file, &elf, &why);
	if (ret) {
		*left += 1;
		shunt_message("%s: its entries stay as they are: %s", m->path ? m->path : "?",
			      why ? why : "its file cannot be opened");
		return ret;
	}
	shunt_module_finder(m, &elf, &f);
	f.read = NULL; /* what is in the file is wanted */
	ret = shunt_find(&f);
	ret = ret == -ENOMEM ? shunt_port_no_memory() : restore_found(m, &f, left);
	shunt_find_free(&f);
	shunt_file_unmap(&file);
	return ret;
}

static bool is_any_left(void)
{
	for (const struct shunt_traced_module *m = shunt_traced_modules; m; m = m->next)
		if (m->has_set && is_any_touched(&m->set))
			return true;
	return false;
}

/* Whether the program uses Shunt by itself, and may do so when /proc cannot be opened any more. */
static bool has_keys(void)
{
	for (const struct shunt_loaded *m = shunt_first_loaded(); m; m = m->next)
		if (m->module)
			return true;
	return false;
}

int shunt_entries_restore(size_t *left)
{
	int ret = shunt_port_trace_lock("shunt_entries_restore", NULL), one;

	*left = 0;
	if (ret)
		return ret;
	/* Where the dynamic linker does not tell of an unload, what it unmaps is not looked at. */
	if (shunt_notice_was_started() || is_any_left())
		shunt_modules_update(false);
	for (struct shunt_traced_module *m = shunt_traced_modules; m; m = m->next) {
		one = restore_module(m, left);
		ret = ret ? ret : one;
	}
	/* One whose filter matches nothing now may match what is loaded later. */
	if (!ret && !shunt_any_ops_are_registered())
		ret = shunt_notice_stop();
	if (!ret && !shunt_port_lock()) {
		if (!has_keys())
			shunt_text_close();
		shunt_port_unlock();
	}
	shunt_port_trace_unlock();
	return ret;
}
