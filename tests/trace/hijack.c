/* SPDX-License-Identifier: MIT */
#include "hijack.h"

#include "linux/entry/return_slots.h"

__thread struct hijack_counts hijack_counts;
int hijack_off;

void hijack_entry(uintptr_t *word)
{
	uintptr_t stub;

	if (hijack_off)
		return;
	if (shunt_is_return_stub(*word)) {
		hijack_counts.tails++;
		return;
	}
	stub = shunt_return_stub(*word);
	if (!stub)
		return;
	hijack_counts.entries++;
	*word = stub;
}

void hijack_return(uintptr_t *word)
{
	(void)word;
	hijack_counts.returns++;
	if (hijack_on_return)
		hijack_on_return();
}

void (*hijack_on_return)(void);
