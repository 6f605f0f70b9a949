/* SPDX-License-Identifier: MIT */
/* Which stub an entry calls. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arch/arch.h"
#include "core/ftrace.h"

#define STUB_SIZE 32 /* ftrace_stubs.S */

extern const char shunt_slot_stubs[]; /* where entries have none of their own */
extern const uintptr_t shunt_list_stubs[][2];

/* raw.c. Not there in a static program without a recorder. */
uintptr_t shunt_raw_stub(unsigned form, bool is_replaced) __attribute__((__weak__));

uintptr_t shunt_port_trace_stub(unsigned form, unsigned id)
{
	shunt_ask_vectors();
	if (!SHUNT_HAS_ENTRY_STUBS && id <= SHUNT_STUB_SLOTS)
		return (uintptr_t)shunt_slot_stubs + (size_t)(id - 1) * STUB_SIZE;
	if (id == SHUNT_STUB_RAW || id == SHUNT_STUB_RAW_ENTRY)
		return shunt_raw_stub(form, id == SHUNT_STUB_RAW);
	return shunt_list_stubs[form][id == SHUNT_STUB_LIST_FULL];
}
