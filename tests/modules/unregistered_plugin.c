/* SPDX-License-Identifier: MIT */
/* A plugin that stands between its own constructor and libshunt: see unregistered.h. */
#define shunt_module_register   plugin_register
#define shunt_module_unregister plugin_unregister
#include "../common/one_two.h"
#include "host.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "unregistered.h"

extern void real_register(const struct shunt_module *module) __asm__("shunt_module_register");
extern void real_unregister(const struct shunt_module *module) __asm__("shunt_module_unregister");

DEFINE_STATIC_CALL(known_call, one);
DEFINE_STATIC_KEY_FALSE(known_own);

KEPT static bool host_is_on(void)
{
	if (static_branch_unlikely(&host_branch))
		return true;
	return false;
}

/* (Tests that it has more of than a byte counts.) */
KEPT static bool own_is_on(void)
{
	static volatile bool on;

#define TEST  on = static_branch_unlikely(&known_own);
#define TESTS TEST TEST TEST TEST TEST TEST TEST TEST TEST TEST TEST TEST TEST TEST TEST TEST
	TESTS TESTS TESTS TESTS TESTS TESTS TESTS TESTS TESTS return on;
}

KEPT static int own_call(void)
{
	return static_call(known_call)() + 0;
}

static int turn(bool on)
{
	return on ? static_branch_enable(&known_own) : static_branch_disable(&known_own);
}

static int update(bool to_two)
{
	return to_two ? static_call_update(known_call, two) : static_call_update(known_call, one);
}

static unsigned own_marks(void)
{
	return known_own.key.first->unknown;
}

PUBLIC extern const struct known_plugin known_plugin;
const struct known_plugin known_plugin = {host_is_on, own_is_on, own_call, turn, update, own_marks};

/* ------------------------------------------------------------------ descriptors */

#define COPIES 300
static struct shunt_module *heap, in_image;

static bool is_record(const struct static_jump_entry *e)
{
	return e->magic == STATIC_JUMP_MAGIC || e->magic == STATIC_JUMP_MAGIC_TEST;
}

/* Have a test of known_own claim the address of that of host_branch. */
static void fold(const struct shunt_module *module)
{
	const struct static_jump_entry *first = module->jumps;
	struct static_jump_entry *e, *host = NULL, *own = NULL;
	uintptr_t page;

	while (is_record(first - 1))
		first--;
	for (e = (struct static_jump_entry *)first; is_record(e); e++) {
		uintptr_t handle = (uintptr_t)&e->handle + (uintptr_t)(intptr_t)(e->handle & ~1);

		if (e->code && handle == (uintptr_t)&host_branch)
			host = e;
		else if (e->code && handle == (uintptr_t)&known_own)
			own = e;
	}
	page = (uintptr_t)own & -4096ul;
	/* The linker may have put the records beside text. */
	if (!host || !own || mprotect((void *)page, 8192, PROT_READ | PROT_WRITE | PROT_EXEC))
		abort();
	own->code = (int32_t)((uintptr_t)&host->code + (uintptr_t)(intptr_t)host->code -
			      (uintptr_t)&own->code);
}

static unsigned copies(void)
{
	return known_how == KNOWN_UNPLACED ? 1 : COPIES;
}

/* Whether the kernel gives memory. */
static void give_memory(bool any)
{
	static struct rlimit before;
	struct rlimit none;

	if (!before.rlim_max)
		(void)getrlimit(RLIMIT_AS, &before);
	none = before;
	none.rlim_cur = 1;
	(void)setrlimit(RLIMIT_AS, any ? &before : &none);
}

void plugin_register(const struct shunt_module *module)
{
	in_image = *module;
	switch (known_how) {
	case KNOWN_NEWER:
		in_image.size += 8;
		real_register(&in_image);
		break;
	case KNOWN_OLDER:
		in_image.size -= 16;
		real_register(&in_image);
		break;
	case KNOWN_UNPLACED:
	case KNOWN_300_TIMES:
	case KNOWN_NO_MEMORY:
		heap = calloc(COPIES, sizeof(*heap));
		give_memory(known_how != KNOWN_NO_MEMORY);
		for (unsigned i = 0; heap && i < copies(); i++) {
			heap[i] = *module;
			real_register(&heap[i]);
		}
		give_memory(true);
		for (unsigned i = 0; heap && known_how == KNOWN_NO_MEMORY && i < COPIES; i++)
			real_unregister(&heap[i]);
		break;
	case KNOWN_FOLDED:
		fold(module);
		real_register(module);
		break;
	case KNOWN_AS_TWO:
		in_image.call_keys_end = in_image.call_keys = NULL;
		/* fall through */
	case KNOWN_TWICE:
		real_register(module);
		real_register(&in_image);
		break;
	default:
		real_register(module);
	}
}

void plugin_unregister(const struct shunt_module *module)
{
	if (known_how == KNOWN_SILENT)
		return;
	for (unsigned i = 0; heap && i < copies(); i++)
		real_unregister(&heap[i]);
	free(heap);
	real_unregister(&in_image);
	real_unregister(module);
	known_end.enable = turn(true);
	known_end.test = own_is_on();
	known_end.update = update(true);
	known_end.call = own_call();
}

#ifndef __clang__
#pragma GCC diagnostic ignored "-Wprio-ctor-dtor"
#endif
__attribute__((destructor(1))) static void last(void)
{
	if (turn(false) || update(false))
		return;
	known_end.last_enable = turn(true);
	known_end.last_test = own_is_on();
	known_end.last_update = update(true);
	known_end.last_call = own_call();
	(void)!turn(false);
	(void)!update(false);
}
