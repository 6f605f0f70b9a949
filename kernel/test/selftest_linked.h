/* SPDX-License-Identifier: MIT */
/* A site of the self-test that is as the linker left it (selftest_linked.c). */
#ifndef KERNEL_SELFTEST_LINKED_H
#define KERNEL_SELFTEST_LINKED_H

#include <stdbool.h>
#include <stdint.h>

/*
 * @on: the `call *selftest_slot(%rip)` or `jmp` at @insn becomes a site of selftest_key, as one of
 * a new module would: the core pokes it to a direct one. Else it is none any more, and is as the
 * linker left it; nobody may be there. One site at a time. 0, or the core's error.
 */
int selftest_link(uint8_t *insn, bool on);

#endif
