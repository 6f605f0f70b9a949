/* SPDX-License-Identifier: MIT */
/* A site of the self-test that is as the linker left it (selftest_linked.c). */
#ifndef KERNEL_SELFTEST_LINKED_H
#define KERNEL_SELFTEST_LINKED_H

#include <stdint.h>

struct static_call_key;

/*
 * The `call *slot(%rip)` or `jmp *slot(%rip)` at @insn, where the slot has @tramp, the trampoline
 * of @key, becomes a site as one of a new module would: the core pokes it to a direct call.
 * One site at a time. 0, or the core's error.
 */
int selftest_link(uint8_t *insn, struct static_call_key *key, uintptr_t tramp, uintptr_t slot);

/* It is a site no more, and as the linker left it. Nobody may be there. 0, or the core's error. */
int selftest_unlink(uint8_t *insn);

#endif
