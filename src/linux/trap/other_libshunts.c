/* SPDX-License-Identifier: MIT */
/*
 * Other libshunts in this process: in a plugin that was linked with libshunt.a, or behind
 * dlmopen(). They do no harm to each other (trap_chain.c), but keys and sites of one are
 * not the other's, which is seldom what is wanted: so there is a message, once. A module that has
 * one is known by a note (trap_entry.S); in other namespaces it is known by its handler.
 */
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <string.h>

#include "linux/base/base.h"
#include "linux/base/dl_list.h"
#include "linux/trap/sigtrap.h"
#include "linux/trap/trap_chain.h"

static const char owner[8] = "Shunt"; /* with the padding of a note */

static uintptr_t entries_at(const char *desc)
{
	int32_t distance;

	memcpy(&distance, desc, sizeof(distance));
	return (uintptr_t)desc + (uintptr_t)(intptr_t)distance;
}

/* The first entry of the libshunt that has such a note there, or 1: one without; 0: none. */
static uintptr_t read_notes(const struct dl_phdr_info *info, const ElfW(Phdr) * header)
{
	const char *at = (const char *)info->dlpi_addr + header->p_vaddr;
	const char *end = at + header->p_memsz;

	while ((size_t)(end - at) >= sizeof(ElfW(Nhdr))) {
		const ElfW(Nhdr) *note = (const void *)at;
		size_t name = (note->n_namesz + 3ul) & ~3ul, desc = (note->n_descsz + 3ul) & ~3ul;

		at += sizeof(*note);
		if (name + desc > (size_t)(end - at))
			return 0;
		if (name == sizeof(owner) && !memcmp(at, owner, sizeof(owner)))
			return desc < sizeof(int32_t) ? 1 : entries_at(at + name);
		at += name + desc;
	}
	return 0;
}

static bool has_note(const struct dl_phdr_info *info, const ElfW(Phdr) * header)
{
	return read_notes(info, header) != 0;
}

struct search {
	bool is_past; /* this copy's own module has been seen */
	bool found;   /* another, that is in front of it */
};

static int look(struct dl_phdr_info *info, size_t size, void *arg)
{
	uintptr_t own = (uintptr_t)shunt_trap_entries - info->dlpi_addr;
	struct search *search = arg;
	bool noted = false;

	(void)size;
	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *header = &info->dlpi_phdr[i];

		if (header->p_type == PT_LOAD && own - header->p_vaddr < header->p_memsz)
			search->is_past = true;
		if (header->p_type == PT_NOTE && has_note(info, header))
			noted = true;
	}
	if (noted && !search->is_past)
		search->found = true;
	return search->is_past;
}

static int list(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct shunt_others *others = arg;

	(void)size;
	for (size_t i = 0; i < info->dlpi_phnum && others->n < SHUNT_OTHERS; i++) {
		const ElfW(Phdr) *header = &info->dlpi_phdr[i];
		uintptr_t entries = header->p_type == PT_NOTE ? read_notes(info, header) : 0;

		if (entries > 1)
			others->entries[others->n++] = entries;
	}
	return 0;
}

void shunt_list_others(struct shunt_others *others)
{
	others->n = 0;
	(void)shunt_dl_iterate(list, others);
}

void shunt_report_others(void)
{
	static _Atomic bool has_reported;

	if (!atomic_exchange(&has_reported, true))
		shunt_note("another libshunt is in this process; neither changes the other's keys "
			   "and sites");
}

/* ------------------------------------------------------------------------- pinning */

#pragma weak dlopen

/* The file of the module that this copy is in, where that can be unmapped. */
static const char *_Atomic file;

static bool is_nodelete(const struct dl_phdr_info *info, const ElfW(Phdr) * header)
{
	const ElfW(Dyn) *dyn = (const void *)(info->dlpi_addr + header->p_vaddr);

	for (; dyn->d_tag != DT_NULL; dyn++)
		if (dyn->d_tag == DT_FLAGS_1)
			return dyn->d_un.d_val & DF_1_NODELETE;
	return false;
}

static int look_at_own(struct dl_phdr_info *info, size_t size, void *arg)
{
	uintptr_t own = (uintptr_t)shunt_trap_entries - info->dlpi_addr;
	bool is_ours = false, stays = !info->dlpi_name || !*info->dlpi_name;

	(void)size;
	(void)arg;
	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *header = &info->dlpi_phdr[i];

		if (header->p_type == PT_LOAD && own - header->p_vaddr < header->p_memsz)
			is_ours = true;
		if (header->p_type == PT_DYNAMIC && is_nodelete(info, header))
			stays = true;
	}
	if (is_ours && !stays)
		file = info->dlpi_name;
	return is_ours;
}

/* A module's constructor may come here before ours, and that of another copy before its own. */
static void look_at_modules(void)
{
	static _Atomic bool done;
	struct search search = {false, false};

	if (atomic_exchange(&done, true))
		return;
	(void)shunt_dl_iterate(look_at_own, NULL);
	(void)shunt_dl_iterate(look, &search);
	if (search.found)
		shunt_report_others();
}

/* The destructors of its module run, which is unmapped whatever dlopen() answers now. */
static _Atomic bool is_leaving;

/* Behind the modules' own objects, so before their destructors. */
__attribute__((destructor)) static void begin_to_leave(void)
{
	atomic_store(&is_leaving, true);
}

int shunt_pin(void)
{
	const char *name, *earlier = shunt_failed_call;
	int saved = errno;

	look_at_modules();
	name = atomic_load(&file);
	if (!name)
		return 0;
	shunt_failed_call = "its module is being unloaded";
	if (atomic_load(&is_leaving))
		return -EAGAIN;
	shunt_failed_call = "dlopen(RTLD_NODELETE), in a copy of the process";
	if (shunt_dl_may_be_locked())
		return -EAGAIN;
	shunt_failed_call = "dlopen(RTLD_NODELETE)";
	if (!dlopen || !dlopen(name, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE)) {
		errno = saved;
		return -EAGAIN;
	}
	/* Two threads may both be here; behind this neither comes again. */
	atomic_store(&file, NULL);
	shunt_failed_call = earlier;
	errno = saved;
	return 0;
}

bool shunt_may_be_unloaded(void)
{
	return atomic_load(&file);
}

__attribute__((constructor(101))) static void look_at_start(void)
{
	look_at_modules();
}
