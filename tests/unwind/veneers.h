/* SPDX-License-Identifier: MIT */
/* Where far calls lead to, and what the veneers of a module jump through. */
#ifndef SHUNT_TESTS_UNWIND_VENEERS_H
#define SHUNT_TESTS_UNWIND_VENEERS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <shunt/inspect.h>
#include <shunt/module.h>

#ifdef __aarch64__
#include "arch/aarch64/a64.h"
#endif
#include "passages.h"

struct veneer_look {
	uintptr_t function, distance, veneer;
};

/* Where a call or jmp leads. */
static inline uintptr_t veneer_target_of(const void *site)
{
#ifdef __aarch64__
	return (uintptr_t)a64_branch_target(a64_load((const uint8_t *)site), (uintptr_t)site);
#else
	int32_t displacement;

	memcpy(&displacement, (const char *)site + 1, sizeof(displacement));
	return (uintptr_t)site + 5 + (uintptr_t)(intptr_t)displacement;
#endif
}

static inline int veneer_look_at(const struct shunt_site_info *info, void *arg)
{
	struct veneer_look *look = arg;
	uintptr_t distance = (uintptr_t)info->addr - look->function;

	if (info->state != SHUNT_SITE_FAR || distance >= look->distance)
		return 0;
	look->distance = distance;
	look->veneer = veneer_target_of(info->addr);
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
	const unsigned char *veneer = module->veneers + AREA_VENEER_BYTES * index;
#ifdef __aarch64__
	return (void **)(uintptr_t)a64_jump_slot(veneer, AREA_VENEER_BYTES, (uintptr_t)veneer);
#else
	int32_t displacement;

	memcpy(&displacement, veneer + 2, sizeof(displacement));
	return (void **)(veneer + 6 + displacement);
#endif
}

/* Whether @veneer is one of the module's own. */
static inline bool veneer_is_of(const struct shunt_module *module, uintptr_t veneer)
{
	return veneer >= (uintptr_t)module->veneers && veneer < (uintptr_t)module->veneers_end;
}

#endif
