/* SPDX-License-Identifier: MIT */
/* What test_ways.c runs of its other files. */
#ifndef TESTS_UNIT_TEST_WAYS_H
#define TESTS_UNIT_TEST_WAYS_H

/* test_ways_faults.c */
void every_fault(void **state);
void beside_others_every_fault(void **state);
void any_two_faults(void **state);
void no_sync_works(void **state);
void mended_by_each_way(void **state);
void mending_fails(void **state);
void put_right_after_a_failed_sync(void **state);
void no_other_way_over_foreign_bytes(void **state);
void another_way_after_ebusy(void **state);

/* test_ways_repair.c; and how many points it has stopped at. */
extern unsigned long stops;
void copied_at_every_point(void **state);
void copied_at_every_load(void **state);
void queue_is_dropped_without_a_way(void **state);
void copied_at_every_point_under_faults(void **state);
void no_way_to_repair(void **state);
void repair_is_needed(void **state);
void revert_is_needed(void **state);
void nothing_goes_on(void **state);

#endif
