/* SPDX-License-Identifier: MIT */
/* What test_poke.c runs of its other files. */
#ifndef TESTS_UNIT_TEST_POKE_H
#define TESTS_UNIT_TEST_POKE_H

/* test_poke_faults.c; and how many faults its tests have injected. */
extern unsigned long injected;
void every_step_fails_once(void **state);
void every_step_fails_for_good(void **state);
void any_two_steps_fail(void **state);
void mending_fails(void **state);
void one_byte_cannot_be_written(void **state);

/* test_poke_traps.c */
void traps_at_every_step(void **state);
void foreign_addresses(void **state);
void foreign_int3_at_a_site(void **state);
void nothing_to_emulate(void **state);
void handler_after_the_writer_has_left_efd608fa7403(void **state);
void poke_ends_between_byte_and_mark(void **state);
void poke_ends_before_the_byte(void **state);
void foreign_int3_after_the_poke(void **state);
void next_poke_after_the_poke(void **state);
void handlers_beside_a_writer(void **state);

#endif
