/* SPDX-License-Identifier: MIT */
/* Which stub an entry calls. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arch/arch.h"
#include "core/ftrace.h"

/* Where entries have none of their own: the stubs of each half of the slots. */
extern const struct {
	uintptr_t first;
	size_t size; /* of each */
} shunt_slot_stubs[2];
extern const uintptr_t shunt_list_stubs[][2];

/* raw.c. Not there in a static program without a recorder. */
uintptr_t shunt_raw_stub(unsigned form, bool is_replaced) __attribute__((__weak__));

static uintptr_t slot_stub(size_t slot)
{
	const size_t half = SHUNT_STUB_SLOTS / 2;

	return shunt_slot_stubs[slot / half].first + slot % half * shunt_slot_stubs[slot / half].size;
}

uintptr_t shunt_port_trace_stub(unsigned form, unsigned id)
{
	shunt_ask_vectors();
	if (!SHUNT_HAS_ENTRY_STUBS && id <= SHUNT_STUB_SLOTS)
		return slot_stub(id - 1);
	if (id == SHUNT_STUB_RAW || id == SHUNT_STUB_RAW_ENTRY)
		return shunt_raw_stub(form, id == SHUNT_STUB_RAW);
	return shunt_list_stubs[form][id == SHUNT_STUB_LIST_FULL];
}
