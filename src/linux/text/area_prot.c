/* SPDX-License-Identifier: MIT */
/*
 * The protection of the CPU's own (SHUNT_PROT_CPU) that text has. It is asked as late as can be, as
 * the rest of it (area.c):
 *
 *   /proc/self/smaps  lists it. Not opened under a filter, which may kill for it
 *   the note          of the object that the text is of (PT_GNU_PROPERTY), by which the kernel and
 *                     the dynamic linker have given it
 *
 * Text of no object, where smaps cannot be read, is taken to have none: text that was made for it
 * runs without it too, while other text does not run with it.
 */
#include <link.h>
#include <string.h>

#include "linux/base/alone.h"
#include "linux/base/base.h"
#include "linux/base/libc.h"
#include "linux/base/registry.h"
#include "linux/text/area.h"
#include "linux/text/area_prot.h"
#include "linux/text/proc_maps.h"

#ifndef PT_GNU_PROPERTY
#define PT_GNU_PROPERTY (PT_LOOS + 0x474e553)
#endif
#ifndef NT_GNU_PROPERTY_TYPE_0
#define NT_GNU_PROPERTY_TYPE_0 5
#endif

/* ------------------------------------------------------------- headers of an object */

struct object {
	struct shunt_segments segments;
	struct shunt_range range;
};

static bool find_registered(uintptr_t addr, struct object *o)
{
	for (const struct shunt_loaded *m = shunt_first_loaded(); m; m = m->next)
		if (m->module && m->segments.n && shunt_in_range(m->range, addr, 1)) {
			*o = (struct object){m->segments, m->range};
			return true;
		}
	return false;
}

static bool has_headers(const ElfW(Ehdr) * elf)
{
	uintptr_t page = SHUNT_PAGE_SIZE;

	return shunt_area_is_readable((uintptr_t)elf) && !memcmp(elf->e_ident, ELFMAG, SELFMAG) &&
	       elf->e_phentsize == sizeof(ElfW(Phdr)) && !(elf->e_phoff % sizeof(elf->e_phoff)) &&
	       elf->e_phoff <= page && elf->e_phoff + elf->e_phnum * sizeof(ElfW(Phdr)) <= page;
}

/* As the dynamic linker has it, if its headers are in its first page. No lock. */
static bool find_loaded(uintptr_t addr, struct object *o)
{
	struct dl_find_object found;
	const ElfW(Ehdr) * elf;

	if (!_dl_find_object || _dl_find_object((void *)addr, &found) || !found.dlfo_link_map ||
	    !has_headers(found.dlfo_map_start))
		return false;
	elf = found.dlfo_map_start;
	*o = (struct object){
		{(const char *)elf + elf->e_phoff, elf->e_phnum, found.dlfo_link_map->l_addr},
		{(uintptr_t)found.dlfo_map_start, (uintptr_t)found.dlfo_map_end}};
	return true;
}

/* ----------------------------------------------------------------------- the note */

#define ALIGNED(size) (((size_t)(size) + sizeof(ElfW(Addr)) - 1) & -sizeof(ElfW(Addr)))

/* The property among the @len bytes of a note: pairs of type and size, data behind them. */
static bool has_property(const char *at, size_t len)
{
	uint32_t head[2], bits;

	for (; len >= sizeof(head); at += ALIGNED(head[1]), len -= ALIGNED(head[1])) {
		memcpy(head, at, sizeof(head));
		at += sizeof(head);
		len -= sizeof(head);
		if (ALIGNED(head[1]) > len)
			break;
		if (head[0] != SHUNT_PROT_CPU_PROPERTY || head[1] < sizeof(bits))
			continue;
		memcpy(&bits, at, sizeof(bits));
		return (bits & SHUNT_PROT_CPU_BIT) != 0;
	}
	return false;
}

static bool has_note(const char *at, size_t len)
{
	static const char name[] = "GNU";
	ElfW(Nhdr) note;

	while (len >= sizeof(note) + sizeof(name)) {
		size_t size;

		memcpy(&note, at, sizeof(note));
		size = sizeof(note) + ALIGNED(note.n_namesz) + ALIGNED(note.n_descsz);
		if (note.n_namesz == sizeof(name) && note.n_type == NT_GNU_PROPERTY_TYPE_0 &&
		    !memcmp(at + sizeof(note), name, sizeof(name)))
			return len - sizeof(note) - sizeof(name) >= note.n_descsz &&
			       has_property(at + sizeof(note) + sizeof(name), note.n_descsz);
		if (size > len)
			break;
		at += size;
		len -= size;
	}
	return false;
}

static bool asks_for_it(const struct object *o)
{
	const ElfW(Phdr) *header = o->segments.headers;

	for (size_t i = 0; i < o->segments.n; i++, header++)
		if (header->p_type == PT_GNU_PROPERTY) {
			uintptr_t note = o->segments.bias + header->p_vaddr;

			return shunt_area_are_readable(note, header->p_memsz) &&
			       has_note((const char *)note, header->p_memsz);
		}
	return false;
}

/* *range is where the answer holds. */
static bool is_asked_for(uintptr_t addr, struct shunt_range *range)
{
	struct object o;

	if (find_registered(addr, &o) || find_loaded(addr, &o)) {
		*range = o.range;
		return asks_for_it(&o);
	}
	range->start = addr & -SHUNT_PAGE_SIZE;
	range->end = range->start + SHUNT_PAGE_SIZE;
	return false;
}

int shunt_area_ask_prot_cpu(uintptr_t addr, struct shunt_range *range)
{
	struct shunt_range alike;
	int ret;

	if (!shunt_has_prot_cpu())
		return 0;
	ret = shunt_is_filtered() ? -EPERM : shunt_maps_has_flag(addr, SHUNT_PROT_CPU_FLAG, &alike);
	if (ret < 0)
		ret = is_asked_for(addr, &alike);
	if (range->start < alike.start)
		range->start = alike.start;
	if (range->end > alike.end)
		range->end = alike.end;
	return ret ? SHUNT_PROT_CPU : 0;
}
