/* SPDX-License-Identifier: MIT */
/*
 * A shared object that knows nothing of Shunt. It is loaded out of rel32 reach of the
 * program, so its function is a far target; and its loop calls the function through
 * the PLT, as every call of an exported function in a shared object goes.
 */
#include "loop.inc"

	STEP	bench_plugin_step
	LOOP	bench_plugin_loop, none, none, call bench_plugin_step@PLT

	.local	none
	.bss
none:	.skip	1

	.section .note.GNU-stack, "", @progbits
