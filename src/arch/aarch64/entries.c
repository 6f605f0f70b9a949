/* SPDX-License-Identifier: MIT */
/* Entries of functions as compilers leave them (arch.h). */
#include "arch/aarch64/a64.h"
#include "arch/arch.h"

/* Not paciasp, which is one too: nops stand before it. */
unsigned shunt_landing_pad_len(const uint8_t *code, size_t len)
{
	return len >= A64_LEN && a64_is_bti(a64_load(code)) ? A64_LEN : 0;
}

bool shunt_is_empty_function(const uint8_t *code, size_t len)
{
	size_t at = shunt_landing_pad_len(code, len);

	return len >= at + A64_LEN && a64_is_ret(a64_load(code + at));
}

/* The first nop becomes a b; what follows is left out by who comes back (shunt_entry_next()). */
const char *shunt_entry_room(const uint8_t *code, size_t len, uintptr_t ip, uint8_t *room,
			     uint8_t *prepare)
{
	(void)room;
	(void)prepare;
	if (ip % A64_LEN || len < 2 * (size_t)A64_LEN || !a64_is_nop(a64_load(code)))
		return "its entry has no nop";
	return NULL;
}

/*
 * A sled begins with b #32 and is made ready by an stp in its place, which the architecture does
 * not allow while CPUs may run it.
 */
const char *shunt_sled_room(const uint8_t *code, size_t len, bool is_exit, uint8_t *room,
			    uint8_t *prepare)
{
	(void)code;
	(void)len;
	(void)is_exit;
	(void)room;
	(void)prepare;
	return "XRay's sleds cannot be switched on this CPU while threads run: "
	       "-fpatchable-function-entry=2 can";
}

/* The calls of it: a bl may become another one, where a ret may become nothing. */
size_t shunt_empty_function_sites(uintptr_t func, uintptr_t start, uintptr_t end, uintptr_t *sites,
				  size_t max, uint8_t *op)
{
	/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
	const volatile uint32_t *word = (const volatile uint32_t *)start;
	size_t n = 0;

	/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
	if (!shunt_is_empty_function((const uint8_t *)func, 2 * (size_t)A64_LEN))
		return 0;
	for (uintptr_t at = start; at + A64_LEN <= end; at += A64_LEN, word++) {
		uint32_t w = *word;

		if (!a64_is_bl(w) || a64_branch_target(w, at) != func)
			continue;
		if (n == max)
			return 0;
		sites[n++] = at;
	}
	*op = SHUNT_OP_CALL;
	return n;
}

/* Calls that lead out of the module, which has none but through a PLT. */
uintptr_t shunt_replaced_function(uintptr_t func, uintptr_t start, uintptr_t end, size_t i)
{
	/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
	const volatile uint32_t *word = (const volatile uint32_t *)start;

	(void)func;
	for (uintptr_t at = start; at + A64_LEN <= end; at += A64_LEN, word++) {
		uint32_t w = *word;
		uintptr_t to;

		if (!a64_is_bl(w))
			continue;
		to = a64_branch_target(w, at);
		if ((to < start || to >= end) && !i--)
			return to;
	}
	return 0;
}
