/* SPDX-License-Identifier: MIT */
/* Where far calls lead to, and what the veneers of a module jump through. */
#ifndef SHUNT_TESTS_UNWIND_VENEERS_H
#define SHUNT_TESTS_UNWIND_VENEERS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <shunt/inspect.h>
#include <shunt/module.h>

struct veneer_look {
	uintptr_t function, distance, veneer;
};

static inline int veneer_look_at(const struct shunt_site_info *info, void *arg)
{
	struct veneer_look *look = arg;
	uintptr_t distance = (uintptr_t)info->addr - look->function;
	int32_t displacement;

	if (info->state != SHUNT_SITE_FAR || distance >= look->distance)
		return 0;
	memcpy(&displacement, (const char *)info->addr + 1, sizeof(displacement));
	look->distance = distance;
	look->veneer = (uintptr_t)info->addr + 5 + (uintptr_t)(intptr_t)displacement;
	return 0;
}

/* Where the first far call of @key in @function leads to, which is near its start; or 0. */
static inline uintptr_t veneer_of(const char *key, long (*function)(long))
{
	struct veneer_look look = {(uintptr_t)function, 64, 0};

	(void)shunt_for_each_site(key, veneer_look_at, &look);
	return look.veneer;
}

/* The word of the veneer at @index: jmp *word(%rip). NULL in it: not in use. */
static inline void **veneer_word(const struct shunt_module *module, size_t index)
{
	const unsigned char *veneer = module->veneers + 8 * index;
	int32_t displacement;

	memcpy(&displacement, veneer + 2, sizeof(displacement));
	return (void **)(veneer + 6 + displacement);
}

/* Whether @veneer is one of the module's own. */
static inline bool veneer_is_of(const struct shunt_module *module, uintptr_t veneer)
{
	return veneer >= (uintptr_t)module->veneers && veneer < (uintptr_t)module->veneers_end;
}

#endif
