/* SPDX-License-Identifier: MIT */
/* The CPUs whose files are read (file_cpu.h). */
#include "file_cpu.h"

#include <errno.h>

extern const struct shunt_elf_cpu shunt_elf_foreign;
enum bake_outcome bake_form_foreign(uint8_t kind, uint64_t ip, const struct bake_target *to,
				    uint8_t *bytes);
enum bake_outcome bake_linked_form_foreign(uint8_t kind, uint64_t ip, uint64_t operand,
					   uint8_t *bytes);

const struct shunt_elf_cpu *const file_cpus[] = {&shunt_elf_native, &shunt_elf_foreign, NULL};

int file_cpu_open(struct shunt_elf *elf, const void *image, size_t size)
{
	int ret = -ENOEXEC;

	for (size_t i = 0; file_cpus[i] && ret == -ENOEXEC; i++)
		ret = shunt_elf_open_of(elf, file_cpus[i], image, size);
	return ret;
}

file_cpu_form_fn file_cpu_form(const struct shunt_elf_cpu *cpu)
{
	return cpu == &shunt_elf_native ? bake_form : bake_form_foreign;
}

file_cpu_linked_fn file_cpu_linked_form(const struct shunt_elf_cpu *cpu)
{
	return cpu == &shunt_elf_native ? bake_linked_form : bake_linked_form_foreign;
}
