/* SPDX-License-Identifier: MIT */
/*
 * A hash table from 64-bit keys to 32-bit numbers. Its keys come from files that nobody vouches
 * for, so the order of its slots hangs on a random number: no file can make all keys collide.
 */
#ifndef SHUNT_TOOLS_HASH_H
#define SHUNT_TOOLS_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

struct hash_slot {
	uint64_t key;
	uint32_t value;
	uint32_t used;
};

struct hash {
	struct hash_slot *slots;
	size_t n, max; /* slots in use; all of them, a power of 2 */
	uint64_t seed;
};

static inline uint64_t hash_mix(uint64_t key)
{
	key = (key ^ key >> 32) * 0xd6e8feb86659fd93u;
	key = (key ^ key >> 32) * 0xd6e8feb86659fd93u;
	return key ^ key >> 32;
}

static inline struct hash_slot *hash_find(const struct hash *hash, uint64_t key)
{
	size_t i = hash_mix(key ^ hash->seed) & (hash->max - 1);

	while (hash->slots[i].used && hash->slots[i].key != key)
		i = (i + 1) & (hash->max - 1);
	return &hash->slots[i];
}

static inline bool hash_grow(struct hash *hash)
{
	struct hash old = *hash;

	if (!old.max)
		memcpy(&hash->seed, (const void *)getauxval(AT_RANDOM), sizeof(hash->seed));
	hash->max = old.max ? 2 * old.max : 256;
	hash->slots = calloc(hash->max, sizeof(*hash->slots));
	if (!hash->slots) {
		*hash = old;
		return false;
	}
	for (size_t i = 0; i < old.max; i++)
		if (old.slots[i].used)
			*hash_find(hash, old.slots[i].key) = old.slots[i];
	free(old.slots);
	return true;
}

/* The number of @key, 0 where it is new; NULL where there is no memory. Good until the next one. */
static inline uint32_t *hash_at(struct hash *hash, uint64_t key)
{
	struct hash_slot *slot;

	if (2 * hash->n >= hash->max && !hash_grow(hash))
		return NULL;
	slot = hash_find(hash, key);
	hash->n += !slot->used;
	slot->key = key;
	slot->used = 1;
	return &slot->value;
}

/* The number of @key; 0 where it is not there. */
static inline uint32_t hash_get(const struct hash *hash, uint64_t key)
{
	return hash->max ? hash_find(hash, key)->value : 0;
}

static inline void hash_free(struct hash *hash)
{
	free(hash->slots);
	*hash = (struct hash){0};
}

#endif
