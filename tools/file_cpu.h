/* SPDX-License-Identifier: MIT */
/*
 * The CPUs whose files are read and baked, whatever the tool is compiled for. Of each a folder of
 * src/arch is compiled in (arch/foreign.h), and bake_form.c with it.
 */
#ifndef SHUNT_TOOLS_FILE_CPU_H
#define SHUNT_TOOLS_FILE_CPU_H

#include "bake_form.h"
#include "linux/elf/elf.h"

/* All of them; NULL is the last. */
extern const struct shunt_elf_cpu *const file_cpus[];

/*
 * shunt_elf_open() of a file of any of them: @elf->cpu says of which. Returns what it returns:
 * -ENOEXEC where the file is of none.
 */
int file_cpu_open(struct shunt_elf *elf, const void *image, size_t size)
	__attribute__((warn_unused_result));

/* bake_form(), and bake_linked_form(), for files of one of them. */
typedef enum bake_outcome (*file_cpu_form_fn)(uint8_t kind, uint64_t ip,
					      const struct bake_target *to, uint8_t *bytes);
typedef enum bake_outcome (*file_cpu_linked_fn)(uint8_t kind, uint64_t ip, uint64_t operand,
						uint8_t *bytes);
file_cpu_form_fn file_cpu_form(const struct shunt_elf_cpu *cpu);
file_cpu_linked_fn file_cpu_linked_form(const struct shunt_elf_cpu *cpu);

#endif
