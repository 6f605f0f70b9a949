/* SPDX-License-Identifier: MIT */
/* Which stub an entry calls. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arch/arch.h"
#include "core/ftrace.h"

/* Where entries have none of their own: the stubs of the slots. */
enum { GENERAL, FULL, CALL }; /* of each half, for heads; of the first half, for calls */
extern const struct {
	uintptr_t first;
	size_t size; /* of each */
} shunt_slot_stubs[3];
extern const uintptr_t shunt_list_stubs[][2];

/* raw.c. Not there in a static program without a recorder. */
uintptr_t shunt_raw_stub(unsigned form, bool is_replaced) __attribute__((__weak__));

uintptr_t shunt_port_trace_stub(unsigned form, unsigned id)
{
	const size_t half = SHUNT_STUB_SLOTS / 2, slot = id - 1;
	size_t kind = slot < half ? GENERAL : FULL;

	shunt_ask_vectors();
	if (form == SHUNT_FORM_CALL)
		kind = CALL;
	if (!SHUNT_HAS_ENTRY_STUBS && id <= SHUNT_STUB_SLOTS)
		return shunt_slot_stubs[kind].first + slot % half * shunt_slot_stubs[kind].size;
	if (id == SHUNT_STUB_RAW || id == SHUNT_STUB_RAW_ENTRY)
		return shunt_raw_stub(form, id == SHUNT_STUB_RAW);
	return shunt_list_stubs[form][id == SHUNT_STUB_LIST_FULL];
}
