/* SPDX-License-Identifier: MIT */
/*
 * What the dynamic linker calls when it loads and unloads (linux/entry/notice.c). Other libshunts
 * know it by what stands before it: a name, and where the entry of the next one is.
 */
#include "arch/aarch64/routine.inc"

	.text
	.balign	16
	.ascii	"ShuntNt1"
	.quad	shunt_notice_next - .
	routine shunt_notice_entry
	b	shunt_on_notice
	end_routine shunt_notice_entry

	end_file
