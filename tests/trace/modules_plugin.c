/* SPDX-License-Identifier: MIT */
/* What modules.c loads, compiled with -fpatchable-function-entry=5. */
#include <stdint.h>
#include <sys/mman.h>

#define QUIET __attribute__((patchable_function_entry(0)))

static volatile int sink;

int plug(int x);
int plug_without(int x);
int plug_changed(int x);
void plug_change(void);
void plug_call(void (*fn)(void));

/* Of the program that loads it. */
void on_come(void) __attribute__((weak));
void on_go(void) __attribute__((weak));

__attribute__((constructor)) static void plug_come(void)
{
	if (on_come)
		on_come();
	sink++;
}

__attribute__((destructor)) static void plug_go(void)
{
	if (on_go)
		on_go();
	sink++;
}

/* @fn returns to this module. */
QUIET void plug_call(void (*fn)(void))
{
	fn();
	sink++;
}

int plug(int x)
{
	return x + sink;
}

QUIET int plug_without(int x)
{
	return x - sink;
}

int plug_changed(int x)
{
	return x * sink;
}

/* As a debugger would: a breakpoint at the entry of plug_changed(). */
QUIET void plug_change(void)
{
	uint8_t *at = (uint8_t *)(uintptr_t)plug_changed;
	void *page = (void *)((uintptr_t)at & ~4095ul);

	mprotect(page, 8192, PROT_READ | PROT_WRITE | PROT_EXEC);
	*at = 0xcc;
	mprotect(page, 8192, PROT_READ | PROT_EXEC);
}
