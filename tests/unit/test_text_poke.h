/* SPDX-License-Identifier: MIT */
/* What test_text_poke.c runs of its other files. */
#ifndef TESTS_UNIT_TEST_TEXT_POKE_H
#define TESTS_UNIT_TEST_TEXT_POKE_H

/* test_text_poke_refused.c */
void bad_arguments(void **state);
void target_above_47_bits(void **state);
void undecodable_instructions(void **state);
void old_bytes_mismatch(void **state);
void overlapping_sites(void **state);
void overlaps_earlier_site(void **state);
void site_of_a_key(void **state);
void site_of_a_key_not_found_yet(void **state);
void site_across_a_key(void **state);
void poke_within_a_poke(void **state);

/* test_text_poke_faults.c */
void forget(void **state);
void edges_of_what_is_forgotten(void **state);
void forgotten_with_its_int3(void **state);
void every_step_fails(void **state);
void no_memory(void **state);
void cannot_be_undone(void **state);
void handlers_beside_a_growing_table(void **state);

#endif
