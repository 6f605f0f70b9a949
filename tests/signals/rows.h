/* SPDX-License-Identifier: MIT */
/* What the files of this test tell each other: rows, and the meeting of a poke and a thread. */
#ifndef SHUNT_TESTS_SIGNALS_ROWS_H
#define SHUNT_TESTS_SIGNALS_ROWS_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A row runs in a process of its own, and ends it with one of these. */
enum {
	RIGHT,
	WRONG,   /* not as the kernel and the C library have it */
	MISSED,  /* what was to be provoked did not come about */
	ABSENT,  /* the system lacks what the row is about */
	REFUSED, /* the update, because a thread blocks the signal of the core sync */
};

struct row {
	const char *name;
	void (*run)(void); /* pokes: on a thread; programs: on the only one */
	bool main_thread;  /* pokes: run it before the poke instead; a callback calls meet() */
	bool alone;        /* pokes: it does all by itself */
	bool survives;     /* pokes: without the library it is not killed, but wrong */
	bool dies;         /* pokes: killed with the library, too: as the manual says */
	bool blocks_all;   /* pokes: core sync by a signal that can be blocked is refused */
	bool lets_in;      /* but not all the time: a sync by signals may get through */
	bool blocks_ever;  /* pokes: ... by one that cannot, too: the C library's own thread */
	bool naive_too;    /* programs: right with the naive library */
	bool not_tsan;     /* ThreadSanitizer's runtime by itself does not let it come about */
	bool not_asan;     /* the same of AddressSanitizer's */
};

extern const struct row pokes[], programs[]; /* end with name NULL */

/* cxx.cc */
void by_cxx(void);

/* Go through the site while its int3 stands, whatever the mask is now. */
void meet(void);

/* The same, and call @first when the int3 stands. */
void meet_after(void (*first)(void));

/* Change the site; wait meanwhile until a thread has come to meet(). */
void poke(void);

/* Change the site with nobody waiting for it. */
void poke_alone(void);

#ifndef __cplusplus
/* Change it; wait meanwhile until a thread, which counts them, has called through it. */
void poke_beside(_Atomic unsigned long *calls);
#endif

/* Call through the site. */
void go_through(void);

/* The traps of the process up to now. */
unsigned long traps(void);

/* End the row. */
void end(int how) __attribute__((noreturn));

#ifdef __cplusplus
}
#endif

#define CHECK(good)                                                   \
	do {                                                          \
		if (!(good)) {                                        \
			diag("%s:%d: %s", __FILE__, __LINE__, #good); \
			end(WRONG);                                   \
		}                                                     \
	} while (0)

/* Until @condition, or 30 s are over: the row is missed. */
#define AWAIT(condition)                         \
	do {                                     \
		time_t limit_ = time(NULL) + 30; \
		while (!(condition)) {           \
			if (time(NULL) > limit_) \
				end(MISSED);     \
			(void)sched_yield();     \
		}                                \
	} while (0)

#endif
