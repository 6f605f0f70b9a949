/* SPDX-License-Identifier: MIT */
/*
 * Other names for what a folder of src/arch defines, for a program that has several CPUs' (a
 * tool that reads files of all). The sources of a CPU that is not the program's own are compiled
 * with -include arch/foreign.h, -DSHUNT_CPU_<CPU>, by which arch.h has that folder's constants, and
 * -DSHUNT_FOREIGN=<name>: shunt_elf_native becomes shunt_elf_<name>.
 */
#ifndef SHUNT_ARCH_FOREIGN_H
#define SHUNT_ARCH_FOREIGN_H

#define SHUNT_FOREIGN_PASTE2(name, cpu) name##_##cpu
#define SHUNT_FOREIGN_PASTE(name, cpu)  SHUNT_FOREIGN_PASTE2(name, cpu)
#define SHUNT_FOREIGN_NAME(name)        SHUNT_FOREIGN_PASTE(name, SHUNT_FOREIGN)

#define shunt_insn_encode      SHUNT_FOREIGN_NAME(shunt_insn_encode)
#define shunt_insn_encode_site SHUNT_FOREIGN_NAME(shunt_insn_encode_site)
#define shunt_insn_decode      SHUNT_FOREIGN_NAME(shunt_insn_decode)
#define shunt_insn_reach       SHUNT_FOREIGN_NAME(shunt_insn_reach)
#define shunt_emulate          SHUNT_FOREIGN_NAME(shunt_emulate)
#define shunt_elf_site_at      SHUNT_FOREIGN_NAME(shunt_elf_site_at)
#define shunt_elf_tramp_key    SHUNT_FOREIGN_NAME(shunt_elf_tramp_key)
#define shunt_elf_plt_slot     SHUNT_FOREIGN_NAME(shunt_elf_plt_slot)
#define shunt_elf_stub_target  SHUNT_FOREIGN_NAME(shunt_elf_stub_target)
#define shunt_elf_passing_at   SHUNT_FOREIGN_NAME(shunt_elf_passing_at)
#define shunt_elf_branch_at    SHUNT_FOREIGN_NAME(shunt_elf_branch_at)
#define bake_form              SHUNT_FOREIGN_NAME(bake_form)
#define bake_linked_form       SHUNT_FOREIGN_NAME(bake_linked_form)
#define shunt_elf_native       SHUNT_FOREIGN_NAME(shunt_elf)

#endif
