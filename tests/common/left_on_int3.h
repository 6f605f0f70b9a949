/* SPDX-License-Identifier: MIT */
/*
 * Sites that are left on an int3: while @fails, the only writes that succeed are those of an int3,
 * so a poke can go neither forward nor back. For one file of a program that is linked with
 * --wrap=shunt_port_text_write.
 */
#ifndef SHUNT_TESTS_LEFT_ON_INT3_H
#define SHUNT_TESTS_LEFT_ON_INT3_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include <shunt/port.h>

static _Atomic bool fails;
static void (*behind_int3)(void); /* called behind each write that begins with an int3, if set */

int __real_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n)
{
	bool is_int3 = writes->len == 1 && writes->bytes[0] == 0xcc;
	int ret;

	if (fails && !is_int3)
		return -EIO;
	ret = __real_shunt_port_text_write(writes, n);
	if (is_int3 && behind_int3)
		behind_int3();
	return ret;
}

#endif
