/* SPDX-License-Identifier: MIT */
/* What test_static_key.c runs of its other files. */
#ifndef TESTS_UNIT_TEST_STATIC_KEY_H
#define TESTS_UNIT_TEST_STATIC_KEY_H

/* test_static_key_faults.c */
void every_step_fails(void **state);
void port_is_busy(void **state);
void cannot_be_undone(void **state);
void foreign_bytes(void **state);
void foreign_bytes_at_start_up(void **state);
void failed_change_after_failed_start_up(void **state);
void stale_sites_are_brought_up(void **state);
void stale_sites_without_the_mark(void **state);
void unknown_keys_are_refused(void **state);

/* test_static_key_races.c */
void one_in_the_middle_of_another_83ab38ef0a0b(void **state);
void update_within_an_update(void **state);
void another_thread_waits_83ab38ef0a0b(void **state);
void many_threads(void **state);

#endif
