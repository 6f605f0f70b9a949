/* SPDX-License-Identifier: MIT */
/*
 * Which modules are loaded. Nothing is looked at before somebody traces, or asks what could be;
 * from then on the dynamic linker's notices (notice.c) bring what comes and take what goes. Where
 * these cannot be had, each call of the interface looks again.
 *
 * The list is walked under the dynamic linker's lock of it, under which nothing is unmapped, with
 * the lock of sets held already: a module that is being unloaded is let go of before it is
 * unmapped, and that waits for the lock of sets. In a copy of the process the list's lock is not
 * taken (base/dl_list.c).
 */
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>

#include <shunt/port.h>

#include "core/ftrace.h"
#include "linux/base/dl_list.h"
#include "linux/base/format.h"
#include "linux/base/libc.h"
#include "linux/entry/context.h"
#include "linux/entry/modules.h"
#include "linux/entry/return_slots.h"
#include "linux/text/area.h"

struct shunt_traced_module *shunt_traced_modules;

static uint64_t last_number;

static struct shunt_range range_of(const struct dl_phdr_info *info)
{
	struct shunt_range range = {UINTPTR_MAX, 0};

	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
		uintptr_t start = info->dlpi_addr + ph->p_vaddr;

		if (ph->p_type != PT_LOAD)
			continue;
		range.start = start < range.start ? start : range.start;
		range.end = start + ph->p_memsz > range.end ? start + ph->p_memsz : range.end;
	}
	return range;
}

static bool is_of_ours(struct shunt_range range, const char *name)
{
	uintptr_t own = (uintptr_t)range_of, vdso = getauxval(AT_SYSINFO_EHDR);

	return (name[0] && shunt_in_range(range, own, 1)) ||
	       (vdso && shunt_in_range(range, vdso, 1));
}

static char *copy(const char *name)
{
	size_t size = strlen(name) + 1;
	char *to = shunt_port_alloc(size);

	if (to)
		memcpy(to, name, size);
	return to;
}

static void free_module(struct shunt_traced_module *m)
{
	shunt_module_drop(m);
	if (m->link_name)
		shunt_port_free(m->link_name, strlen(m->link_name) + 1);
	shunt_port_free(m, sizeof(*m));
}

/* Behind the others: in the order in which symbols are looked for. */
static void append(struct shunt_traced_module *m)
{
	struct shunt_traced_module **p = &shunt_traced_modules;

	while (*p)
		p = &(*p)->next;
	*p = m;
}

/* A module of which there is no record: nothing in it can be traced. Lock of sets. */
static struct {
	int error; /* 0: of each there is one */
	bool is_told;
	char name[256];
} unrecorded;

static void fail_to_record(const char *name)
{
	unrecorded.error = shunt_port_no_memory();
	shunt_format(unrecorded.name, sizeof(unrecorded.name), "%s",
		     name[0] ? name : "the program");
}

static void see(const struct dl_phdr_info *info, bool is_other)
{
	const char *name = info->dlpi_name ? info->dlpi_name : "";
	struct shunt_range range = range_of(info);
	struct shunt_traced_module *m = shunt_traced_modules;

	if (range.start >= range.end || is_of_ours(range, name))
		return;
	while (m && (m->range.start != range.start || m->range.end != range.end ||
		     strcmp(m->link_name, name) != 0))
		m = m->next;
	if (m) {
		m->is_seen = true;
		return;
	}
	m = shunt_port_alloc(sizeof(*m));
	if (m)
		m->link_name = copy(name);
	if (!m || !m->link_name) {
		fail_to_record(name);
		shunt_port_free(m, sizeof(*m));
		return;
	}
	m->number = ++last_number;
	m->range = range;
	m->bias = info->dlpi_addr;
	m->headers = info->dlpi_phdr;
	m->nr_headers = info->dlpi_phnum;
	m->is_program = !name[0];
	m->is_seen = true;
	m->is_other = is_other;
	append(m);
}

static bool is_program_seen(void)
{
	const struct shunt_traced_module *m = shunt_traced_modules;

	while (m && !(m->is_program && m->is_seen))
		m = m->next;
	return m;
}

/* The program, where this copy of the library is in another namespace. */
static void see_program(uintptr_t bias)
{
	/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
	const ElfW(Phdr) *headers = (const ElfW(Phdr) *)getauxval(AT_PHDR);
	struct dl_phdr_info info = {.dlpi_addr = bias, .dlpi_name = "", .dlpi_phdr = headers};

	info.dlpi_phnum = headers ? (ElfW(Half))getauxval(AT_PHNUM) : 0;
	for (size_t i = 0; i < info.dlpi_phnum; i++)
		if (headers[i].p_type == PT_PHDR && bias + headers[i].p_vaddr != (uintptr_t)headers)
			return;
	see(&info, true);
}

/*
 * Where a filter keeps us from that, without: what is in the list is mapped, but for a first page
 * that is elsewhere.
 */
static bool read_header(ElfW(Ehdr) * to, const ElfW(Ehdr) * from)
{
	if (shunt_peek(to, from, sizeof(*to)))
		return true;
	if (!shunt_area_are_readable((uintptr_t)from, sizeof(*from)))
		return false;
	memcpy(to, from, sizeof(*to));
	return true;
}

