/* SPDX-License-Identifier: MIT */
/*
 * Two threads, each with a stack: a scheduler's "preempted" means that the one lies in an
 * interrupt while the other goes on (hazards.h).
 */
#include "hazards.h"

static uint8_t stack[32768] __attribute__((aligned(16)));
static uint64_t thread_sp, main_sp;

void lab_thread_init(void (*body)(void))
{
	uint64_t *sp = (uint64_t *)(stack + sizeof(stack)) - 1;

	*--sp = (uintptr_t)body;
	for (unsigned i = 0; i < 6; i++)
		*--sp = 0;
	*--sp = 0x202; /* rflags: interrupts on */
	thread_sp = (uintptr_t)sp;
}

void lab_thread_run(void)
{
	lab_switch(&main_sp, thread_sp);
}

void lab_preempt(void)
{
	lab_switch(&thread_sp, main_sp);
}
