/* SPDX-License-Identifier: MIT */
/*
 * What a thread that ran into an int3 gets instead: the effect of one
 * instruction on its registers, computed in software. Registers in, registers
 * out; the only memory touched is the stack word that a call writes or a ret
 * reads. The kernel's int3_emulate_*() of asm/text-patching.h are the model.
 */
#ifndef SHUNT_CORE_EMULATE_H
#define SHUNT_CORE_EMULATE_H

#include <shunt/port.h>

#include "arch/arch.h"

/* Whether condition @cc (0 to 15, as in a jcc opcode) holds under @flags. */
bool shunt_emulate_cc(unsigned cc, uintptr_t flags);

/*
 * Execute @insn, which stands at @ip, on @regs (whose own ip is ignored on the
 * way in). The word below sp must be writable for a call, as it must be for the
 * instruction itself; the caller has made room for it (a red zone, a gap).
 *
 * Returns false, with @regs unchanged, for an op that has no emulation (int3,
 * none).
 */
bool shunt_emulate(struct shunt_regs *regs, uintptr_t ip, const struct shunt_insn *insn);

#endif
