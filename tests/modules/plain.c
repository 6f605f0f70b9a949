/* SPDX-License-Identifier: MIT */
/* A shared object that never heard of Shunt. */

int plain_target(int x);
__attribute__((visibility("default"))) int plain_target(int x)
{
	return x + 7000;
}
