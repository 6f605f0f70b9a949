/* SPDX-License-Identifier: MIT */
/*
 * What the files of the test of faults share.
 *
 *	test_fault.c   the tests
 *	fault_sites.c  the sites, and a thread that runs through them without a pause
 *	fault_port.c   around the port's functions (ld --wrap): makes them fail
 */
#ifndef TESTS_LIVE_FAULT_H
#define TESTS_LIVE_FAULT_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <shunt/inspect.h>
#include <shunt/port.h>
#include <shunt/static_call.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* ---------------------------------------------------------------- fault_sites.c */

#define SITES 8

long old_function(long x); /* 2 x */
long new_function(long x); /* 2 x + 1 */
DECLARE_STATIC_CALL(faulty, old_function);

/* One round through all sites; false if a call was of neither function. */
bool round_trip(long x, unsigned *new_results);

struct place {
	uint8_t *addr;
	size_t len;
	uint8_t before[6];
};

extern struct place places[2 * SITES];
extern size_t nr_places, nr_tails;

int add_place(const struct shunt_site_info *info, void *arg); /* for shunt_for_each_site() */
void remember_text(void);
bool is_text_as_before(void);
size_t count_int3(void);

/* The thread. */
extern struct hammer {
	pthread_t thread;
	_Atomic bool stop;
	_Atomic unsigned long rounds, wrong;
	_Atomic unsigned long new_results; /* of the last round: 0 to SITES */
} hammer;

void *run_through_the_sites(void *arg);

/* Until it has begun and finished a round since now. */
void wait_for_a_round(void);

/* ----------------------------------------------------------------- fault_port.c */

enum what_fails {
	A_WRITE,       /* in a vector: what comes before it is done */
	A_VECTOR,      /* nothing of it is done */
	A_DONE_VECTOR, /* all of it is done, and then the error */
	A_SYNC,        /* not done */
	A_DONE_SYNC,   /* done, and then the error */
	NR_WHAT,
};

extern struct fault {
	bool armed, onwards;
	enum what_fails what;
	size_t at;
	int error;
	size_t seen[3];   /* writes, vectors, syncs */
	const char *step; /* at which it was; NULL: none yet */
	unsigned long injected;
} fault;

/* For the negative controls. */
extern struct control {
	bool no_way_back; /* behind a fault, nothing is written any more */
	bool no_trap_path;
} control;

/* The @at-th of that kind fails with @error from now on; @onwards: and all behind it. */
void arm(enum what_fails what, size_t at, int error, bool onwards);
void disarm(void);

/* What is wrapped. */
int __real_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __real_shunt_port_core_sync(void);

#endif
