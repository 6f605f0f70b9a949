/* SPDX-License-Identifier: MIT */
/* The keys of kernel_keys_base.c, for kernel_keys.c. */
#ifndef KERNEL_KEYS_H
#define KERNEL_KEYS_H

#include <shunt/static_key.h>

DECLARE_STATIC_KEY_TRUE(base_true_key);
DECLARE_STATIC_KEY_FALSE(base_false_key);
DECLARE_STATIC_KEY_TRUE(base_inv_true_key); /* switched by a constructor there */
DECLARE_STATIC_KEY_FALSE(base_inv_false_key);

#endif
