/* SPDX-License-Identifier: MIT */
/* What test_elf.c runs of its other files. */
#ifndef TESTS_UNIT_TEST_ELF_H
#define TESTS_UNIT_TEST_ELF_H

/* test_elf_made.c */
void test_made_image(void **state);
void test_bad_headers(void **state);
void test_overlapping_sections(void **state);
void test_local_and_versioned_symbols(void **state);
void test_section_names(void **state);
void test_slot_types(void **state);
void test_function_index(void **state);

/* test_elf_damage.c */
void test_mutations(void **state);
void test_truncations(void **state);
void test_speed(void **state);

#endif
