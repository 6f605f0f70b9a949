/* SPDX-License-Identifier: MIT */
/*
 * Entries of functions that can be traced, in the image that is baked. gcc leaves five nops of one
 * byte at each (-fpatchable-function-entry=5), which a running process has to wait for all threads
 * to make one instruction of. In a file nobody stands between them: they become one nop of five
 * bytes.
 *
 * (The off form of a call, which one byte switches, has the displacement of a stub in libshunt:
 * only the process knows that.)
 */
#include "bake_parts.h"

#include <errno.h>
#include <string.h>

#include "core/ftrace.h"
#include "linux/entry/finder.h"

#define ROOM 5

static void write_nop(struct bake *b, const struct shunt_found_entry *entry)
{
	static const uint8_t singles[ROOM] = {0x90, 0x90, 0x90, 0x90, 0x90};
	static const uint8_t nop[ROOM] = {0x0f, 0x1f, 0x44, 0x00, 0x00};
	uint8_t *at = bake_bytes(b, entry->ip, ROOM);

	if (entry->prepare != SHUNT_SINGLE_NOPS || entry->why || !at ||
	    memcmp(at, singles, ROOM) != 0)
		return;
	memcpy(at, nop, ROOM);
	b->result->entries++;
}

int bake_write_entries(struct bake *b)
{
	struct shunt_find find = {.elf = &b->inv.elf};
	const struct shunt_found_entry *entries;
	int ret;

	/* aarch64 has them of one instruction each. */
	if (b->inv.elf.cpu != &shunt_elf_native)
		return 0;
	ret = shunt_find(&find);

	entries = find.entries.data;
	for (size_t i = 0; !ret && i < find.entries.n; i++)
		write_nop(b, &entries[i]);
	shunt_find_free(&find);
	return ret == -EINVAL ? 0 : ret; /* a table that is not understood is left alone */
}
