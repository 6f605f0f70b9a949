/* SPDX-License-Identifier: MIT */
/*
 * The records of a module's static branches: where they begin and end, and which of
 * them stand for a site. One of them is known (shunt_module.jumps); the others are
 * beside it, for a linker puts sections of one name side by side.
 */
#include <shunt/module.h>
#include <shunt/static_key.h>

#include <errno.h>
#include <link.h>
#include <sys/mman.h>

#include "core/key.h"
#include "linux/base/base.h"
#include "linux/base/registry.h"
#include "linux/base/syscall.h"
#include "linux/module/image.h"
#include "linux/module/jumps.h"

/*
 * Mapped, and readable: pages between segments may be neither. By a call that reads a signal mask
 * there, and then refuses to use it.
 */
static bool is_readable(uintptr_t addr)
{
	unsigned char in_core;

	return !mincore((void *)(addr & -SHUNT_PAGE_SIZE), 1, &in_core) &&
	       shunt_syscall(SYS_rt_sigprocmask, -1, (long)(addr & -8ul), 0, 8) != -EFAULT;
}

/*
 * Whether a record is there. @segment: what can be read; its end is 0 where that is not known. What
 * is beside a record may be anything, also what a sanitizer keeps between objects.
 */
__attribute__((noinline, no_sanitize("address"))) static bool
is_record(const struct static_jump_entry *entry, struct shunt_range segment)
{
	uintptr_t addr = (uintptr_t)entry;

	if (segment.end ? !shunt_in_range(segment, addr, sizeof(*entry))
			: !is_readable(addr) || !is_readable(addr + sizeof(*entry) - 1))
		return false;
	return entry->magic == STATIC_JUMP_MAGIC || entry->magic == STATIC_JUMP_MAGIC_TEST;
}

void shunt_jumps_find(const struct shunt_image *image, const struct shunt_module *module,
		      struct shunt_jumps *jumps)
{
	const struct static_jump_entry *first = module->jumps, *end = first;
	struct shunt_range segment = {0, 0};

	*jumps = (struct shunt_jumps){0};
	if (image && !shunt_image_segment(image, (uintptr_t)first, &segment))
		return;
	while (is_record(first - 1, segment))
		first--;
	while (is_record(end, segment))
		end++;
	jumps->first = first;
	jumps->n = (size_t)(end - first);
}

static const struct static_key *handle_of(const struct static_jump_entry *entry)
{
	return (const struct static_key *)((uintptr_t)&entry->handle +
					   (uintptr_t)(intptr_t)(entry->handle & ~1));
}

size_t shunt_jumps_old(const struct shunt_image *image, const struct shunt_module *module)
{
	uintptr_t first = (uintptr_t)module->jumps, end = (uintptr_t)module->reserved;
	struct shunt_range segment;

	if (module->size > sizeof(*module) || first >= end ||
	    (end - first) % sizeof(struct shunt_old_jump) ||
	    !shunt_image_segment(image, first, &segment) ||
	    !shunt_in_range(segment, first, end - first))
		return 0;
	return (end - first) / sizeof(struct shunt_old_jump);
}

struct shunt_static_key *shunt_jump_old_key(const struct shunt_image *image,
					    const struct shunt_old_jump *entry)
{
	/* Up to its magic a record is the same. */
	const struct static_jump_entry *record = (const struct static_jump_entry *)entry;
	uintptr_t handle = (uintptr_t)handle_of(record);
	struct shunt_range segment;

	if (!shunt_image_segment(image, handle, &segment) ||
	    !shunt_in_range(segment, handle, sizeof(struct static_key)))
		return NULL;
	return shunt_jump_key(record);
}

static bool can_be_handle(const struct shunt_segments *segments, const struct static_key *handle)
{
	return (uintptr_t)handle % _Alignof(struct static_key) == 0 &&
	       shunt_segment_has(segments, PF_R, (uintptr_t)handle, sizeof(*handle));
}

/*
 * Whether a macro has made this handle: not where a program tests a variable of the type, or what
 * lies behind an array of keys, which may be what a sanitizer keeps between objects.
 */
__attribute__((noinline, no_sanitize("address"))) static bool
is_handle(const struct shunt_segments *segments, const struct static_key *handle)
{
	const struct static_key *first;

	if (segments->n && !can_be_handle(segments, handle))
		return false;
	first = handle->self;
	if (!handle->first || !first)
		return false;
	return !segments->n || (first <= handle && can_be_handle(segments, first) &&
				first->self == first && first->first == handle->first);
}

enum shunt_jump shunt_jump_site(const struct shunt_segments *segments,
				const struct static_jump_entry *entry)
{
	uintptr_t code = shunt_jump_code(entry);

	if (!entry->code || !code || code == UINTPTR_MAX)
		return SHUNT_JUMP_NONE;
	if (!is_handle(segments, handle_of(entry)))
		return SHUNT_JUMP_KEYLESS;
	return !segments->n || shunt_segment_has(segments, PF_X, code, 2) ? SHUNT_JUMP_SITE
									  : SHUNT_JUMP_ASTRAY;
}