/* A module of any namespace, whose first page is at @base. */
static void see_other(uintptr_t base, const char *name)
{
	const ElfW(Ehdr) *elf = (const ElfW(Ehdr) *)base; /* NOLINT(performance-no-int-to-ptr) */
	ElfW(Ehdr) header;
	struct dl_phdr_info info = {.dlpi_addr = base, .dlpi_name = name};

	if (!name[0]) {
		if (!is_program_seen())
			see_program(base);
		return;
	}
	if (!read_header(&header, elf) || memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
	    header.e_phentsize != sizeof(ElfW(Phdr)) ||
	    header.e_phoff + header.e_phnum * sizeof(ElfW(Phdr)) > 4096)
		return;
	info.dlpi_phdr = (const ElfW(Phdr) *)((const char *)elf + header.e_phoff);
	info.dlpi_phnum = header.e_phnum;
	if (range_of(&info).start == base)
		see(&info, true);
}

static int see_each(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	(void)arg;
	see(info, false);
	return 0;
}

/*
 * A program's own dl_iterate_phdr() may answer from a list that is out of date. That of a copy of
 * the process is not asked; and in one whose parent was unloading, _dl_find_object() may still find
 * what has been unmapped.
 */
static bool is_still_there(const struct shunt_traced_module *m)
{
#ifdef DLFO_STRUCT_HAS_EH_DBASE
	struct dl_find_object found;

	/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
	return !shunt_dl_is_copied() && _dl_find_object &&
	       !_dl_find_object((void *)m->range.start, &found) && found.dlfo_link_map &&
	       found.dlfo_link_map->l_name && !strcmp(found.dlfo_link_map->l_name, m->link_name);
#else
	(void)m;
	return false;
#endif
}

static void drop_gone(void)
{
	struct shunt_traced_module **p = &shunt_traced_modules;

	while (*p) {
		struct shunt_traced_module *m = *p;

		if (m->is_seen || is_still_there(m)) {
			p = &m->next;
			continue;
		}
		*p = m->next;
		shunt_return_stubs_forget(m->range.start, m->range.end);
		free_module(m);
	}
}

/* Of this call: those whose files could not be read are looked at again. */
static bool looks_again;

/*
 * Whether that may be otherwise now. Where another file has the name it is not; where none has, it
 * takes long to see, so as long as nothing is known at all.
 */
static bool may_be_read(const struct shunt_traced_module *m)
{
	if (m->error == -ENOENT)
		return !shunt_entries_first();
	return m->error && m->error != -ESTALE && m->error != -ENOEXEC && m->error != -EINVAL;
}

static bool is_wanted(const struct shunt_traced_module *m, uint64_t before)
{
	return m->number > before || (looks_again && may_be_read(m));
}

/* With the dynamic linker's list locked. */
static int update(struct dl_phdr_info *first, size_t size, void *arg)
{
	const uint64_t before = last_number;

	(void)first;
	(void)size;
	(void)arg;
	for (struct shunt_traced_module *m = shunt_traced_modules; m; m = m->next)
		m->is_seen = false;
	unrecorded.error = 0;
	(void)shunt_dl_iterate(see_each, NULL);
	shunt_loader_others(see_other);
	drop_gone();
	unrecorded.is_told = unrecorded.is_told && unrecorded.error;
	for (struct shunt_traced_module *m = shunt_traced_modules; m; m = m->next)
		if (is_wanted(m, before))
			shunt_module_look_for_handlers(m);
	for (struct shunt_traced_module *m = shunt_traced_modules; m; m = m->next)
		if (is_wanted(m, before))
			shunt_module_find(m);
	return 1;
}

void shunt_modules_update(bool again)
{
	looks_again = again;
	shunt_sets_in_loader(true);
	(void)shunt_dl_iterate(update, NULL);
	shunt_sets_in_loader(false);
}

static bool add_unrecorded(struct shunt_line *line)
{
	if (!unrecorded.error || unrecorded.is_told)
		return false;
	unrecorded.is_told = true;
	shunt_append(line, "%s: none of its functions can be traced: no record of it: mmap: %s",
		     unrecorded.name, shunt_error_text(unrecorded.error));
	return true;
}

bool shunt_modules_untold(char *text, size_t size)
{
	const struct shunt_traced_module *first = NULL;
	size_t n = 0;
	struct shunt_line line = {text, text + size, 0};

	for (struct shunt_traced_module *m = shunt_traced_modules; m; m = m->next) {
		if (!m->why || m->is_told)
			continue;
		m->is_told = true;
		first = first ? first : m;
		n++;
	}
	if (!first)
		return add_unrecorded(&line);
	shunt_append(&line, "%s", first->path ? first->path : first->link_name);
	if (n > 1)
		shunt_append(&line, " (and %zu more)", n - 1);
	shunt_append(&line, ": none of its functions can be traced: %s", first->why);
	if (first->call)
		shunt_append(&line, ": %s", first->call);
	if (first->error)
		shunt_append(&line, ": %s", shunt_error_text(first->error));
	return true;
}

int shunt_modules_unrecorded(void)
{
	if (unrecorded.error)
		shunt_failed_call = "mmap";
	return unrecorded.error;
}

/* Of the program's file, which comes first. */
int shunt_port_entries_unknown(const char **what)
{
	const struct shunt_traced_module *first = shunt_traced_modules;
	char text[SHUNT_MESSAGE_MAX];

	for (const struct shunt_traced_module *m = first; m; m = m->next)
		if (!m->error)
			return 0;
	*what = "no module's record could be made";
	if (!first)
		return shunt_modules_unrecorded();
	shunt_format(text, sizeof(text), "no module's file could be read, as %s",
		     first->path ? first->path : first->link_name);
	*what = shunt_module_intern(text);
	*what = *what ? *what : "no module's file could be read";
	shunt_failed_call = first->call;
	return first->error;
}
