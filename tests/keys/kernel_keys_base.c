/* SPDX-License-Identifier: MIT */
/* The other module of kernel_keys.c: keys that are tested elsewhere, two of them switched early. */
#include "kernel_keys.h"

DEFINE_STATIC_KEY_TRUE(base_true_key);
EXPORT_STATIC_KEY(base_true_key);
DEFINE_STATIC_KEY_FALSE(base_false_key);
EXPORT_STATIC_KEY(base_false_key);
DEFINE_STATIC_KEY_TRUE(base_inv_true_key);
EXPORT_STATIC_KEY(base_inv_true_key);
DEFINE_STATIC_KEY_FALSE(base_inv_false_key);
EXPORT_STATIC_KEY(base_inv_false_key);

static void invert(struct static_key *key)
{
	if (static_key_enabled(key))
		static_key_disable(key);
	else
		static_key_enable(key);
}

__attribute__((constructor)) static void invert_two(void)
{
	invert(&base_inv_true_key.key);
	invert(&base_inv_false_key.key);
}
